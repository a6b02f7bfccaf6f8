"""Export every model with every exporter: `python benchmarks/exports.py`.

Each classifier is exported with a variable batch of 2, run with a batch of 5, and compared with itself; the table has
the largest difference of a logit, or the error. torch.compile must produce a single graph, for a batch of 5. ONNX runs
in onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from measuring import conditions, output_folder
from torch import Tensor, nn

from eyetoy import create_model, list_models
from eyetoy.presets import IN_CHANNELS

GRIDS = {1: (4000,), 2: (64, 64), 3: (4, 32, 32)}
DYNAMIC = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
Run = Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="*", help="a shell pattern (default: all)")
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    options = parser.parse_args()
    report: dict[str, Any] = {"conditions": conditions("cpu"), "differences": {}}
    for name in list_models(options.models):
        report["differences"][name] = check(name)
        print(name, report["differences"][name], flush=True)
        if options.output:
            path = options.output / "exports.json"
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


@torch.no_grad()
def check(name: str) -> dict[str, float | str]:
    torch.manual_seed(0)
    model = create_model(name, num_classes=10).eval()
    params = model.encoder.params
    small, large = (
        torch.randn(n, IN_CHANNELS[params.num_spatial_dims], *GRIDS[params.num_spatial_dims]) for n in (2, 5)
    )
    expected = model(large)
    found: dict[str, float | str] = {}
    for exporter, export in {"torch.export": exported, "torch.compile": compiled, "onnx": onnx}.items():
        try:
            found[exporter] = float(f"{(export(model, small)(large) - expected).abs().max().item():.1e}")
        except Exception as error:  # exporters raise errors of many types; each is a result of this table
            found[exporter] = f"{type(error).__name__}: {str(error)[:200]}"
    return found


def exported(model: nn.Module, x: Tensor) -> Run:
    return torch.export.export(model, (x,), dynamic_shapes=DYNAMIC).module()


def compiled(model: nn.Module, x: Tensor) -> Run:
    torch._dynamo.reset()  # graphs of earlier models count towards the limit of recompilations
    return torch.compile(model, fullgraph=True, backend="aot_eager")


def onnx(model: nn.Module, x: Tensor) -> Run:
    program = torch.onnx.export(model, (x,), dynamo=True, dynamic_shapes=DYNAMIC, verbose=False)
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        program.save(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


if __name__ == "__main__":
    main()
