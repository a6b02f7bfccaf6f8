"""Measure parameters, operations and memory of detectors: `python benchmarks/dense.py --output benchmarks/results`.

For Mask R-CNN over each backbone, on an image of 800 x 1280 pixels: parameters, and floating-point operations, two for
each multiply-add, of backbone, feature pyramid network and proposal head on the whole image, of the box head on 1,000
proposals and of the mask head on 100 detections, as in MMDetection 2; the "FLOPs" of papers are multiply-adds, half of
these. And, in a separate process, the largest memory and the time for detection on an image of 1333 x 800 pixels. Needs
timm: `pip install -e ".[image,baselines]"`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import Any

import torch
from measuring import conditions, output_folder
from torch import Tensor, nn

from eyetoy import count_flops
from eyetoy_image.detection import DetectorRecipe
from eyetoy_image.detection.model import BOX_GRID, MASK_GRID, Detector
from eyetoy_train import ModelRecipe
from eyetoy_train.utils.console import peak_memory_bytes

MODELS = ("eyetoy2d_tiny", "timm/swin_tiny_patch4_window7_224", "timm/convnext_tiny")
NUM_CLASSES = 80
SIZES = (800, 1333)
COUNTED = (1, 3, 800, 1280)
LOOKED_AT = (3, 800, 1333)
NUM_PROPOSALS, NUM_DETECTIONS = 1000, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    parser.add_argument("--look", choices=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look:
        print(json.dumps(look(options.look)))
        return
    rows = {}
    for name in MODELS:
        # The peak memory of a process never falls, so that each model needs a new one.
        rows[name] = describe(build(name)) | in_subprocess(name)
        print_row(name, rows[name])
    if options.output:
        result = {"mask_rcnn": rows, "conditions": conditions("cpu")}
        (options.output / "dense.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def build(name: str) -> Detector:
    return Detector(ModelRecipe(name=name), DetectorRecipe(), NUM_CLASSES, SIZES).eval()


class WholeImagePart(nn.Module):
    """Backbone, feature pyramid network and the head of the proposal network."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.backbone, self.head = detector.rcnn.backbone, detector.rcnn.rpn.head

    def forward(self, x: Tensor) -> Any:
        return self.head(list(self.backbone(x).values()))


def describe(detector: Detector) -> dict[str, Any]:
    heads, width = detector.rcnn.roi_heads, detector.rcnn.backbone.out_channels
    box, mask = nn.Sequential(heads.box_head, heads.box_predictor), nn.Sequential(heads.mask_head, heads.mask_predictor)
    flops = {
        "picture": count_flops(WholeImagePart(detector), COUNTED),
        "boxes": count_flops(box, (NUM_PROPOSALS, width, BOX_GRID, BOX_GRID)),
        "masks": count_flops(mask, (NUM_DETECTIONS, width, MASK_GRID, MASK_GRID)),
    }
    return {
        "parameters": count(detector),
        "backbone_parameters": count(detector.rcnn.backbone.body),
        "flops": sum(flops.values()),
        "flops_of": flops,
    }


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def in_subprocess(name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--look", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def look(name: str) -> dict[str, Any]:
    """Detect objects once. All detections are kept, whatever their score: an untrained model has none above it."""
    torch.manual_seed(0)
    recipe = DetectorRecipe(score_threshold=0.0)
    detector = Detector(ModelRecipe(name=name), recipe, NUM_CLASSES, SIZES).eval()
    started = time.perf_counter()
    with torch.inference_mode():
        (found,) = detector([torch.rand(LOOKED_AT)])
    seconds = time.perf_counter() - started
    return {
        "peak_bytes": peak_memory_bytes(torch.device("cpu")),
        "seconds": round(seconds, 2),
        "detections": len(found["boxes"]),
    }


def print_row(name: str, row: dict[str, Any]) -> None:
    print(
        f"{name:36s} {row['parameters'] / 1e6:5.1f} M (backbone {row['backbone_parameters'] / 1e6:4.1f} M)  "
        f"{row['flops'] / 1e9:6.1f} GFLOPs ({row['flops'] / 2e9:5.1f} G multiply-adds)  "
        f"{row['peak_bytes'] / 1e9:4.2f} GB, {row['seconds']:.1f} s, {row['detections']} detections",
        flush=True,
    )


if __name__ == "__main__":
    main()
