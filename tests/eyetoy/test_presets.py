"""Named models are what their docstrings say, and can all be trained, saved and exported."""

from __future__ import annotations

import dataclasses
import math
import re
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from eyetoy import Classifier, Encoder2D, SharedScaleNA, count_flops, create_encoder, create_model
from eyetoy.neighborhood.backends.registry import VARIABLE
from eyetoy.presets import MODELS

pytestmark = pytest.mark.first

GRIDS = {1: (2048,), 2: (128, 128), 3: (4, 64, 64)}
"""Large enough that every scale of every stage has tokens that no padding hides."""
SIZES = {"nano": (2.5e6, 3.5e6), "tiny": (26e6, 30e6), "small": (47e6, 53e6), "base": (85e6, 95e6)}
FIGURES = re.compile(r"([\d.]+) M parameters, ([\d.]+) GFLOPs at ([\d,]+(?: \S [\d,]+)+)")


def batch(model: Classifier, size: int = 2) -> torch.Tensor:
    params = model.encoder.params
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size, params.in_channels, *GRIDS[params.num_spatial_dims], generator=generator)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_docstring_states_parameters_and_flops(name: str) -> None:
    stated = FIGURES.search(MODELS[name].__doc__ or "")
    assert stated, "a docstring states parameters, GFLOPs and the input they are of"
    shape = [int(size.replace(",", "")) for size in re.findall(r"[\d,]+", stated[3])]
    with torch.device("meta"):
        encoder = create_encoder(name)
    parameters = sum(p.numel() for p in encoder.parameters())
    assert parameters / 1e6 == pytest.approx(float(stated[1]), abs=0.051)
    assert count_flops(encoder, (1, *shape)) / 1e9 == pytest.approx(float(stated[2]), rel=0.01, abs=0.0051)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_alike_in_every_dimension(dimension: int, size: str) -> None:
    with torch.device("meta"):
        encoder = create_encoder(f"eyetoy{dimension}d_{size}")
    least, most = SIZES[size]
    assert least <= sum(p.numel() for p in encoder.parameters()) <= most


def test_nat_tiny_costs_what_its_paper_says() -> None:
    """28 M parameters and 4.3 G multiply-adds (Hassani et al., CVPR 2023, table 3)."""
    with torch.device("meta"):
        model = create_model("nat_tiny", num_classes=1000)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(28, abs=0.5)
    assert count_flops(model, (1, 3, 224, 224)) / 2e9 == pytest.approx(4.3, abs=0.05)


def test_flops_are_those_of_the_rule(dimension: int, encoders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference backend attends element by element, which PyTorch's counter leaves to us to add."""
    dilated = encoders.block(
        heads=(encoders.head_group(window=3, dilation=2), encoders.head_group(stride=2, window=99))
    )
    untokenized = encoders.block(heads=(dataclasses.replace(encoders.head_group(window=3), conv_params=None),))
    params = encoders.encoder_params(dimension, transformer=(dilated, untokenized))
    model = Classifier(params, num_classes=3).eval()
    grid = {1: (46,), 2: (14, 18), 3: (6, 10, 12)}[dimension]
    counted = count_flops(model, (2, 3, *grid))
    monkeypatch.setenv(VARIABLE, "reference")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(torch.randn(2, 3, *grid))
    tokens = [-(-n // 2) for n in grid]  # after the stem
    coarse = math.prod(-(-n // 2) for n in tokens)
    windows = math.prod(min(3, -(-n // 2)) for n in tokens), coarse, math.prod(min(3, n) for n in tokens)
    queries = math.prod(tokens), coarse, math.prod(tokens)
    attention = sum(4 * 2 * 6 * n * keys for n, keys in zip(queries, windows, strict=True))  # batch 2, 6 channels
    assert counted == counter.get_total_flops() + attention


def test_flops_of_any_dtype_and_of_a_group_alone(encoders: Any) -> None:
    model = Encoder2D(encoders.encoder_params(2))
    assert count_flops(model.to(torch.bfloat16), (1, 3, 32, 32)) == count_flops(model.float(), (1, 3, 32, 32))
    group = SharedScaleNA(1, 6, encoders.head_group(window=3))
    assert count_flops(group, (1, 10, 6)) == 2 * 10 * (6 * 6 + 6 * 18 + 2 * 3 * 6)


def test_counting_leaves_the_model_as_it_was(encoders: Any) -> None:
    model = Encoder2D(encoders.encoder_params(2))
    before = model(torch.ones(1, 3, 9, 9)).features
    count_flops(model, (1, 3, 64, 64))
    assert model.training
    assert torch.equal(model(torch.ones(1, 3, 9, 9)).features, before)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that is a folder: what huggingface_hub's calls upload lands there, and is downloaded from there."""

    class FolderApi:
        def __init__(self, token: object = None) -> None:
            pass

        def create_repo(self, repo_id: str, **_: object) -> SimpleNamespace:
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, repo_id: str, folder_path: Path, **_: object) -> str:
            shutil.copytree(folder_path, tmp_path / repo_id)
            return repo_id

    def download(repo_id: str, filename: str, **_: object) -> str:
        return str(tmp_path / repo_id / filename)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", FolderApi)
    for module in ("huggingface_hub.hub_mixin", "eyetoy.hub"):
        monkeypatch.setattr(f"{module}.hf_hub_download", download)
    return tmp_path


def test_a_shared_model_comes_back_bit_equal(dimension: int, hub: Path) -> None:
    model = create_model(f"eyetoy{dimension}d_pico", num_classes=5).eval()
    model.push_to_hub("someone/something")
    assert {path.suffix for path in (hub / "someone" / "something").iterdir()} == {".safetensors", ".json", ".md"}
    x = batch(model, size=1)
    with torch.no_grad():
        assert torch.equal(Classifier.from_pretrained("someone/something")(x), model(x))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_loads_bit_equal_and_every_parameter_learns(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=5)
    model(batch(model)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    model.zero_grad()
    model.eval().save_pretrained(tmp_path)
    x = batch(model, size=1)
    with torch.no_grad():
        assert torch.equal(Classifier.from_pretrained(tmp_path)(x), model(x))
    for path in tmp_path.iterdir():  # gigabytes, in all
        path.unlink()


@pytest.mark.parametrize("norm", ["layer", "group"])
@torch.no_grad()
def test_exports_with_any_batch(dimension: int, tmp_path: Path, norm: str) -> None:
    """`benchmarks/exports.py` tries every size; this is the smallest of each dimension."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model = create_model(f"eyetoy{dimension}d_pico", num_classes=5, changes={"norm": norm}).eval()
    dynamic = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    x = batch(model, size=5)
    program = torch.export.export(model, (x[:2],), dynamic_shapes=dynamic)
    torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-5)
    if norm == "group" and dimension > 1:  # half a minute each, for the same operations along more axes
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own code
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
    assert exported is not None
    exported.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(x), rtol=1e-4, atol=1e-4)


def test_compiles_to_one_graph(dimension: int) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = create_model(f"eyetoy{dimension}d_pico", num_classes=5)
    x = batch(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("size", ["pico", "nano"])
def test_zeros_do_not_blow_gradients_up(dimension: int, size: str) -> None:
    """Silence, padding and erased rectangles are zeros to the last bit."""
    grid, norms = {1: (4000,), 2: (48, 48), 3: (8, 32, 32)}[dimension], []
    for share in (1.0, 0.3):
        torch.manual_seed(0)
        model = create_model(f"eyetoy{dimension}d_{size}", num_classes=2)
        x = torch.randn(2, model.encoder.params.in_channels, *grid)
        x[..., round(share * grid[-1]) :] = 0
        torch.nn.functional.cross_entropy(model(x), torch.tensor([0, 1])).backward()
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])))
    assert norms[1] < 3 * norms[0]


@torch.inference_mode()
def test_a_million_samples_of_sound():
    model = create_model("eyetoy1d_pico", num_classes=2).eval()
    assert model(torch.randn(1, 1, 1_000_000)).isfinite().all()
