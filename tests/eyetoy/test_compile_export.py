"""The operator in compiled and exported programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eyetoy import AttentionParams, ConvParams, HeadParams, SharedScaleNA, neighborhood_attention

GRIDS = {1: (45,), 2: (9, 11), 3: (3, 5, 6)}


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        return neighborhood_attention(x, 2 * x, x + 1, key_mask=key_mask, **self.options)


@pytest.fixture(autouse=True)
def _compile_afresh() -> None:
    torch._dynamo.reset()


OPTIONS: list[dict[str, Any]] = [
    {"window": 3},
    {"window": 4, "dilation": 2, "stride": 2},
    {"window": 3, "is_causal": True},
    {"window": 99},
]


def tokens(dimension: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, *GRIDS[dimension], 2, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_compiles_without_a_break(dimension: int, device: str, options: dict[str, Any]) -> None:
    """`aot_eager` traces forward and backward like any compiler, and needs none on the machine."""
    attention, x = Attention(**options), tokens(dimension).to(device).requires_grad_()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    result, expected = compiled(x), attention(x)
    torch.testing.assert_close(result, expected)
    gradients = [torch.autograd.grad(out.square().sum(), x)[0] for out in (result, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("grid", [(3, 5), (3, 9), (9, 3), (9, 11)])
def test_heads_train_compiled_for_any_size(grid: tuple[int, int], device: str) -> None:
    """Of three of these grids the tokenizer leaves one row, or one column."""
    conv, attention = ConvParams(kernel_size=4, stride=4), AttentionParams(attention_window=3)
    params = HeadParams(conv_params=conv, attn_params=attention, num_heads=2, intermediate_channels=8)
    heads = SharedScaleNA(2, 6, params).to(device)
    compiled, x = torch.compile(heads, dynamic=True, backend="aot_eager"), torch.randn(2, *grid, 6, device=device)
    x.requires_grad_()
    gradients = [torch.autograd.grad(program(x).square().sum(), x)[0] for program in (compiled, heads)]
    torch.testing.assert_close(*gradients)


def test_compiled_program_takes_a_mask(dimension: int, device: str) -> None:
    attention, x = Attention(window=3), tokens(dimension).to(device)
    mask = torch.arange(x[..., 0, 0].numel(), device=device).view(x.shape[:-2]) % 3 > 0
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, mask), attention(x, mask))


@torch.no_grad()
def test_flex_compiles_without_a_break(dimension: int, device: str) -> None:
    attention, x = Attention(window=3, backend="flex"), tokens(dimension).repeat_interleave(2, -1).to(device)
    mask = torch.arange(x[..., 0, 0].numel(), device=device).view(x.shape[:-2]) % 3 > 0
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    for key_mask in (None, mask):
        torch.testing.assert_close(compiled(x, key_mask), attention(x, key_mask), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_exported_program_takes_any_batch(dimension: int, options: dict[str, Any]) -> None:
    attention = Attention(**options)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(attention, (tokens(dimension),), dynamic_shapes={"x": {0: batch}})
    assert not any("eyetoy" in str(node.target) for node in program.graph.nodes)
    x = tokens(dimension, batch=5)
    torch.testing.assert_close(program.module()(x), attention(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS[:2], ids=str)
def test_onnx_runtime_gives_the_same(dimension: int, options: dict[str, Any], tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    attention, path = Attention(**options).eval(), tmp_path / "attention.onnx"
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(
        attention, (tokens(dimension),), dynamo=True, dynamic_shapes={"x": {0: batch}}, verbose=False
    )
    assert program is not None
    program.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = tokens(dimension, batch=5)
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), attention(x), rtol=1e-4, atol=1e-4)


def test_plans_are_made_on_fake_and_meta_devices(dimension: int) -> None:
    x = torch.empty(2, *GRIDS[dimension], 2, 8, device="meta")
    with torch.device("meta"):
        assert Attention(window=3)(x).shape == x.shape
    attention = Attention(window=3)
    y = tokens(dimension)
    with torch.device("meta"):  # a default device is not the device of the tokens
        out = attention(y)
    torch.testing.assert_close(out, attention(y))
