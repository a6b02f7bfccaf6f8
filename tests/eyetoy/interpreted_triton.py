"""The Triton kernels in Triton's interpreter, on a CPU: for a process of its own, which `test_triton.py` starts.

Triton decides as it is imported whether to compile or to interpret, so TRITON_INTERPRET=1 must be set before.
Its matrix products take bfloat16 for integers, so there are float32 and float16 here.
EYETOY_NUM_PROBLEMS is the number of random problems per dimension; `nox -s interpreter` makes it 500.
"""

from __future__ import annotations

import os
import random
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from triton.runtime import interpreter

from eyetoy import neighborhood_attention
from eyetoy.neighborhood.backends.registry import VARIABLE
from eyetoy.neighborhood.backends.triton import kernels, launch, tiles
from eyetoy.neighborhood.varlen import varlen_attention
from helpers.problems import AttentionProblem

NUM_PROBLEMS = int(os.environ.get("EYETOY_NUM_PROBLEMS", "10"))
LONGEST = {1: 40, 2: 9, 3: 5}
MOST_PROGRAMS = 12
"""The interpreter takes some ten milliseconds for a program."""

TOLERANCE = {
    torch.float32: {"rtol": 1e-4, "atol": 2e-5},
    torch.float16: {"rtol": 2e-2, "atol": 3e-2},
}


class Case(NamedTuple):
    """A call, and how it is cut; None leaves that to `choose_tiles`."""

    problem: AttentionProblem
    dtype: torch.dtype
    cut: tuple[tuple[int, int, int], int] | None


@pytest.fixture(autouse=True, scope="module")
def _fast_interpreter() -> None:
    """Let Triton put its interpreted functions in place once, not at each call, which takes half of the time."""

    class Nothing:
        def restore(self) -> None: ...

    for function in (kernels.forward, kernels.tl.zeros):
        interpreter._patch_lang(function.fn)
    interpreter._patch_lang = lambda function: Nothing()


def random_case(dimension: int, seed: int) -> Case:
    """Return a case of few programs. Small tiles of any shape give small grids many of them."""
    chance = random.Random(seed)
    while True:
        grid = tuple(chance.randint(1, LONGEST[dimension]) for _ in range(dimension))
        # Narrow ones, which tiles in the middle of an axis do not see the ends of, and any up to beyond the axis.
        widest = [chance.choice((length + 3, 4)) for length in grid]
        window = tuple(chance.randint(1, most) for most in widest)
        is_dilated, is_strided, is_causal, is_shared = (chance.random() < 0.4 for _ in range(4))
        head_dim = chance.choice((1, 3, 8, 16, 24, 40))
        problem = AttentionProblem(
            grid=grid,
            window=window,
            dilation=tuple(chance.randint(1, 4) if is_dilated else 1 for _ in grid),
            stride=tuple(chance.randint(1, width) if is_strided else 1 for width in window),
            is_causal=tuple(is_causal and chance.random() < 0.6 for _ in grid),
            batch=chance.randint(1, 2),
            heads=chance.randint(1, 2),
            head_dim=head_dim,
            value_dim=head_dim if is_shared else chance.choice((1, 5, 8, 32)),
            scale=chance.choice((None, 0.1, 1.7)),
            valid_fraction=chance.choice((None, None, 0.0, 0.1, 0.5, 0.9)),
            seed=seed,
        )
        cut = chance.choice(tiles._tiles_of(chance.choice((16, 32)))), chance.choice((16, 32))
        axes = [(n, w, min(d, n), s) for n, w, d, s in zip(grid, window, problem.dilation, problem.stride, strict=True)]
        programs = tiles.num_programs(((1, 1, 1, 1),) * (3 - dimension) + tuple(axes), cut[0])
        if problem.batch * problem.heads * programs <= MOST_PROGRAMS:
            dtype = chance.choice((*[torch.float32] * 8, torch.float16))
            return Case(problem, dtype, cut if chance.random() < 0.75 else None)


def cut_as(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.cut is not None:
        tile, block = case.cut
        choose = tiles.choose_tiles
        monkeypatch.setattr(launch, "choose_tiles", lambda *args: choose(*args)._replace(tile=tile, block=block))


def leaves_of(tokens: list[Tensor], *, is_packed: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Return tensors that need gradients, and query, key and value from them; packed ones are slices of one."""
    if is_packed:
        packed = torch.stack(tokens, dim=-3).requires_grad_()  # [batch, *grid, 3, heads, dim]
        return [packed], list(packed.unbind(-3))
    leaves = [x.detach().clone().requires_grad_() for x in tokens]
    return leaves, leaves


@pytest.mark.parametrize("number", range(NUM_PROBLEMS))
def test_kernels_equal_the_reference(dimension: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, forward and all gradients; masked keys and values may hold anything."""
    case = random_case(dimension, 3 * number + dimension)
    cut_as(case, monkeypatch)
    *tokens, key_mask = case.problem.tensors(case.dtype, "cpu")
    is_packed = case.problem.head_dim == case.problem.value_dim
    if key_mask is not None and not is_packed:
        for x in tokens[1:]:
            x[~key_mask] = torch.nan
    results = []
    for backend, dtype in (("triton", case.dtype), ("reference", torch.float64)):
        leaves, qkv = leaves_of([x.to(dtype) for x in tokens], is_packed=is_packed)
        out = neighborhood_attention(*qkv, key_mask=key_mask, backend=backend, **case.problem.options)
        weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(case.dtype).to(dtype)
        results.append([out.detach(), *torch.autograd.grad(out, leaves, weights)])
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), exact, **TOLERANCE[case.dtype])


@pytest.mark.parametrize("number", range(max(NUM_PROBLEMS // 5, 1)))
def test_rows_of_several_lengths_equal_each_alone(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "triton")
    case = random_case(1, 10_000 + number)
    cut_as(case, monkeypatch)
    (length,) = case.problem.grid
    query, key, value = (
        x.repeat(2, 1, 1, 1)[:2].requires_grad_() for x in case.problem.tensors(torch.float32, "cpu")[:3]
    )
    lengths = torch.tensor([random.Random(number).randint(1, length), length])
    rule: dict[str, Any] = {"window": case.problem.window[0], "dilation": case.problem.dilation[0]}
    out = varlen_attention(query, key, value, lengths, **rule)
    for row, end in enumerate(lengths.tolist()):
        alone = [x[row : row + 1, :end].detach().double().requires_grad_() for x in (query, key, value)]
        expected = neighborhood_attention(*alone, backend="reference", **rule)
        torch.testing.assert_close(out[row : row + 1, :end].double(), expected, **TOLERANCE[torch.float32])
        grads = torch.autograd.grad(out[row, :end].square().sum(), (query, key, value), retain_graph=True)
        expected_grads = torch.autograd.grad(expected.square().sum(), alone)
        for ours, exact in zip(grads, expected_grads, strict=True):
            torch.testing.assert_close(ours[row : row + 1, :end].double(), exact, **TOLERANCE[torch.float32])
            assert not ours[row, end:].any()


def test_second_derivatives_of_ragged_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 9, 1, 4, requires_grad=True)
    lengths = torch.tensor([5, 9])

    def penalty(variable: str) -> Tensor:
        monkeypatch.setenv(VARIABLE, variable)
        out = varlen_attention(x, x, x, lengths, window=3)
        inside = out[torch.arange(9) < lengths[:, None]]
        (gradient,) = torch.autograd.grad(inside.square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    torch.testing.assert_close(penalty("triton"), penalty("tiled"), rtol=1e-3, atol=1e-4)


class Attention(torch.nn.Module):
    def forward(self, packed: Tensor, key_mask: Tensor | None = None) -> Tensor:
        query, key, value = packed.unbind(-3)
        return neighborhood_attention(query, key, value, 3, dilation=2, key_mask=key_mask, backend="triton")


def test_compiled_and_exported_programs_hold_one_operator() -> None:
    attention, packed = Attention(), torch.randn(1, 3, 4, 3, 1, 8, requires_grad=True)
    key_mask = torch.arange(12).view(1, 3, 4) % 3 > 0
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    for mask in (None, key_mask):
        result, expected = compiled(packed, mask), attention(packed, mask)
        torch.testing.assert_close(result, expected)
        gradients = [torch.autograd.grad(out.square().sum(), packed)[0] for out in (result, expected)]
        torch.testing.assert_close(*gradients)
    batch, packed = torch.export.Dim("batch", min=1, max=64), torch.cat([packed, packed])
    for strict in (False, True):
        program = torch.export.export(attention, (packed,), dynamic_shapes=({0: batch},), strict=strict)
        parts = [part for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
        targets = [str(node.target) for part in parts for node in part.graph.nodes]
        assert [name for name in targets if "eyetoy" in name] == ["eyetoy.triton_attention.default"]
        more = torch.cat([packed, packed[:1]])
        torch.testing.assert_close(program.module()(more), attention(more))


def test_gradients_are_differentiated_again_and_taken_many_at_once() -> None:
    packed = torch.randn(1, 9, 3, 1, 8, requires_grad=True)
    exact = packed.detach().double().requires_grad_()
    results = []
    for x, backend in ((packed, "triton"), (exact, "reference")):
        out = neighborhood_attention(*x.unbind(-3), 5, stride=2, backend=backend)
        (gradient,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), x, retain_graph=True)
        rows = torch.eye(out.numel(), dtype=x.dtype)[:2].view(2, *out.shape)
        (many,) = torch.autograd.grad(out, x, rows, is_grads_batched=True, retain_graph=True)
        each = torch.vmap(lambda row, out=out, x=x: torch.autograd.grad(out, x, row, retain_graph=True)[0])(rows)
        torch.testing.assert_close(each, many)
        results.append((second, many))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=1e-3, atol=1e-4)


def test_anything_that_needs_no_gradient_and_any_layout() -> None:
    x = torch.randn(2, 4, 8, 1, 12)
    query = x.transpose(1, 2)  # another order of the grid in memory
    key, value = x.transpose(1, 2).flip(-1), torch.randn(8, 1, 4, 2, 1).permute(3, 0, 2, 1, 4).expand(2, 8, 4, 1, 12)
    with torch.no_grad():
        ours, expected = (
            neighborhood_attention(query, key, value, 3, backend=name) for name in ("triton", "reference")
        )
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=2e-5)
    (gradient,) = torch.autograd.grad(
        neighborhood_attention(query, key, value.requires_grad_(), 3, backend="triton").sum(), value
    )
    assert gradient.shape == value.shape  # the gradient of a sum has strides of 0
