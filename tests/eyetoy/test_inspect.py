"""Maps of attention, receptive fields and components, against dense computations that share no code with them."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eyetoy import ConvParams, Encoder, FeaturePyramid, GlobalAttentionParams, HeadParams
from eyetoy.encoder import ENCODERS
from eyetoy.inspect import (
    TokenPlaces,
    context_maps,
    effective_receptive_field,
    feature_components,
    feature_places,
    find_encoder,
    group_places,
    neighborhood_weights,
    stage_features,
)

EXACT = {"rtol": 1e-9, "atol": 1e-11}
GRIDS = {1: (23,), 2: (11, 14), 3: (5, 9, 10)}
CLIPS = (23, 9, 1, 16)
GROUPS = {
    "plain": {"window": 3},
    "even": {"window": 4, "stride": 2},
    "dilated": {"window": 2, "dilation": 2},
    "causal": {"window": 3, "is_causal": True},
    "wider than the grid": {"window": 40, "stride": 2},
}


def make_encoder(encoders: Any, dimension: int, **changes: Any) -> Encoder:
    """Return a small encoder in float64 whose attention is far from uniform."""
    torch.manual_seed(0)
    encoder = ENCODERS[dimension](encoders.encoder_params(dimension, **changes)).double().eval()
    for name, parameter in encoder.named_parameters():
        parameter.data += torch.randn_like(parameter) * (1.0 if "qkv_proj" in name else 0.1)
    return encoder


def with_group(encoders: Any, dimension: int, group: HeadParams) -> Encoder:
    """Return an encoder whose two blocks have this group and a plain one."""
    heads = (encoders.head_group(window=3), group)
    blocks = (encoders.block(heads=heads), encoders.block(heads=heads, out_channels=16, scale_factor=0.5))
    return make_encoder(encoders, dimension, transformer=blocks)


def attention_input(encoder: Encoder, x: Tensor, block: int) -> Tensor:
    """Return what the head groups of a block are given."""
    x = encoder.positional_embedding(encoder.initial_proj(x.movedim(1, -1)))
    for one in list(encoder.transformer)[:block]:
        x = one(x)
    chosen = encoder.transformer[block]
    x = chosen.rescale(x)
    return chosen.norm1(x if chosen.local is None else x + chosen.local(x))


def dense_weights(oracle: Any, group: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return all rows of a group, `[batch, heads, queries, keys]`, and its values `[batch, heads, keys, head_dim]`."""
    conv = group.tokenizer
    before = [(k - s + 1) // 2 for k, s in zip(conv.kernel_size, conv.stride, strict=True)]
    tokens = F.gelu(oracle.strided_conv(x, conv.weight, conv.bias, conv.stride, before))
    axes = [
        oracle.Axis(window=w, dilation=d, is_causal=group.is_causal)
        for w, d in zip(group.window, group.dilation, strict=True)
    ]
    mask = oracle.neighbor_mask(tokens.shape[1:-1], axes)
    flat = tokens.flatten(1, -2) @ group.qkv_proj.weight.T + group.qkv_proj.bias
    query, key, value = (
        part.view(*part.shape[:2], group.num_heads, -1).transpose(1, 2) for part in flat.chunk(3, dim=-1)
    )
    logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return logits.masked_fill(~mask, -math.inf).softmax(-1), value


def centers(convs: list[tuple[int, int]], count: int) -> list[float]:
    """Return the middles of what tokens along an axis see through convolutions `(kernel, stride)`, borders aside."""
    found = []
    for token in range(count):
        low = high = token
        for kernel, stride in reversed(convs):
            before = (kernel - stride + 1) // 2
            low, high = low * stride - before, high * stride - before + kernel - 1
        found.append((low + high) / 2)
    return found


def nearest(places: list[float], at: int) -> set[int]:
    """Return the tokens that are nearest to a place; two where it is between them."""
    distances = [abs(place - at) for place in places]
    return {token for token, distance in enumerate(distances) if distance < min(distances) + 1e-9}


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("where", ["corner", "middle", "end"])
@torch.no_grad()
def test_a_neighborhood_is_a_row_of_dense_attention(
    dimension: int, kind: str, where: str, oracle: Any, encoders: Any
) -> None:
    encoder = with_group(encoders, dimension, encoders.head_group(**GROUPS[kind]))
    grid = GRIDS[dimension]
    x = torch.randn(2, 3, *grid, dtype=torch.float64)
    point = {"corner": [0] * dimension, "middle": [n // 2 for n in grid], "end": [n - 1 for n in grid]}[where]
    found = neighborhood_weights(encoder, x, point)
    assert [(one.block, one.group) for one in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for one in found:
        group = encoder.transformer[one.block].attention.groups[one.group]
        inputs = attention_input(encoder, x, one.block)
        rows, value = dense_weights(oracle, group, inputs)
        assert one.queries[0] == one.queries[1]
        number = int(np.ravel_multi_index(one.queries[0], one.seen.shape[1:]))
        torch.testing.assert_close(one.weights.flatten(2), rows[:, :, number], **EXACT)
        assert torch.equal(one.seen.flatten(1), (rows[:, 0, number] > 0))
        fused = group(inputs).flatten(1, -2)[:, number].unflatten(-1, (group.num_heads, -1))
        mixed = (one.weights.flatten(2)[:, :, None] @ value).squeeze(2)
        torch.testing.assert_close(mixed, fused, rtol=1e-7, atol=1e-9)


@given(data=st.data())
@settings(max_examples=20)
def test_the_query_is_the_token_nearest_to_the_point(data: st.DataObject, dimension: int, encoders: Any) -> None:
    kernels = [data.draw(st.sampled_from([(1, 1), (2, 2), (3, 2), (4, 4), (5, 3)]), label="conv") for _ in range(3)]
    stem, tokenizer = [ConvParams(kernel_size=k, stride=s) for k, s in kernels[:2]], kernels[2]
    scale = data.draw(st.sampled_from([1, 2, 4]), label="rescale")
    group = encoders.head_group(window=3, stride=tokenizer[1])
    block = encoders.block(heads=(group,), scale_factor=1 / scale)
    encoder = make_encoder(encoders, dimension, initial_proj=tuple(stem), transformer=(block,))
    grid = tuple(data.draw(st.integers(1, 24 // dimension), label="size") for _ in range(dimension))
    point = [data.draw(st.integers(0, size - 1), label="point") for size in grid]
    (one,) = neighborhood_weights(encoder, torch.zeros(1, 3, *grid, dtype=torch.float64), point)
    path = [*kernels[:2], *([(2 * scale - 1, scale)] if scale > 1 else []), (tokenizer[1], tokenizer[1])]
    over = one.over_input(grid)
    for axis, (at, token) in enumerate(zip(point, one.queries[0], strict=True)):
        count = one.seen.shape[1 + axis]
        assert token in nearest(centers(path, count), at)
        assert one.places.first[axis] + one.places.step[axis] * (count - 1) == pytest.approx(centers(path, count)[-1])
    torch.testing.assert_close(over[(..., *point)], one.weights[(..., *one.queries[0])])
    features = [*kernels[:2], *([(2 * scale - 1, scale)] if scale > 1 else [])]
    assert feature_places(encoder).first == pytest.approx([centers(features, 1)[0]] * dimension)


def test_the_nearest_token_is_not_that_of_the_patch_where_kernels_reach_over_it(encoders: Any) -> None:
    """Two convolutions of kernel 3 and stride 2: tokens are centered at 0, 4, 8 and so on."""
    conv = ConvParams(kernel_size=3, stride=2)
    block = encoders.block(heads=(encoders.head_group(),))
    encoder = make_encoder(encoders, 1, initial_proj=(conv, conv), transformer=(block,))
    x = torch.zeros(1, 3, 16, dtype=torch.float64)
    tokens = [neighborhood_weights(encoder, x, [at])[0].queries[0][0] for at in (0, 1, 3, 4, 5, 7, 9, 11, 15)]
    assert tokens == [0, 0, 1, 1, 1, 2, 2, 3, 3]


def test_values_are_spread_to_the_nearest_token_or_interpolated() -> None:
    places = TokenPlaces(step=(4, 2), first=(1.5, 0.0))
    maps = torch.tensor([[0.0, 1.0, 2.0], [4.0, 5.0, 6.0]])
    near = places.spread(maps, (8, 6))
    assert near[:, 0].tolist() == [0, 0, 0, 0, 4, 4, 4, 4]
    assert near[0, ::2].tolist() == [0, 1, 2]
    line = places.spread(maps[None], (8, 6), linear=True)[0]
    rows, columns = (np.interp(range(n), at, range(len(at))) for n, at in ((8, (1.5, 5.5)), (6, (0, 2, 4))))
    torch.testing.assert_close(line, torch.from_numpy(4 * rows[:, None] + columns[None]).float())


@pytest.mark.parametrize("context_init", ["learned", "mean"])
@torch.no_grad()
def test_a_context_map_is_a_row_of_dense_attention(
    dimension: int, context_init: str, oracle: Any, encoders: Any
) -> None:
    stack = GlobalAttentionParams(depth=2, num_heads=2, num_register_tokens=3, context_init=context_init)
    encoder = make_encoder(encoders, dimension, global_attention=stack)
    x = torch.randn(2, 3, *GRIDS[dimension], dtype=torch.float64)
    given: list[Tensor] = []
    for layer in encoder.global_attention.layers:
        layer.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    features = encoder(x).features
    maps = context_maps(encoder, x, average_heads=False)
    assert maps.shape == (2, 2, 2, *features.shape[2:])
    torch.testing.assert_close(context_maps(encoder, x), maps.mean(2))
    for index, (layer, tokens) in enumerate(zip(encoder.global_attention.layers, given[:2], strict=True)):
        query, key, _ = layer.qkv_proj(layer.norm1(tokens)).chunk(3, dim=-1)
        mask = oracle.global_mask(4, tokens.shape[1])
        for head, columns in enumerate((slice(0, 8), slice(8, 16))):
            logits = query[..., columns] @ key[..., columns].transpose(1, 2) / math.sqrt(8)
            row = logits.masked_fill(~mask, -math.inf).softmax(-1)[:, 0, 4:]
            torch.testing.assert_close(maps[:, index, head].flatten(1), row, **EXACT)


@torch.no_grad()
def test_padding_changes_no_map(encoders: Any) -> None:
    group = encoders.head_group(window=4, dilation=2, stride=2)
    encoder = with_group(encoders, 1, group)
    x, lengths = torch.randn(4, 3, 23, dtype=torch.float64), torch.tensor(CLIPS)
    maps = context_maps(encoder, x, lengths)
    found = neighborhood_weights(encoder, x, [0], lengths=lengths)
    for row, length in enumerate(CLIPS):
        alone = x[row : row + 1, :, :length]
        expected = context_maps(encoder, alone)
        torch.testing.assert_close(maps[row : row + 1, ..., : expected.shape[-1]], expected, **EXACT)
        assert not maps[row, ..., expected.shape[-1] :].any()
        for one, other in zip(found, neighborhood_weights(encoder, alone, [0]), strict=True):
            count = other.weights.shape[-1]
            torch.testing.assert_close(one.weights[row : row + 1, ..., :count], other.weights, **EXACT)
            assert not one.weights[row, ..., count:].any()
            assert not one.seen[row, count:].any()


@torch.no_grad()
def test_a_point_at_the_end_of_a_clip_asks_with_its_last_token(encoders: Any) -> None:
    encoder = with_group(encoders, 1, encoders.head_group(window=3, stride=4))
    x = torch.randn(2, 3, 40, dtype=torch.float64)
    for length in range(2, 20):
        found = neighborhood_weights(encoder, x, [length - 1], lengths=torch.tensor([40, length]))
        alone = neighborhood_weights(encoder, x[1:, :, :length], [length - 1])
        for one, other in zip(found, alone, strict=True):
            assert one.queries[1] == other.queries[0]
            torch.testing.assert_close(one.weights[1:, ..., : other.weights.shape[-1]], other.weights, **EXACT)


@pytest.mark.parametrize("stage", [None, 0, -1])
def test_a_receptive_field_is_the_norm_of_the_jacobian(dimension: int, stage: int | None, encoders: Any) -> None:
    encoder = make_encoder(encoders, dimension)
    grid = {1: (19,), 2: (7, 8), 3: (3, 5, 4)}[dimension]
    x = torch.randn(2, 3, *grid, dtype=torch.float64)
    point = [size - 2 for size in grid]
    places = feature_places(encoder, -1 if stage is None else stage)
    token = places.nearest(point, stage_features(encoder, x, stage).shape[2:])

    def feature(one: Tensor) -> Tensor:
        return stage_features(encoder, one[None], stage)[(0, slice(None), *token)]

    field = effective_receptive_field(encoder, x, point, stage=stage, num_probes=None)
    for row in range(2):
        jacobian = torch.autograd.functional.jacobian(feature, x[row])  # [channels, in_channels, *grid]
        torch.testing.assert_close(field[row], jacobian.square().sum((0, 1)).sqrt(), rtol=1e-8, atol=1e-10)
    probed = effective_receptive_field(encoder, x, point, stage=stage, num_probes=60)
    torch.testing.assert_close(probed, field, rtol=0.5, atol=0.05 * float(field.max()))
    assert all(parameter.grad is None for parameter in encoder.parameters())


def test_a_receptive_field_ends_where_windows_and_kernels_do(encoders: Any) -> None:
    block = encoders.block(heads=(encoders.head_group(window=3),))
    encoder = make_encoder(encoders, 1, initial_proj=(ConvParams(kernel_size=2, stride=2),), transformer=(block,))
    x = torch.randn(1, 3, 64, dtype=torch.float64)
    field = effective_receptive_field(encoder, x, [32], stage=0)[0]
    assert field.nonzero().flatten().tolist() == list(range(30, 36))  # three tokens of two samples
    with_stack = effective_receptive_field(encoder, x, [32])[0]
    assert (with_stack > 0).all()
    torch.testing.assert_close(effective_receptive_field(encoder, x, stage=0)[0], field)


@pytest.mark.parametrize("point", [5, 15])
@pytest.mark.parametrize("stage", [None, 0])
def test_a_receptive_field_of_a_clip_is_that_of_the_clip_alone(encoders: Any, point: int, stage: int | None) -> None:
    encoder = make_encoder(encoders, 1, initial_proj=(ConvParams(kernel_size=5, stride=4),))
    x, lengths = torch.randn(2, 3, 30, dtype=torch.float64), torch.tensor([30, 16])
    field = effective_receptive_field(encoder, x, [point], lengths=lengths, stage=stage)
    alone = effective_receptive_field(encoder, x[1:, :, :16], [point], stage=stage)
    assert alone.any()
    torch.testing.assert_close(field[1:, :16], alone, rtol=1e-8, atol=1e-10)
    assert not field[1, 16:].any()


@pytest.mark.parametrize("stage", [None, 0])
@torch.no_grad()
def test_components_are_those_of_a_singular_value_decomposition(
    dimension: int, stage: int | None, encoders: Any
) -> None:
    encoder = make_encoder(encoders, dimension)
    x = torch.randn(2, 3, *GRIDS[dimension], dtype=torch.float64)
    components = feature_components(encoder, x, stage=stage).movedim(1, -1).flatten(0, -2).numpy()
    features = stage_features(encoder, x, stage).movedim(1, -1).flatten(0, -2).numpy()
    centered = features - features.mean(0)
    u, scales, directions = np.linalg.svd(centered, full_matrices=False)
    signs = np.sign([row[np.abs(row).argmax()] for row in directions[:3]])
    np.testing.assert_allclose(components, u[:, :3] * scales[:3] * signs, atol=1e-8)


@torch.no_grad()
def test_components_leave_padding_out(encoders: Any) -> None:
    encoder = make_encoder(encoders, 1)
    x, lengths = torch.randn(2, 3, 40, dtype=torch.float64), torch.tensor([40, 17])
    other = x.clone()
    other[1, :, 17:] = 100
    for stage in (None, 0):
        components = feature_components(encoder, x, stage=stage, lengths=lengths)
        torch.testing.assert_close(feature_components(encoder, other, stage=stage, lengths=lengths), components)
        real = -(-17 // (4 if stage is None else 2))
        assert not components[1, :, real:].any()
        both = torch.cat([components[0], components[1, :, :real]], dim=1)
        torch.testing.assert_close(both.mean(1), torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("stage", "reduction"), [(None, 4), (0, 2), (1, 4)])
@torch.no_grad()
def test_features_of_a_stage_are_those_of_the_clip_alone_and_zeros(
    stage: int | None, reduction: int, encoders: Any
) -> None:
    encoder = make_encoder(encoders, 1)
    x, lengths = torch.randn(2, 3, 40, dtype=torch.float64), torch.tensor([40, 17])
    features, real = stage_features(encoder, x, stage, lengths), -(-17 // reduction)
    torch.testing.assert_close(features[1:, :, :real], stage_features(encoder, x[1:, :, :17], stage), **EXACT)
    assert not features[1, :, real:].any()


def test_maps_leave_no_hook_and_no_gradient(encoders: Any) -> None:
    encoder = make_encoder(encoders, 2)
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    assert not context_maps(encoder, x).requires_grad
    assert not any(one.weights.requires_grad for one in neighborhood_weights(encoder, x, [1, 1]))
    with pytest.raises(ValueError, match="every size at least 1"):
        context_maps(encoder, x[:, :, :0])
    assert not any(module._forward_hooks for module in encoder.modules())


def test_threads_see_their_own_maps(dimension: int, encoders: Any) -> None:
    """Every pass of the four threads waits for the others after the stem: all are under way at the same time."""
    encoder, grid = make_encoder(encoders, dimension), GRIDS[dimension]
    inputs = torch.randn(4, 2, 3, *grid, dtype=torch.float64)
    calls: list[Callable[[Tensor], list[Tensor]]] = [
        lambda x: list(encoder(x)),
        lambda x: [one.weights for one in neighborhood_weights(encoder, x, [n - 1 for n in grid])],
        lambda x: [context_maps(encoder, x)],
        lambda x: [effective_receptive_field(encoder, x, num_probes=1)],
    ]
    alone = [call(x) for call, x in zip(calls, inputs, strict=True)]
    together = threading.Barrier(len(calls), timeout=60)
    handle = encoder.initial_proj.register_forward_hook(lambda *_: [together.wait(), None][1])
    with ThreadPoolExecutor(len(calls)) as threads:
        for _ in range(5):
            running = [threads.submit(call, x) for call, x in zip(calls, inputs, strict=True)]
            torch.testing.assert_close([future.result() for future in running], alone, **EXACT)
    handle.remove()
    assert not encoder.grad_checkpointing


def test_a_receptive_field_leaves_the_settings_of_the_encoder_alone(encoders: Any) -> None:
    """While it runs, others may train this encoder."""
    encoder, seen = make_encoder(encoders, 2), []
    encoder.norm.register_forward_hook(lambda *_: seen.append(encoder.grad_checkpointing))
    effective_receptive_field(encoder, torch.randn(1, 3, 8, 8, dtype=torch.float64))
    assert seen == [False]


COMPILED: dict[str, Callable[[Encoder], Any]] = {
    "encoder in place": lambda encoder: encoder.compile(backend="eager"),
    "blocks in place": lambda encoder: [block.compile(backend="eager") for block in encoder.transformer],
    "wrapped stem": lambda encoder: wrap(encoder.initial_proj.convs),
    "wrapped blocks": lambda encoder: wrap(encoder.transformer),
    "wrapped groups": lambda encoder: [wrap(block.attention.groups) for block in encoder.transformer],
    "wrapped layers": lambda encoder: wrap(encoder.global_attention.layers),
}


def wrap(modules: Any) -> None:
    for place, module in enumerate(modules):
        modules[place] = torch.compile(module, backend="eager")


@pytest.mark.parametrize("part", COMPILED)
@torch.no_grad()
def test_a_compiled_encoder_has_the_same_maps(part: str, encoders: Any) -> None:
    """Which part is compiled has nothing to do with the dimension, so each part is in one of its own."""
    torch._dynamo.reset()
    dimension = 1 + [*COMPILED].index(part) % 3
    plain, x = make_encoder(encoders, dimension), torch.randn(1, 3, *GRIDS[dimension], dtype=torch.float64)
    encoder, point = copy.deepcopy(plain), [n // 2 for n in GRIDS[dimension]]
    COMPILED[part](encoder)
    encoder(x)
    torch.testing.assert_close(context_maps(encoder, x), context_maps(plain, x), **EXACT)
    found, expected = (neighborhood_weights(model, x, point) for model in (encoder, plain))
    assert [(one.places, one.queries) for one in found] == [(one.places, one.queries) for one in expected]
    torch.testing.assert_close([one.weights for one in found], [one.weights for one in expected], **EXACT)
    field = effective_receptive_field(encoder, x, point, num_probes=1)
    torch.testing.assert_close(field, effective_receptive_field(plain, x, point, num_probes=1), **EXACT)


def test_blocks_are_chosen_from_either_end(encoders: Any) -> None:
    encoder = make_encoder(encoders, 2)
    x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    every = neighborhood_weights(encoder, x, [1, 1])
    last = neighborhood_weights(encoder, x, [1, 1], blocks=[-1])
    assert [one.block for one in last] == [1, 1]
    torch.testing.assert_close(last[1].weights, every[3].weights)
    assert last[0].places == group_places(encoder, 1, 0)


def test_a_block_without_attention_has_no_neighborhoods(encoders: Any) -> None:
    blocks = (encoders.block(heads=(), local_kernel=3), encoders.block())
    encoder = make_encoder(encoders, 2, transformer=blocks)
    x = torch.randn(1, 3, 12, 12, dtype=torch.float64)
    found = neighborhood_weights(encoder, x, (5, 5))
    assert {one.block for one in found} == {1}


def test_the_encoder_of_a_model_is_found(encoders: Any) -> None:
    pyramid = FeaturePyramid(encoders.encoder_params(2))
    assert find_encoder(nn.Sequential(pyramid)) is pyramid.encoder
    assert find_encoder(pyramid.encoder) is pyramid.encoder
    for model, count in ((nn.Linear(2, 2), 0), (nn.ModuleList([pyramid, FeaturePyramid(pyramid.encoder.params)]), 2)):
        with pytest.raises(
            ValueError, match=rf"one of EyeToy's encoders is needed; {type(model).__name__} has {count}"
        ):
            find_encoder(model)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e, x: neighborhood_weights(e, x, [1]), r"for each axis of the input, \(8, 9\); got \(1,\)"),
        (lambda e, x: neighborhood_weights(e, x, [1, 9]), r"got \(1, 9\)"),
        (lambda e, x: effective_receptive_field(e, x, [-1, 0]), r"got \(-1, 0\)"),
        (lambda e, x: neighborhood_weights(e, x, [1, 1], blocks=[0, 2]), r"blocks must be from -2 to 1; got \[0, 2\]"),
        (lambda e, x: stage_features(e, x, 2), "stage must be from -2 to 1; got 2"),
        (lambda e, x: effective_receptive_field(e, x, num_probes=0), "num_probes must be at least 1, or None.*got 0"),
        (lambda e, x: feature_components(e, x, num_components=17), "channels, 16; got 17"),
    ],
)
def test_what_cannot_be_shown_is_refused(call: Any, message: str, encoders: Any) -> None:
    encoder = make_encoder(encoders, 2)
    with pytest.raises(ValueError, match=message):
        call(encoder, torch.randn(1, 3, 8, 9, dtype=torch.float64))


def test_a_point_after_the_end_of_a_clip_is_refused(encoders: Any) -> None:
    encoder = make_encoder(encoders, 1)
    x, lengths = torch.randn(2, 3, 20, dtype=torch.float64), torch.tensor([20, 7])
    for call in (neighborhood_weights, effective_receptive_field):
        with pytest.raises(ValueError, match=r"before the end of every clip, \[20, 7\]; got \(7,\)"):
            call(encoder, x, [7], lengths=lengths)


@pytest.mark.parametrize("stack", [None, GlobalAttentionParams(depth=1, num_heads=2, context_token=False)])
def test_without_a_context_token_there_is_no_map_of_it(stack: GlobalAttentionParams | None, encoders: Any) -> None:
    encoder = make_encoder(encoders, 2, global_attention=stack)
    with pytest.raises(ValueError, match="no context token: its context is the mean"):
        context_maps(encoder, torch.randn(1, 3, 8, 8, dtype=torch.float64))
