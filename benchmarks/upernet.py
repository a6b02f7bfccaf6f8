"""Count parameters and operations of segmenters: `python benchmarks/upernet.py --output benchmarks/results`.

For UperNet of 512 channels over each backbone, with 150 classes and without the auxiliary head, which is for training
only: parameters, and floating-point operations, two for each multiply-add, on images of 512 x 512 and 512 x 2048
pixels; the "FLOPs" of papers are multiply-adds, half of these. Needs timm: `pip install -e ".[image,baselines]"`.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from measuring import conditions, output_folder

from eyetoy import count_flops
from eyetoy_image.segmentation import SegmenterRecipe
from eyetoy_image.segmentation.model import Segmenter
from eyetoy_train import ModelRecipe

MODELS = ("eyetoy2d_tiny", "timm/swin_tiny_patch4_window7_224", "timm/convnext_tiny")
NUM_CLASSES = 150
GRIDS = ((512, 512), (512, 2048))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    options = parser.parse_args()
    rows = {}
    for name in MODELS:
        rows[name] = describe(name)
        print(name, rows[name], flush=True)
    if options.output:
        result = {"upernet": rows, "conditions": conditions("cpu")}
        (options.output / "upernet.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def describe(name: str) -> dict[str, Any]:
    segmenter = Segmenter(ModelRecipe(name=name), SegmenterRecipe(auxiliary_weight=0.0), NUM_CLASSES).eval()
    return {
        "parameters": sum(parameter.numel() for parameter in segmenter.parameters()),
        "backbone_parameters": sum(parameter.numel() for parameter in segmenter.backbone.parameters()),
        "flops": {"x".join(map(str, grid)): count_flops(segmenter, (1, 3, *grid)) for grid in GRIDS},
    }


if __name__ == "__main__":
    main()
