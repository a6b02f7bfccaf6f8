"""The kernels: flash attention (Dao et al., 2022) between a tile of tokens and the box of tokens that it reaches.

A program has one tile and walks over its box in blocks. No logit is ever written to memory:

    forward              a tile of queries over its keys     -> output, logarithm of the softmax's sum
    query_gradient       a tile of queries over its keys     -> gradient of the queries, sum of output * gradient
    key_value_gradient   a tile of keys over its queries     -> gradients of the keys and the values

Grids have three axes here; fewer are filled up in front with axes of length 1. With dilation a tile lies inside one
dilation group. Places are counted in members of the group: `token = group + dilation * member`. Memory is addressed by
strides, so that a slice of a packed projection is read where it lies.

Tuples are per axis, such as (time, height, width). `axes` has `(length, window, dilation, stride)` for each of them;
`strides` of a tensor are in numbers, as PyTorch's, for batch, three axes and heads. Importing this needs Triton.
"""

# No `from __future__ import annotations`: Triton reads the annotation `tl.constexpr`, a constant at compile time.

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)  # exp(x) is exp2(x * LOG2E), and GPUs have an instruction for exp2


@triton.jit
def _members(length, axis, group):
    """Return how many of `length` tokens belong to a dilation group."""
    return (length - group + axis[2] - 1) // axis[2]


@triton.jit
def _bounds(member, members, axis, CAUSAL: tl.constexpr):
    """Return the first key of a query and one past the last along an axis; the same as `AxisRule.bounds`."""
    window = tl.minimum(axis[1], members)
    stride = tl.maximum(tl.minimum(axis[3], window), 1)
    if CAUSAL:
        leader = tl.minimum(member // stride * stride + stride - 1, members - 1)
        first = tl.maximum(leader - (window - 1), 0)
        past = member + 1
    else:
        leader = tl.minimum(member // stride * stride + stride // 2, members - 1)
        first = tl.minimum(tl.maximum(leader - window // 2, 0), members - window)
        past = first + window
    return first, past


@triton.jit
def _keys_along(start, members, axis, CAUSAL: tl.constexpr, TILE: tl.constexpr):
    """Return the first and past key that a tile of queries reaches along an axis, where bounds never decrease."""
    first, _ = _bounds(start, members, axis, CAUSAL)
    _, past = _bounds(tl.minimum(start + TILE, members) - 1, members, axis, CAUSAL)
    return first, tl.where(start < members, past, first)  # a tile beyond the end of a short group reaches nothing


@triton.jit
def _queries_along(start, members, axis, CAUSAL: tl.constexpr, TILE: tl.constexpr):
    """Return a range of queries along an axis that includes all which reach a tile of keys."""
    stop = tl.minimum(start + TILE, members)
    window = tl.minimum(axis[1], members)
    if CAUSAL:  # no query lies before its keys, nor after its leader
        first, past = start, stop + window - 1
    else:
        # A window starts `window // 2` before its leader, which is at most half a stride away from the query. At the
        # borders windows are shifted: those that reach the first or last keys are those of all queries up to there.
        reach = tl.minimum(axis[3], window) // 2
        first = tl.where(start < window, 0, start - window + window // 2 + 1 - reach)
        past = tl.where(stop > members - window, members, stop + window // 2 + reach)
    first = tl.maximum(first, 0)
    return first, tl.where(start < members, tl.minimum(past, members), first)


@triton.jit
def _box(start, members, axes, CAUSAL: tl.constexpr, TILE: tl.constexpr, ALONG: tl.constexpr):
    """Return the first token, the size and the number of tokens of the box that a tile reaches.

    `ALONG` tells the range along an axis: `_keys_along` for a tile of queries, `_queries_along` for one of keys.
    """
    low_t, past_t = ALONG(start[0], members[0], axes[0], CAUSAL[0], TILE[0])
    low_y, past_y = ALONG(start[1], members[1], axes[1], CAUSAL[1], TILE[1])
    low_x, past_x = ALONG(start[2], members[2], axes[2], CAUSAL[2], TILE[2])
    size = (past_t - low_t, past_y - low_y, past_x - low_x)
    return (low_t, low_y, low_x), size, size[0] * size[1] * size[2]


@triton.jit
def _sees(query, key, members, axes, CAUSAL: tl.constexpr, DIM: tl.constexpr):
    """Return which queries see which keys; queries are `[n, 1]` and keys `[1, m]`, or the other way around."""
    first, past = _bounds(query[2], members[2], axes[2], CAUSAL[2])
    seen = (key[2] >= first) & (key[2] < past)
    if DIM > 1:
        first, past = _bounds(query[1], members[1], axes[1], CAUSAL[1])
        seen &= (key[1] >= first) & (key[1] < past)
    if DIM > 2:
        first, past = _bounds(query[0], members[0], axes[0], CAUSAL[0])
        seen &= (key[0] >= first) & (key[0] < past)
    return seen


@triton.jit
def _num_tiles(axis, TILE: tl.constexpr):
    """Return the tiles of a dilation group along an axis; short groups may have an empty one."""
    return tl.cdiv(tl.cdiv(axis[0], axis[2]), TILE)


@triton.jit
def _program(heads, tiles):
    """Return the program's tile, sample and head, and the last two as one number.

    One axis has room for 2^31 programs; the others end at 65,535, and there may be more tiles, or heads of samples.
    """
    row = tl.program_id(0) // tiles
    return tl.program_id(0) % tiles, row // heads, row % heads, row


@triton.jit
def _locate(tile, axes, lengths, sample, HAS_LENGTHS: tl.constexpr, TILE: tl.constexpr):
    """Return where a tile is: its dilation groups, their numbers of members, and its first members."""
    tiles_y, tiles_x = _num_tiles(axes[1], TILE[1]), _num_tiles(axes[2], TILE[2])
    num_y, num_x = axes[1][2] * tiles_y, axes[2][2] * tiles_x
    t, y, x = tile // (num_y * num_x), tile // num_x % num_y, tile % num_x
    tiles_t = _num_tiles(axes[0], TILE[0])
    group = (t // tiles_t, y // tiles_y, x // tiles_x)
    start = (t % tiles_t * TILE[0], y % tiles_y * TILE[1], x % tiles_x * TILE[2])
    row = axes[2][0]
    if HAS_LENGTHS:  # rows of several lengths in one batch; there is one axis then
        row = tl.load(lengths + sample).to(tl.int32)
    members = (
        _members(axes[0][0], axes[0], group[0]),
        _members(axes[1][0], axes[1], group[1]),
        _members(row, axes[2], group[2]),
    )
    return group, members, start


@triton.jit
def _places(at, low, size):
    """Return the members with these numbers in a box, which starts at `low` and is counted row by row."""
    return low[0] + at // (size[2] * size[1]), low[1] + at // size[2] % size[1], low[2] + at % size[2]


@triton.jit
def _tokens(member, group, axes):
    return (
        group[0] + axes[0][2] * member[0],
        group[1] + axes[1][2] * member[1],
        group[2] + axes[2][2] * member[2],
    )


@triton.jit
def _are_inside(place, sizes):
    return (place[0] < sizes[0]) & (place[1] < sizes[1]) & (place[2] < sizes[2])


@triton.jit
def _columns(x):
    return x[0][:, None], x[1][:, None], x[2][:, None]


@triton.jit
def _rows(x):
    return x[0][None, :], x[1][None, :], x[2][None, :]


@triton.jit
def _offsets(token, strides):
    """Return where tokens start in a sample; in 64 bits, because a clip may have more than 2^31 numbers."""
    t, y, x = token[0].to(tl.int64), token[1].to(tl.int64), token[2].to(tl.int64)
    return t * strides[1] + y * strides[2] + x * strides[3]


@triton.jit
def _load(base, strides, sample, head, token, are_there, channels, CHANNELS: tl.constexpr):
    """Load the channels of tokens, `[tokens, channels]`, with zeros for what is not there."""
    rows = base + sample.to(tl.int64) * strides[0] + head.to(tl.int64) * strides[4] + _offsets(token, strides)
    mask = are_there[:, None] & (channels[None, :] < CHANNELS)
    return tl.load(rows[:, None] + channels[None, :], mask=mask, other=0.0)


@triton.jit
def _store(base, strides, sample, head, token, are_there, channels, CHANNELS: tl.constexpr, values):
    rows = base + sample.to(tl.int64) * strides[0] + head.to(tl.int64) * strides[4] + _offsets(token, strides)
    mask = are_there[:, None] & (channels[None, :] < CHANNELS)
    tl.store(rows[:, None] + channels[None, :], values.to(base.dtype.element_ty), mask=mask)


@triton.jit
def _numbers(token, axes, sample_and_head):
    """Return where tokens are in `[batch * heads, tokens]`."""
    flat = (token[0].to(tl.int64) * axes[1][0] + token[1]) * axes[2][0] + token[2]
    return flat + sample_and_head.to(tl.int64) * axes[0][0] * axes[1][0] * axes[2][0]


@triton.jit
def _are_valid(key_mask, strides, sample, token, are_there):
    """Return which keys the mask lets through."""
    places = key_mask + sample.to(tl.int64) * strides[0] + _offsets(token, strides)
    return are_there & (tl.load(places, mask=are_there, other=0) != 0)


@triton.jit
def forward(
    query, key, value, out, sums, key_mask, lengths,
    query_strides, key_strides, value_strides, out_strides, mask_strides, axes, heads, tiles, scale,
    CAUSAL: tl.constexpr, DIM: tl.constexpr, HAS_MASK: tl.constexpr, HAS_LENGTHS: tl.constexpr,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, WIDTH: tl.constexpr, VALUE_WIDTH: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the output of a tile of queries, and the logarithm (base 2) of the sum of each softmax.

    There are `batch * heads * tiles` programs. `sums` is float32 `[batch * heads, tokens]`. `key_mask` is uint8,
    `lengths` int64. `WIDTH` and `VALUE_WIDTH` are the numbers of channels, filled up to powers of two.
    """
    tile, sample, head, row = _program(heads, tiles)
    group, members, start = _locate(tile, axes, lengths, sample, HAS_LENGTHS, TILE)
    q_member = _places(tl.arange(0, TILE[0] * TILE[1] * TILE[2]), start, TILE)
    q_token, is_query = _tokens(q_member, group, axes), _are_inside(q_member, members)
    channels, value_channels = tl.arange(0, WIDTH), tl.arange(0, VALUE_WIDTH)
    q = _load(query, query_strides, sample, head, q_token, is_query, channels, CHANNELS)

    low, size, num_keys = _box(start, members, axes, CAUSAL, TILE, _keys_along)
    largest = tl.full([TILE[0] * TILE[1] * TILE[2]], float("-inf"), tl.float32)
    total = tl.zeros([TILE[0] * TILE[1] * TILE[2]], tl.float32)
    result = tl.zeros([TILE[0] * TILE[1] * TILE[2], VALUE_WIDTH], tl.float32)
    for begin in range(0, num_keys, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        k_member, is_key = _places(at, low, size), at < num_keys
        k_token = _tokens(k_member, group, axes)
        if HAS_MASK:
            is_key = _are_valid(key_mask, mask_strides, sample, k_token, is_key)
        k = _load(key, key_strides, sample, head, k_token, is_key, channels, CHANNELS)
        v = _load(value, value_strides, sample, head, k_token, is_key, value_channels, VALUE_CHANNELS)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (scale * LOG2E)
        seen = is_key[None, :] & _sees(_columns(q_member), _rows(k_member), members, axes, CAUSAL, DIM)
        logits = tl.where(seen, logits, float("-inf"))
        new_largest = tl.maximum(largest, tl.max(logits, 1))
        # A query that has seen no key yet has -inf, and -inf - -inf is NaN.
        finite = tl.where(new_largest == float("-inf"), 0.0, new_largest)
        weights = tl.exp2(logits - finite[:, None])
        shrink = tl.exp2(largest - finite)
        total = total * shrink + tl.sum(weights, 1)
        result = result * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        largest = new_largest

    # A query without any valid key gives zeros, and so does padding: a row that is shorter than the longest one. An
    # infinite sum makes their weights zero on the way back.
    has_keys = is_query & (total > 0)
    total = tl.where(has_keys, total, 1.0)
    log_sum = tl.where(has_keys, largest + tl.log2(total), float("inf"))
    result = tl.where(has_keys[:, None], result / total[:, None], 0.0)
    is_token = _are_inside(q_token, (axes[0][0], axes[1][0], axes[2][0]))
    _store(out, out_strides, sample, head, q_token, is_token, value_channels, VALUE_CHANNELS, result)
    tl.store(sums + _numbers(q_token, axes, row), log_sum, mask=is_token)


@triton.jit
def query_gradient(
    query, key, value, out, grad, sums, products, query_grad, key_mask, lengths,
    query_strides, key_strides, value_strides, out_strides, grad_strides, query_grad_strides, mask_strides, axes, heads,
    tiles, scale,
    CAUSAL: tl.constexpr, DIM: tl.constexpr, HAS_MASK: tl.constexpr, HAS_LENGTHS: tl.constexpr,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, WIDTH: tl.constexpr, VALUE_WIDTH: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the gradient of a tile of queries, and `products`, the sum over channels of `out * grad`.

    The arguments are those of `forward`; `sums` is what it has written. `products` is float32 as `sums` is.
    """
    tile, sample, head, row = _program(heads, tiles)
    group, members, start = _locate(tile, axes, lengths, sample, HAS_LENGTHS, TILE)
    q_member = _places(tl.arange(0, TILE[0] * TILE[1] * TILE[2]), start, TILE)
    q_token, is_query = _tokens(q_member, group, axes), _are_inside(q_member, members)
    channels, value_channels = tl.arange(0, WIDTH), tl.arange(0, VALUE_WIDTH)
    q = _load(query, query_strides, sample, head, q_token, is_query, channels, CHANNELS)
    o = _load(out, out_strides, sample, head, q_token, is_query, value_channels, VALUE_CHANNELS)
    g = _load(grad, grad_strides, sample, head, q_token, is_query, value_channels, VALUE_CHANNELS)
    number = _numbers(q_token, axes, row)
    log_sum = tl.load(sums + number, mask=is_query, other=float("inf"))
    product = tl.sum(o.to(tl.float32) * g.to(tl.float32), 1)
    tl.store(products + number, product, mask=is_query)

    low, size, num_keys = _box(start, members, axes, CAUSAL, TILE, _keys_along)
    result = tl.zeros([TILE[0] * TILE[1] * TILE[2], WIDTH], tl.float32)
    for begin in range(0, num_keys, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        k_member, is_key = _places(at, low, size), at < num_keys
        k_token = _tokens(k_member, group, axes)
        if HAS_MASK:
            is_key = _are_valid(key_mask, mask_strides, sample, k_token, is_key)
        k = _load(key, key_strides, sample, head, k_token, is_key, channels, CHANNELS)
        v = _load(value, value_strides, sample, head, k_token, is_key, value_channels, VALUE_CHANNELS)
        logits = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (scale * LOG2E)
        seen = is_key[None, :] & _sees(_columns(q_member), _rows(k_member), members, axes, CAUSAL, DIM)
        weights = tl.exp2(tl.where(seen, logits - log_sum[:, None], float("-inf")))
        weight_grad = tl.dot(g, tl.trans(v), input_precision=PRECISION)
        logit_grad = weights * (weight_grad - product[:, None])
        result += tl.dot(logit_grad.to(k.dtype), k, input_precision=PRECISION)
    is_token = _are_inside(q_token, (axes[0][0], axes[1][0], axes[2][0]))
    _store(query_grad, query_grad_strides, sample, head, q_token, is_token, channels, CHANNELS, result * scale)


@triton.jit
def key_value_gradient(
    query, key, value, grad, sums, products, key_grad, value_grad, key_mask, lengths,
    query_strides, key_strides, value_strides, grad_strides, key_grad_strides, value_grad_strides, mask_strides, axes,
    heads, tiles, scale,
    CAUSAL: tl.constexpr, DIM: tl.constexpr, HAS_MASK: tl.constexpr, HAS_LENGTHS: tl.constexpr,
    CHANNELS: tl.constexpr, VALUE_CHANNELS: tl.constexpr, WIDTH: tl.constexpr, VALUE_WIDTH: tl.constexpr,
    TILE: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of a tile of keys and values; the arguments are those of `query_gradient`, run first."""
    tile, sample, head, row = _program(heads, tiles)
    group, members, start = _locate(tile, axes, lengths, sample, HAS_LENGTHS, TILE)
    k_member = _places(tl.arange(0, TILE[0] * TILE[1] * TILE[2]), start, TILE)
    k_token, is_key = _tokens(k_member, group, axes), _are_inside(k_member, members)
    is_token = _are_inside(k_token, (axes[0][0], axes[1][0], axes[2][0]))
    if HAS_MASK:
        is_key = _are_valid(key_mask, mask_strides, sample, k_token, is_key)
    channels, value_channels = tl.arange(0, WIDTH), tl.arange(0, VALUE_WIDTH)
    k = _load(key, key_strides, sample, head, k_token, is_key, channels, CHANNELS)
    v = _load(value, value_strides, sample, head, k_token, is_key, value_channels, VALUE_CHANNELS)

    low, size, num_queries = _box(start, members, axes, CAUSAL, TILE, _queries_along)
    key_result = tl.zeros([TILE[0] * TILE[1] * TILE[2], WIDTH], tl.float32)
    value_result = tl.zeros([TILE[0] * TILE[1] * TILE[2], VALUE_WIDTH], tl.float32)
    for begin in range(0, num_queries, BLOCK):
        at = begin + tl.arange(0, BLOCK)
        q_member, is_query = _places(at, low, size), at < num_queries
        q_token = _tokens(q_member, group, axes)
        q = _load(query, query_strides, sample, head, q_token, is_query, channels, CHANNELS)
        g = _load(grad, grad_strides, sample, head, q_token, is_query, value_channels, VALUE_CHANNELS)
        number = _numbers(q_token, axes, row)
        log_sum = tl.load(sums + number, mask=is_query, other=float("inf"))
        product = tl.load(products + number, mask=is_query, other=0.0)
        # Everything is transposed here, `[keys, queries]`, so that both results are products without a transposition.
        logits = tl.dot(k, tl.trans(q), input_precision=PRECISION) * (scale * LOG2E)
        seen = is_key[:, None] & is_query[None, :]
        seen &= _sees(_rows(q_member), _columns(k_member), members, axes, CAUSAL, DIM)
        weights = tl.exp2(tl.where(seen, logits - log_sum[None, :], float("-inf")))
        value_result += tl.dot(weights.to(g.dtype), g, input_precision=PRECISION)
        weight_grad = tl.dot(v, tl.trans(g), input_precision=PRECISION)
        logit_grad = weights * (weight_grad - product[None, :])
        key_result += tl.dot(logit_grad.to(q.dtype), q, input_precision=PRECISION)
    _store(key_grad, key_grad_strides, sample, head, k_token, is_token, channels, CHANNELS, key_result * scale)
    _store(
        value_grad, value_grad_strides, sample, head, k_token, is_token, value_channels, VALUE_CHANNELS, value_result
    )  # fmt: skip
