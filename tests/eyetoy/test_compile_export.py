"""The operator in compiled and exported programs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eyetoy import (
    AttentionParams,
    ConvParams,
    Encoder,
    HeadParams,
    SharedScaleNA,
    create_encoder,
    create_model,
    neighborhood_attention,
)
from eyetoy.tracing import constant_in_graphs

pytestmark = pytest.mark.first

GRIDS = {1: (45,), 2: (9, 11), 3: (3, 5, 6)}


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor, key_mask: Tensor | None = None) -> Tensor:
        options = self.options
        if "dilation" in options:  # along one axis: each multiplies the parts of a graph, and the time to compile it
            options = options | {"dilation": (1,) * (x.ndim - 4) + (options["dilation"],)}
        return neighborhood_attention(x, 2 * x, x + 1, key_mask=key_mask, **options)


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


def test_constants_are_marked_as_pytorch_marks_them() -> None:
    """Its own decorator imports the compiler, so ours does what it does."""
    ours, theirs = (lambda: 1), (lambda: 1)
    assert constant_in_graphs(ours) is ours
    torch.compiler.assume_constant_result(theirs)
    assert vars(ours) == vars(theirs) != {}


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


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_compiles_without_a_break_off_the_cpu(dimension: int, options: dict[str, Any], masked: bool) -> None:
    x = torch.empty(2, *GRIDS[dimension], 2, 8, device="meta", requires_grad=True)
    mask = torch.ones(x.shape[:-2], dtype=torch.bool, device="meta") if masked else None
    out = torch.compile(Attention(**options), fullgraph=True, backend="aot_eager")(x, mask)
    assert out.shape == x.shape
    if not masked:  # PyTorch 2.14 loses the gradient of `torch.where` on meta; the next test has masks
        assert torch.autograd.grad(out.sum(), x)[0].shape == x.shape


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_what_compiles_off_the_cpu_computes_the_same(
    dimension: int, options: dict[str, Any], masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eyetoy.neighborhood.backends.tiled import attention as tiled

    attention, x = Attention(**options), tokens(dimension).requires_grad_()
    mask = torch.arange(x[..., 0, 0].numel()).view(x.shape[:-2]) % 3 > 0 if masked else None
    expected = attention(x, mask)
    monkeypatch.setattr(tiled, "_attend_kernel", tiled._attend_sdpa)
    out = torch.compile(attention, fullgraph=True, backend="aot_eager")(x, mask)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (out, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def example(model: nn.Module, dimension: int, *, batch: int = 2) -> Tensor:
    encoder = model if isinstance(model, Encoder) else model.encoder
    assert isinstance(encoder, Encoder)
    return torch.randn(batch, encoder.params.in_channels, *{1: (400,), 2: (32, 24), 3: (4, 16, 24)}[dimension])


def test_models_are_exported_strictly(dimension: int) -> None:
    model = create_model(f"eyetoy{dimension}d_pico", num_classes=3).eval()
    x = example(model, dimension)
    program = torch.export.export(model, (x,), strict=True)
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-4, atol=1e-5)


def test_exported_encoders_are_saved_and_loaded(dimension: int) -> None:
    encoder, file = create_encoder(f"eyetoy{dimension}d_pico").eval(), io.BytesIO()
    x = example(encoder, dimension)
    torch.export.save(torch.export.export(encoder, (x,)), file)
    file.seek(0)
    out = torch.export.load(file).module()(x)
    expected = encoder(x)
    assert type(out) is type(expected)
    torch.testing.assert_close(tuple(out), tuple(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [torch.export.Dim("size"), torch.export.Dim.DYNAMIC, torch.export.Dim.AUTO])
def test_dynamic_grids_are_refused_with_their_axes(dimension: int, kind: Any) -> None:
    axis = dimension - 1
    with pytest.raises(ValueError, match=rf"cannot be dynamic; those of grid axes \[{axis}\] of {dimension} are"):
        torch.export.export(Attention(window=3), (tokens(dimension),), dynamic_shapes={"x": {1 + axis: kind}})


@pytest.mark.filterwarnings("ignore")  # of PyTorch: tracing is deprecated, and holds for one size
@pytest.mark.parametrize("grad", [False, True])
def test_jit_traces_take_any_batch_and_need_no_eyetoy(dimension: int, grad: bool) -> None:
    model = create_model(f"eyetoy{dimension}d_pico", num_classes=3).eval()
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(model, (example(model, dimension),), check_trace=False)
        assert "eyetoy::" not in str(traced.inlined_graph)
        for batch in (2, 5):
            x = example(model, dimension, batch=batch)
            torch.testing.assert_close(traced(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_jit_traces_of_the_operator(dimension: int, backend: str, options: dict[str, Any]) -> None:
    attention, x = Attention(backend=backend, **options), tokens(dimension)
    mask = torch.arange(x[..., 0, 0].numel()).view(x.shape[:-2]) % 3 > 0
    for inputs in ((x,), (x, mask)):
        traced = torch.jit.trace(attention, inputs, check_trace=False)
        torch.testing.assert_close(traced(*inputs), attention(*inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_jit_traces_take_other_lengths(norm: str) -> None:
    model = create_model("eyetoy1d_pico", num_classes=3, changes={"norm": norm}).eval()
    traced = torch.jit.trace(model, (example(model, 1), torch.tensor([400, 150])), check_trace=False)
    x, lengths = example(model, 1, batch=3), torch.tensor([20, 400, 333])
    torch.testing.assert_close(traced(x, lengths), model(x, lengths), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "create",
    [
        create_encoder,
        lambda name: create_model(name, num_classes=3),
        lambda name: create_encoder(name, changes={"norm": "group"}),
    ],
)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_fx_traces_are_the_model(dimension: int, create: Any, checkpointing: bool) -> None:
    model = create(f"eyetoy{dimension}d_pico").eval()
    model.set_grad_checkpointing(checkpointing)
    x, traced = example(model, dimension), torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(x), model(x), rtol=0, atol=0)
    with pytest.raises(ValueError, match="traced by torch.fx takes no lengths"):
        traced(x, torch.tensor([9, 9]))


def test_torchvision_extracts_features(dimension: int) -> None:
    extraction = pytest.importorskip("torchvision.models.feature_extraction")
    model = create_model(f"eyetoy{dimension}d_pico", num_classes=3).eval()
    names = ["encoder.transformer.0.attention", "encoder.norm", "head"]
    x, found = example(model, dimension), extraction.create_feature_extractor(model, names)
    out = found(x)
    assert list(out) == names
    torch.testing.assert_close(out["head"], model(x), rtol=0, atol=0)
