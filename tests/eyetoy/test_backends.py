"""The backends against the reference, and the choice among them."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import BlockMask

from eyetoy import available_backends, neighborhood_attention
from eyetoy.neighborhood import functional
from eyetoy.neighborhood.backends import flex
from eyetoy.neighborhood.backends import registry as backends
from eyetoy.neighborhood.backends.registry import choose_backend
from eyetoy.neighborhood.problem import Call
from eyetoy.neighborhood.window import AxisRule

VARIABLE = "EYETOY_NEIGHBORHOOD_BACKEND"
ON_CUDA = Call(device="cuda", dtype=torch.bfloat16, head_dim=32, value_dim=32, requires_grad=True, has_key_mask=False)


@pytest.fixture(autouse=True)
def _forget_what_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    backends._log_once.cache_clear()


@given(data=st.data())
@settings(max_examples=15)
def test_flex_equals_reference(data: st.DataObject, dimension: int, device: str, problems: Any) -> None:
    problem = data.draw(problems.attention_problems(dimension, large=True))
    query, key, value, key_mask = problem.tensors(torch.float32, device)
    if device == "cuda" and min(query.shape[-1], value.shape[-1]) < 16:
        return
    flex, reference = (
        neighborhood_attention(query, key, value, key_mask=key_mask, backend=name, **problem.options)
        for name in ("flex", "reference")
    )
    torch.testing.assert_close(flex, reference, rtol=1e-4, atol=2e-5)


@given(data=st.data())
@settings(max_examples=15)
def test_natten_equals_reference(data: st.DataObject, dimension: int) -> None:
    """NATTEN itself, dilation, causality and strides included, where it can do the call."""
    pytest.importorskip("natten")
    window = data.draw(st.tuples(*[st.integers(2, 4)] * dimension))
    dilation = data.draw(st.tuples(*[st.integers(1, 2)] * dimension))
    stride = tuple(data.draw(st.integers(1, w)) for w in window)
    causal = data.draw(st.tuples(*[st.booleans()] * dimension))
    longest = {1: 30, 2: 12, 3: 9}[dimension]
    grid = tuple(data.draw(st.integers(w * d, max(w * d, longest))) for w, d in zip(window, dilation, strict=True))
    tokens = [torch.randn(1, *grid, 2, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    options = {"window": window, "dilation": dilation, "stride": stride, "is_causal": causal}
    if dimension == 1 and causal[0] and window == grid:
        with pytest.raises(ValueError, match="no causal window over the whole of one axis"):
            neighborhood_attention(*tokens, backend="natten", **options)
        return
    theirs, ours = (neighborhood_attention(*tokens, backend=name, **options) for name in ("natten", "reference"))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=2e-5)


def test_every_backend_is_listed_with_its_reason() -> None:
    reasons = available_backends("cpu", torch.float32, requires_grad=True)
    assert reasons["tiled"] is None
    assert reasons["reference"] is None
    assert "cannot train on a CPU" in str(reasons["flex"])
    assert reasons["natten"] is not None
    assert "float64" in str(available_backends("cuda", torch.float64)["flex"])
    assert "mps" in str(available_backends("mps")["flex"])


def test_one_entry_makes_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be requested, it is listed with its reasons, and on CUDA its place in the registry decides."""
    mine = backends.Backend(
        attend=lambda query, key, value, problem: 2 * value,
        why_not=lambda call: "it has no key mask" if call.has_key_mask else None,
        why_not_first=lambda call: "it is slow in float32" if call.dtype == torch.float32 else None,
    )
    monkeypatch.setattr(backends, "BACKENDS", {"mine": mine, **backends.BACKENDS})
    monkeypatch.setattr(functional, "BACKENDS", backends.BACKENDS)
    x = torch.randn(1, 9, 2, 16)
    assert torch.equal(neighborhood_attention(x, x, x, 3, backend="mine"), 2 * x)
    assert available_backends()["mine"] is None
    assert available_backends(has_key_mask=True)["mine"] == "it has no key mask"
    with pytest.raises(ValueError, match="backend 'mine' cannot do this call: it has no key mask"):
        neighborhood_attention(x, x, x, 3, key_mask=torch.ones(1, 9, dtype=torch.bool), backend="mine")
    assert choose_backend("auto", ON_CUDA) == "mine"
    assert choose_backend("auto", replace(ON_CUDA, dtype=torch.float32)) == "flex"
    assert choose_backend("auto", replace(ON_CUDA, has_key_mask=True)) == "flex"


def test_requested_backend_that_cannot_do_the_call_is_refused(dimension: int) -> None:
    x = torch.randn(1, *(6,) * dimension, 2, 8, requires_grad=True)
    with pytest.raises(ValueError, match="backend 'flex' cannot do this call: FlexAttention cannot train on a CPU"):
        neighborhood_attention(x, x, x, window=3, backend="flex")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"window": 1}, "windows of at least 2"),
        ({"window": 5, "dilation": 2}, r"5 \* 2 on an axis of 6"),
        ({"window": 3, "key_mask": torch.ones(1, 6, dtype=torch.bool)}, "no key mask"),
    ],
)
def test_what_natten_cannot_do_is_known_before(change: dict[str, Any], reason: str) -> None:
    pytest.importorskip("natten")
    x = torch.randn(1, 6, 2, 8)
    with pytest.raises(ValueError, match=f"backend 'natten' cannot do this call: .*{reason}"):
        neighborhood_attention(x, x, x, backend="natten", **change)


def test_variable_names_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 9, 2, 8)
    called = []
    fake = backends.Backend(attend=lambda q, k, v, problem: called.append(1) or q)
    monkeypatch.setitem(backends.BACKENDS, "reference", fake)
    monkeypatch.setenv(VARIABLE, "reference")
    neighborhood_attention(x, x, x, window=3)
    assert called
    neighborhood_attention(x, x, x, window=3, backend="tiled")  # an argument counts more
    assert len(called) == 1
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ValueError, match=f"{VARIABLE} must be .*got 'fast'"):
        neighborhood_attention(x, x, x, window=3)


def test_variable_gives_way_with_one_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    x = torch.randn(1, 9, 2, 8, requires_grad=True)
    monkeypatch.setenv(VARIABLE, "flex")
    with caplog.at_level(logging.INFO):
        outs = [neighborhood_attention(x, x, x, window=3) for _ in range(2)]
    assert torch.equal(outs[0], neighborhood_attention(x, x, x, window=3, backend="tiled"))
    assert [record.getMessage() for record in caplog.records] == [
        f"{VARIABLE}=flex: FlexAttention cannot train on a CPU; using 'tiled' there"
    ]


def test_choice_on_cuda_says_why_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(backends.natten, "is_installed", lambda: False)
    with caplog.at_level(logging.INFO):
        assert [choose_backend("auto", ON_CUDA) for _ in range(2)] == ["flex", "flex"]
    (record,) = caplog.records
    assert record.getMessage().startswith("neighborhood attention by 'flex'; not 'natten': NATTEN is not installed")
    monkeypatch.setattr(backends.natten, "import_problem", lambda: None)
    monkeypatch.setattr(backends.natten, "has_kernels", lambda: True)
    assert choose_backend("auto", ON_CUDA) == "natten"


@pytest.mark.parametrize("error", ["ImportError", "OSError", "RuntimeError"])
def test_a_natten_that_cannot_be_imported_is_passed_over(
    error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "natten.py").write_text(f"raise {error}('libnatten: undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "natten", raising=False)
    backends.natten._import_error.cache_clear()
    try:
        reason = f"NATTEN is installed and cannot be imported ({error}: libnatten: undefined symbol)"
        assert available_backends("cuda")["natten"] == available_backends("cpu")["natten"] == reason
        assert choose_backend("auto", ON_CUDA) == "flex"
        x = torch.randn(1, 8, 2, 8)
        neighborhood_attention(x, x, x, window=3)
        with pytest.raises(ValueError, match="backend 'natten' cannot do this call: .* undefined symbol"):
            neighborhood_attention(x, x, x, window=3, backend="natten")
    finally:
        backends.natten._import_error.cache_clear()


def test_a_compiler_follows_the_choice_on_cuda(caplog: pytest.LogCaptureFixture) -> None:
    """It cannot follow the search for a package, nor a logger."""
    torch._dynamo.reset()
    names = list(backends.BACKENDS)
    compiled = torch.compile(
        lambda x: x * names.index(choose_backend("auto", ON_CUDA)), fullgraph=True, backend="aot_eager"
    )
    with caplog.at_level(logging.INFO):
        index = int(compiled(torch.ones(())))
        assert names[index] == choose_backend("auto", ON_CUDA)
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        f"neighborhood attention by {names[index]!r}"
    ]


@given(data=st.data())
@settings(max_examples=25)
def test_blocks_of_queries_that_flex_names_are_those_of_pytorch(
    data: st.DataObject, dimension: int, problems: Any
) -> None:
    """Only the backward pass on CUDA reads them. PyTorch turns a square list round; ours has no more than it needs."""
    grid = data.draw(problems.attention_problems(dimension, large=True)).grid
    longest = {1: 2000, 2: 90, 3: 30}[dimension]
    rules = tuple(
        AxisRule(
            length=data.draw(st.integers(length, longest)),
            window=data.draw(st.integers(1, 20)),
            is_causal=data.draw(st.booleans()),
        )
        for length in grid
    )
    mask = flex._block_mask(rules, flex.TILES[dimension], None, batch=1, device=torch.device("cpu"))
    counts, indices = mask.kv_num_blocks, mask.kv_indices
    square = F.pad(indices, (0, counts.shape[-1] - indices.shape[-1]))
    expected = BlockMask.from_kv_blocks(counts, square, BLOCK_SIZE=mask.BLOCK_SIZE)
    assert mask.q_num_blocks is not None
    assert mask.q_indices is not None
    assert expected.q_indices is not None
    torch.testing.assert_close(mask.q_num_blocks, expected.q_num_blocks)
    for row, theirs, count in zip(mask.q_indices[0, 0], expected.q_indices[0, 0], mask.q_num_blocks[0, 0], strict=True):
        assert torch.equal(row[:count], theirs[:count])


def test_nothing_of_one_sample_reaches_another(dimension: int, device: str, backend: str) -> None:
    """Tiles of one sample lie next to those of the other in memory."""
    x = torch.randn(3, *{1: (50,), 2: (13, 9), 3: (6, 5, 7)}[dimension], 2, 4, device=device)
    x[1] = torch.nan
    x.requires_grad_()
    out = neighborhood_attention(x, x, x, window=5, backend=backend)
    assert out[0::2].isfinite().all()
    assert out[1].isnan().all()
    (gradient,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert gradient[0::2].isfinite().all()


def test_what_masked_tokens_hold_does_not_matter(dimension: int, device: str, backend: str) -> None:
    x = torch.randn(2, *(6,) * dimension, 2, 4, device=device)
    mask = torch.ones(x.shape[:-2], dtype=torch.bool, device=device)
    mask[:, 4:] = False
    holed = x.clone()
    holed[:, 4:] = torch.nan
    out = neighborhood_attention(x, holed, holed, window=3, key_mask=mask, backend=backend)
    torch.testing.assert_close(out, neighborhood_attention(x, x, x, window=3, key_mask=mask, backend=backend))


def test_weights_of_large_calls_are_computed_again(
    monkeypatch: pytest.MonkeyPatch, dimension: int, device: str
) -> None:
    from eyetoy.neighborhood.backends.tiled import kernel

    x = torch.randn(2, *(7,) * dimension, 2, 4, device=device, requires_grad=True)

    def gradient() -> torch.Tensor:
        out = neighborhood_attention(x, x, x, window=3, backend="tiled")
        return torch.autograd.grad(out.square().sum(), x)[0]

    kept = gradient()
    monkeypatch.setattr(kernel, "MAX_SAVED_ELEMENTS", 0)
    torch.testing.assert_close(gradient(), kept)
