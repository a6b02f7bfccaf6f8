"""The operator: against loops, one backend against the other, gradients, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eyetoy import na1d, na2d, na3d, neighborhood_attention

TOLERANCES = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-10},
    torch.float32: {"rtol": 1e-4, "atol": 2e-5},
}
NAMED = {1: na1d, 2: na2d, 3: na3d}
SPREAD = {1: (29,), 2: (9, 11), 3: (5, 6, 7)}


def random_qkv(
    grid: tuple[int, ...],
    *,
    batch: int = 2,
    heads: int = 2,
    head_dim: int = 5,
    value_dim: int | None = None,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    seed: int = 0,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dims = (head_dim, head_dim, head_dim if value_dim is None else value_dim)
    return [torch.randn(batch, *grid, heads, dim, generator=generator).to(device, dtype) for dim in dims]


def output_and_gradients(qkv: list[Tensor], **options: Any) -> list[Tensor]:
    """Return the output and the gradients of query, key and value under a random cotangent."""
    leaves = [x.detach().clone().requires_grad_() for x in qkv]
    out = neighborhood_attention(*leaves, **options)
    generator = torch.Generator().manual_seed(1)
    cotangent = torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent)]


@contextmanager
def planned_anew() -> Iterator[pytest.MonkeyPatch]:
    """Patch how plans are made; none that was made before is used, and none is left behind."""
    from eyetoy.neighborhood.backends.tiled import attention as tiled

    def clear() -> None:
        tiled._kernel.cache_clear()
        tiled._tiled_kernel.cache_clear()

    with pytest.MonkeyPatch.context() as patch:
        clear()
        try:
            yield patch
        finally:
            clear()


def draw_choice(data: st.DataObject, dimension: int) -> Callable[..., Any]:
    """Draw what replaces `choose_tiling`: any tile sizes, any axis to walk along."""
    from eyetoy.neighborhood.backends.tiled.tiling import make_tiling

    tiles = tuple(data.draw(st.integers(1, 4)) for _ in range(dimension))
    outer_axis = data.draw(st.none() | st.integers(0, dimension - 1))
    return lambda rules, head_dim: make_tiling(rules, tiles, outer_axis)


def assert_all_close(actual: list[Tensor], expected: list[Tensor], **tolerance: float) -> None:
    names = ("output", "gradient of query", "gradient of key", "gradient of value")
    for name, a, b in zip(names, actual, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@given(data=st.data())
@settings(max_examples=40)
def test_equals_loops_over_the_rule(
    data: st.DataObject, dimension: int, device: str, double: torch.dtype, backend: str, oracle: Any, problems: Any
) -> None:
    problem = data.draw(problems.attention_problems(dimension))
    query, key, value, key_mask = problem.tensors(double, device)
    out = neighborhood_attention(query, key, value, key_mask=key_mask, backend=backend, **problem.options)
    expected = oracle.neighborhood_attention(
        query, key, value, axes=problem.axes(oracle.Axis), scale=problem.scale, key_mask=key_mask
    )
    torch.testing.assert_close(out.cpu(), expected, rtol=1e-9, atol=1e-10)


@given(data=st.data())
@settings(max_examples=50)
def test_tiled_equals_reference_with_gradients_in_float64(
    data: st.DataObject, dimension: int, device: str, double: torch.dtype, problems: Any
) -> None:
    problem = data.draw(problems.attention_problems(dimension, large=True))
    *qkv, key_mask = problem.tensors(double, device)
    tiled, reference = (
        output_and_gradients(qkv, key_mask=key_mask, backend=backend, **problem.options)
        for backend in ("tiled", "reference")
    )
    assert_all_close(tiled, reference, **TOLERANCES[torch.float64])


@given(data=st.data())
@settings(max_examples=30)
def test_tiled_equals_reference_with_gradients_in_float32(
    data: st.DataObject, dimension: int, device: str, problems: Any
) -> None:
    problem = data.draw(problems.attention_problems(dimension, large=True))
    *qkv, key_mask = problem.tensors(torch.float32, device)
    tiled = output_and_gradients(qkv, key_mask=key_mask, backend="tiled", **problem.options)
    # In float64, on the CPU: the reference's own rounding, as large as that of `tiled`, is not in the bound.
    exact, mask = [x.cpu().double() for x in qkv], None if key_mask is None else key_mask.cpu()
    reference = output_and_gradients(exact, key_mask=mask, backend="reference", **problem.options)
    tiled = [x.cpu().double() for x in tiled]
    assert_all_close(tiled, reference, **TOLERANCES[torch.float32])


@given(data=st.data())
@settings(max_examples=80)
def test_result_does_not_depend_on_the_tiles(data: st.DataObject, dimension: int, problems: Any) -> None:
    """Any tile sizes, any axis to walk along, any size of the blocks that are computed at once."""
    from eyetoy.neighborhood.backends.tiled import attention as tiled
    from eyetoy.neighborhood.backends.tiled import kernel

    problem, choose = data.draw(problems.attention_problems(dimension)), draw_choice(data, dimension)
    *qkv, key_mask = problem.tensors(torch.float64, "cpu")
    reference = output_and_gradients(qkv, key_mask=key_mask, backend="reference", **problem.options)
    with planned_anew() as patch:
        patch.setattr(tiled, "choose_tiling", choose)
        patch.setattr(kernel, "LOGITS_PER_BLOCK", data.draw(st.sampled_from([1, 100, 300, 10**6])))
        patch.setattr(kernel, "KEY_ELEMENTS_PER_BLOCK", data.draw(st.sampled_from([1, 100, 300, 1000, 10**6])))
        patch.setattr(kernel, "MAX_SAVED_ELEMENTS", data.draw(st.sampled_from([0, 1000, 10**6])))
        forced = output_and_gradients(qkv, key_mask=key_mask, backend="tiled", **problem.options)
    assert_all_close(forced, reference, **TOLERANCES[torch.float64])


@given(data=st.data())
@settings(max_examples=60)
def test_large_grids_are_cut_into_slabs(data: st.DataObject, dimension: int, problems: Any) -> None:
    from eyetoy.neighborhood.backends.tiled import slabs

    problem = data.draw(problems.attention_problems(dimension, large=True))
    *qkv, key_mask = problem.tensors(torch.float64, "cpu")
    reference = output_and_gradients(qkv, key_mask=key_mask, backend="reference", **problem.options)
    with planned_anew() as patch:
        patch.setattr(slabs, "TOKENS_PER_SLAB", data.draw(st.sampled_from([1, 4, 15])))
        cut = output_and_gradients(qkv, key_mask=key_mask, backend="tiled", **problem.options)
    assert_all_close(cut, reference, **TOLERANCES[torch.float64])


@given(data=st.data())
@settings(max_examples=60)
def test_no_tiling_lets_a_sample_reach_another(data: st.DataObject, dimension: int, problems: Any) -> None:
    """The samples of a batch lie one after the other in memory; one full of NaN shows what reads beyond its own."""
    from eyetoy.neighborhood.backends.tiled import attention as tiled

    problem = replace(data.draw(problems.attention_problems(dimension, with_mask=False)), batch=3)
    choose = draw_choice(data, dimension)
    query, key, value, _ = problem.tensors(torch.float64, "cpu")
    for x in (query, key, value):
        x[1] = torch.nan
    with planned_anew() as patch:
        patch.setattr(tiled, "choose_tiling", choose)
        results = output_and_gradients([query, key, value], key_mask=None, backend="tiled", **problem.options)
    assert all(x[0::2].isfinite().all() for x in results)


@pytest.mark.parametrize("window", [1, 7, 13, 64])
@pytest.mark.parametrize(("dilation", "is_causal"), [(1, False), (3, False), (2, True)])
def test_long_sequence_equals_reference(device: str, window: int, dilation: int, is_causal: bool) -> None:
    qkv = random_qkv((5000,), batch=1, heads=1, head_dim=4, dtype=torch.float32, device=device)
    options = {"window": window, "dilation": dilation, "is_causal": is_causal}
    tiled, reference = (output_and_gradients(qkv, backend=name, **options) for name in ("tiled", "reference"))
    assert_all_close(tiled, reference, **TOLERANCES[torch.float32])


def test_bfloat16_stays_near_float32(dimension: int, device: str) -> None:
    qkv = random_qkv(SPREAD[dimension], dtype=torch.bfloat16, device=device)
    low, high = (
        output_and_gradients([x.to(dtype) for x in qkv], window=3, backend="tiled")
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert all(x.dtype == torch.bfloat16 for x in low)
    assert_all_close([x.float() for x in low], high, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "options",
    [
        {"window": 3},
        {"window": 4, "dilation": 2},
        {"window": 3, "stride": 2},
        {"window": 3, "is_causal": True},
        {"window": 99},
    ],
    ids=str,
)
def test_gradients_are_the_derivatives(
    dimension: int, device: str, double: torch.dtype, backend: str, options: dict[str, Any]
) -> None:
    grid = {1: (7,), 2: (4, 3), 3: (2, 3, 2)}[dimension]
    qkv = [x.requires_grad_() for x in random_qkv(grid, batch=1, head_dim=2, value_dim=3, dtype=double, device=device)]
    assert torch.autograd.gradcheck(lambda *x: neighborhood_attention(*x, backend=backend, **options), qkv)


@pytest.mark.parametrize("masked", [False, True])
def test_second_derivatives_flow(dimension: int, device: str, double: torch.dtype, backend: str, masked: bool) -> None:
    grid = {1: (5,), 2: (3, 2), 3: (2, 2, 2)}[dimension]
    qkv = random_qkv(grid, batch=1, heads=1, head_dim=2, dtype=double, device=device)
    mask = torch.arange(math.prod(grid), device=device).view(1, *grid) % 3 > 0 if masked else None
    assert torch.autograd.gradgradcheck(
        lambda *x: neighborhood_attention(*x, window=2, key_mask=mask, backend=backend),
        [x.requires_grad_() for x in qkv],
    )


@pytest.mark.parametrize("num_valid_planes", [0, 1])
def test_query_without_a_valid_key_gives_zeros_and_finite_gradients(
    dimension: int, device: str, double: torch.dtype, backend: str, oracle: Any, num_valid_planes: int
) -> None:
    grid = SPREAD[dimension]
    qkv = random_qkv(grid, dtype=double, device=device)
    key_mask = torch.zeros(2, *grid, dtype=torch.bool)
    key_mask[:, :num_valid_planes] = True
    seen = oracle.neighbor_mask(grid, [oracle.Axis(window=3)] * dimension)
    blind = ~(seen[None] & key_mask.view(2, 1, -1)).any(-1)
    assert blind.any()
    assert blind.all() == (num_valid_planes == 0)
    out, *gradients = output_and_gradients(qkv, window=3, key_mask=key_mask.to(device), backend=backend)
    assert (out.cpu().flatten(1, -3)[blind] == 0).all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all((gradient.cpu()[~key_mask] == 0).all() for gradient in gradients[1:])
    assert (gradients[0].cpu().flatten(1, -3)[blind] == 0).all()


def test_masking_keys_equals_leaving_them_out(dimension: int, device: str, double: torch.dtype, backend: str) -> None:
    """With windows over the whole axis, masking the end of an axis is the same as cutting it off."""
    grid = SPREAD[dimension]
    query, key, value = random_qkv(grid, dtype=double, device=device)
    key_mask = torch.ones(2, *grid, dtype=torch.bool, device=device)
    key_mask[:, 3:] = False
    masked = neighborhood_attention(query, key, value, window=50, key_mask=key_mask, backend=backend)
    cut = neighborhood_attention(query[:, :3], key[:, :3], value[:, :3], window=50, backend=backend)
    torch.testing.assert_close(masked[:, :3], cut, **TOLERANCES[double])


@pytest.mark.parametrize("extra", [0, 5])
def test_window_over_the_whole_axis_is_full_attention(
    dimension: int, device: str, double: torch.dtype, backend: str, extra: int
) -> None:
    grid = SPREAD[dimension]
    query, key, value = random_qkv(grid, value_dim=3, dtype=double, device=device)
    window = tuple(length + extra for length in grid)
    out = neighborhood_attention(query, key, value, window=window, backend=backend)
    flat = [x.flatten(1, -3).transpose(1, 2) for x in (query, key, value)]
    expected = F.scaled_dot_product_attention(*flat).transpose(1, 2).reshape(out.shape)
    torch.testing.assert_close(out, expected, **TOLERANCES[double])


def test_window_of_one_returns_the_values(dimension: int, device: str, backend: str) -> None:
    query, key, value = random_qkv(SPREAD[dimension], dtype=torch.float32, device=device)
    out = neighborhood_attention(query, key, value, window=1, backend=backend)
    torch.testing.assert_close(out, value, rtol=0, atol=1e-6)


def _transposed(x: Tensor) -> Tensor:
    return x.transpose(1, -2).contiguous().transpose(1, -2)


def _every_other(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=1)[:, ::2]


def _channels_first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1).contiguous().movedim(1, -1)


def _last_of_three(x: Tensor) -> Tensor:
    return torch.stack([x, x, x], dim=-1)[..., 2]


@pytest.mark.parametrize("stored", [_transposed, _every_other, _channels_first, _last_of_three])
def test_memory_layout_does_not_matter(
    dimension: int, device: str, double: torch.dtype, backend: str, stored: Callable[[Tensor], Tensor]
) -> None:
    qkv = random_qkv(SPREAD[dimension], dtype=double, device=device)
    scattered = [stored(x) for x in qkv]
    assert not any(x.is_contiguous() for x in scattered)
    torch.testing.assert_close(
        neighborhood_attention(*scattered, window=3, dilation=2, backend=backend),
        neighborhood_attention(*qkv, window=3, dilation=2, backend=backend),
        **TOLERANCES[double],
    )


def test_one_tensor_shared_by_the_whole_batch(dimension: int, device: str, double: torch.dtype, backend: str) -> None:
    qkv = random_qkv(SPREAD[dimension], batch=1, dtype=double, device=device)
    out = neighborhood_attention(*(x.expand(3, *x.shape[1:]) for x in qkv), window=3, backend=backend)
    alone = neighborhood_attention(*qkv, window=3, backend=backend)
    torch.testing.assert_close(out, alone.expand_as(out), **TOLERANCES[double])


def test_empty_batch_gives_an_empty_batch(dimension: int, device: str, backend: str) -> None:
    qkv = random_qkv(SPREAD[dimension], batch=0, value_dim=3, dtype=torch.float32, device=device)
    out = neighborhood_attention(*qkv, window=3, backend=backend)
    assert out.shape == (0, *SPREAD[dimension], 2, 3)


def test_empty_batch_goes_through_a_training_step(dimension: int, device: str, backend: str) -> None:
    qkv = random_qkv(SPREAD[dimension], batch=0, value_dim=3, dtype=torch.float32, device=device)
    _, *gradients = output_and_gradients(qkv, window=3, backend=backend)
    assert [gradient.shape for gradient in gradients] == [x.shape for x in qkv]


def test_inputs_are_left_as_they_were(dimension: int, device: str, backend: str) -> None:
    qkv = random_qkv(SPREAD[dimension], dtype=torch.float32, device=device)
    copies = [x.clone() for x in qkv]
    neighborhood_attention(*qkv, window=3, backend=backend)
    assert all(torch.equal(x, copy) for x, copy in zip(qkv, copies, strict=True))


def test_auto_is_tiled(dimension: int, device: str) -> None:
    qkv = random_qkv(SPREAD[dimension], dtype=torch.float32, device=device)
    auto, tiled = (neighborhood_attention(*qkv, window=3, backend=name) for name in ("auto", "tiled"))
    assert torch.equal(auto, tiled)


def test_named_operator_is_the_general_one(dimension: int, device: str, backend: str) -> None:
    qkv = random_qkv(SPREAD[dimension], dtype=torch.float32, device=device)
    options = {"window": 4, "dilation": 2, "stride": 2, "backend": backend}
    assert torch.equal(NAMED[dimension](*qkv, **options), neighborhood_attention(*qkv, **options))


def test_named_operator_refuses_other_dimensions(dimension: int) -> None:
    qkv = random_qkv(SPREAD[dimension % 3 + 1])
    with pytest.raises(ValueError, match=rf"na{dimension}d takes .*{dimension} grid ax.*got shape"):
        NAMED[dimension](*qkv, window=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, r"window .*at least 1; got 0"),
        ({"window": (3, 3, 3, 3)}, r"window .*one per axis; got \(3, 3, 3, 3\)"),
        ({"window": 2.5}, r"window .*2\.5"),
        ({"window": None}, r"window .*None"),
        ({"window": 3, "dilation": 0}, r"dilation .*at least 1; got 0"),
        ({"window": 3, "stride": -1}, r"stride .*at least 1; got -1"),
        ({"window": 2, "stride": 3}, r"stride .*window; got stride=3, window=2"),
        ({"window": 3, "is_causal": (True,) * 4}, r"is_causal .*one per axis; got \(True, True, True, True\)"),
        ({"window": 3, "is_causal": 1}, r"is_causal .*1"),
        ({"window": 3, "backend": "cuda"}, r"backend .*.*'tiled', .*'reference'; got 'cuda'"),
    ],
    ids=str,
)
def test_refuses_options_that_do_not_fit(dimension: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        neighborhood_attention(*random_qkv(SPREAD[dimension]), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q, k[:, 1:], v), r"query .*key .*one shape.*got query"),
        (lambda q, k, v: (q, k[..., 1:], v), r"query .*key .*one shape.*got query"),
        (lambda q, k, v: (q, k, v[..., :1, :]), r"value the same but for its head_dim; got"),
        (lambda q, k, v: (q, k, v.float()), r"one floating-point dtype; got .*float64, .*float32"),
        (lambda q, k, v: (q.long(), k.long(), v.long()), r"floating-point dtype; got .*int64"),
        (lambda q, k, v: (q[0, ..., 0, 0], k[0, ..., 0, 0], v[0, ..., 0, 0]), r"1 to 3 grid axes.*got shape"),
        (lambda q, k, v: [x[None, None, None] for x in (q, k, v)], r"1 to 3 grid axes.*got shape"),
    ],
)
def test_refuses_tensors_that_do_not_fit(
    dimension: int, change: Callable[[Tensor, Tensor, Tensor], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        neighborhood_attention(*change(*random_qkv(SPREAD[dimension])), window=3)


@pytest.mark.parametrize("wrong", ["shape", "dtype"])
def test_refuses_a_key_mask_that_does_not_fit(dimension: int, wrong: str) -> None:
    grid = SPREAD[dimension]
    mask = torch.ones(2, *grid[:-1], grid[-1] + 1).bool() if wrong == "shape" else torch.ones(2, *grid)
    with pytest.raises(ValueError, match=r"key_mask must be bool.*got torch\.(bool|float32) of shape"):
        neighborhood_attention(*random_qkv(grid), window=3, key_mask=mask)


@pytest.mark.parametrize("name", ["window", "kernel_size", "dilation", "stride"])
@pytest.mark.parametrize("make", [np.int64, np.uint8, lambda n: np.array(n)], ids=["int64", "uint8", "array"])
def test_whole_numbers_of_numpy_are_taken(dimension: int, backend: str, name: str, make: Callable[[int], Any]) -> None:
    qkv = random_qkv(SPREAD[dimension])
    others = {} if name in ("window", "kernel_size") else {"window": 3}
    expected = neighborhood_attention(*qkv, backend=backend, **others, **{name: 2})
    for value in (make(2), [make(2)] * dimension, (make(2),) * dimension, np.full(dimension, 2)):
        assert torch.equal(neighborhood_attention(*qkv, backend=backend, **others, **{name: value}), expected)


@pytest.mark.parametrize("make", [lambda n: [True] * n, lambda n: np.full(n, True), lambda n: np.True_])
def test_causality_as_list_or_numpy(dimension: int, backend: str, make: Callable[[int], Any]) -> None:
    qkv = random_qkv(SPREAD[dimension])
    out, expected = (
        neighborhood_attention(*qkv, window=3, is_causal=causal, backend=backend) for causal in (make(dimension), True)
    )
    assert torch.equal(out, expected)


@pytest.mark.parametrize("value", [np.float64(3), np.array([3.0]), np.True_, np.int64(0), torch.tensor(3)])
@pytest.mark.parametrize("name", ["window", "dilation", "stride"])
def test_other_numbers_are_refused_by_name(dimension: int, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name} must"):
        neighborhood_attention(*random_qkv(SPREAD[dimension]), **({"window": 3} | {name: value}))


def test_scale_is_a_number(dimension: int, backend: str) -> None:
    qkv = random_qkv(SPREAD[dimension])
    out, expected = (
        neighborhood_attention(*qkv, window=3, scale=scale, backend=backend) for scale in (np.float64(0.5), 0.5)
    )
    assert torch.equal(out, expected)
    for scale in (torch.tensor(0.5), torch.nn.Parameter(torch.ones(1))):
        with pytest.raises(ValueError, match="^scale must be a number.*multiply the query by it"):
            neighborhood_attention(*qkv, window=3, scale=scale, backend=backend)


@pytest.mark.parametrize("window", [3, 99])
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("which", range(4))
def test_autocast_makes_dtypes_one(
    dimension: int, device: str, backend: str, window: int, low: torch.dtype, which: int
) -> None:
    """As in `scaled_dot_product_attention`, for every window and backend."""
    qkv = random_qkv(SPREAD[dimension], dtype=torch.float32, device=device)
    qkv = [x.to(low) if i < which else x for i, x in enumerate(qkv)]
    expected = neighborhood_attention(*(x.to(low) for x in qkv), window=window, backend=backend)
    leaves = [x.requires_grad_() for x in qkv]
    with torch.autocast(device, low):
        out = neighborhood_attention(*leaves, window=window, backend=backend)
    assert out.dtype == low
    assert torch.equal(out, expected)
    assert [x.dtype for x in torch.autograd.grad(out.sum(), leaves)] == [x.dtype for x in leaves]


def test_float64_stays_under_autocast(dimension: int, backend: str) -> None:
    qkv = random_qkv(SPREAD[dimension])
    with torch.autocast("cpu", torch.bfloat16):
        assert neighborhood_attention(*qkv, window=3, backend=backend).dtype == torch.float64
        with pytest.raises(ValueError, match="share one floating-point dtype"):
            neighborhood_attention(qkv[0], qkv[1], qkv[2].float(), window=3, backend=backend)


def test_function_transforms(dimension: int, device: str) -> None:
    """Gradients per sample, as `torch.func` takes them, equal those of one sample after the other."""
    x = torch.randn(3, *SPREAD[dimension], 2, 4, device=device, generator=torch.Generator(device).manual_seed(0))

    def loss(sample: Tensor) -> Tensor:
        y = sample[None]
        return neighborhood_attention(y, 2 * y, y + 1, window=3, dilation=2).square().sum()

    one_by_one = [torch.autograd.grad(loss(y), y)[0] for y in x.clone().requires_grad_().unbind()]
    per_sample = torch.func.vmap(torch.func.grad(loss))(x)
    torch.testing.assert_close(per_sample, torch.stack(one_by_one), rtol=1e-4, atol=1e-4)


def test_threads_do_not_disturb_each_other(dimension: int, device: str) -> None:
    """Working memory is held from call to call: every thread must have its own."""
    calls = [random_qkv(SPREAD[dimension], dtype=torch.float32, device=device, seed=seed) for seed in range(24)]

    def run(qkv: list[Tensor]) -> list[Tensor]:
        return output_and_gradients(qkv, window=3)

    alone = [run(qkv) for qkv in calls]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, calls))
    for ours, expected in zip(together, alone, strict=True):
        assert_all_close(ours, expected, rtol=0, atol=0)
