"""Detectors and segmenters as files: their kind, and folders from before there was one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from eyetoy_image.detection import DetectorRecipe
from eyetoy_image.detection.model import Detector, load_detector
from eyetoy_image.segmentation import SegmenterRecipe
from eyetoy_image.segmentation.model import Segmenter, load_segmenter
from eyetoy_train import ModelRecipe, load_model
from eyetoy_train.models.saved import KINDS

MODEL = {"name": "eyetoy2d_pico", "weights": None, "stem_strides": None, "drop_path": 0.0, "dropout": 0.0,
         "options": {}, "grad_checkpointing": False, "compile": False, "channels_last": False}  # fmt: skip
DETECTOR = {"kind": "faster_rcnn", "out_indices": None, "fpn_channels": 8, "anchor_sizes": [16, 32, 64],
            "anchor_ratios": [1.0], "proposals_train": 20, "proposals_eval": 10, "rpn_samples": 16, "roi_samples": 8,
            "box_head_channels": 8, "mask_head_channels": [8], "score_threshold": 0.0, "nms_threshold": 0.5,
            "max_detections": 5}  # fmt: skip
SEGMENTER = {"kind": "linear", "out_indices": None, "channels": 8, "pool_scales": [1, 2], "norm": "group",
             "dropout": 0.0, "auxiliary_weight": 0.0, "auxiliary_channels": 8, "dice_weight": 0.0}  # fmt: skip
OLD: dict[str, dict[str, Any]] = {
    "detector": {"model": MODEL, "detector": DETECTOR, "num_classes": 2, "sizes": [48, 64]},
    "segmenter": {"model": MODEL, "segmenter": SEGMENTER, "num_classes": 3},
}
"""Configs as they were written without a kind."""
LOAD = {"detector": load_detector, "segmenter": load_segmenter}
EVERY = {**KINDS, "detector": Detector.from_pretrained, "segmenter": Segmenter.from_pretrained}


def build(kind: str, *, aligned: bool = True) -> nn.Module:
    torch.manual_seed(0)
    model = ModelRecipe(name="eyetoy2d_pico")
    if kind == "detector":
        return Detector(model, DetectorRecipe(**DETECTOR), 2, (48, 64), aligned=aligned).eval()
    return Segmenter(model, SegmenterRecipe(**SEGMENTER), 3).eval()


def output(kind: str, model: nn.Module) -> torch.Tensor:
    image = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model([image])[0]["scores"] if kind == "detector" else model(image[None])


def write_old(kind: str, model: nn.Module, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(OLD[kind]))
    save_file(model.state_dict(), folder / "model.safetensors")


@pytest.mark.parametrize("kind", OLD)
def test_a_folder_without_a_kind_loads_as_before(kind, tmp_path):
    model = build(kind, aligned=False)
    write_old(kind, model, tmp_path)
    for loaded in (LOAD[kind](tmp_path), load_model(tmp_path, kinds=EVERY)):
        assert type(loaded) is type(model)
        assert not loaded.training
        assert len(output(kind, model))
        assert torch.equal(output(kind, loaded), output(kind, model))


@pytest.mark.parametrize("kind", OLD)
def test_a_kind_is_written_beside_the_keys_of_before(kind, tmp_path):
    model = build(kind)
    model.save_pretrained(tmp_path)
    new = {"aligned": True} if kind == "detector" else {}
    assert json.loads((tmp_path / "config.json").read_text()) == {"kind": kind, **OLD[kind], **new}
    assert torch.equal(output(kind, load_model(tmp_path, kinds=EVERY)), output(kind, model))
    assert torch.equal(output(kind, type(model).from_pretrained(tmp_path)), output(kind, model))


@pytest.mark.parametrize("is_old", [True, False])
@pytest.mark.parametrize(("kind", "other"), [("detector", "segmenter"), ("segmenter", "detector")])
def test_one_is_not_taken_for_the_other(kind, other, is_old, tmp_path):
    model = build(kind)
    if is_old:
        write_old(kind, model, tmp_path)
    else:
        model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"holds no {other}"):
        LOAD[other](tmp_path)
