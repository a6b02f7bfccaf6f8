"""A detector or segmenter that starts from a run: what is loaded, what is not, and what is said of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from eyetoy import create_model
from eyetoy_image.dense.pyramids import build_pyramid
from eyetoy_image.detection import Detection, DetectionRecipe
from eyetoy_image.segmentation import Segmentation, SegmentationRecipe
from eyetoy_train import ModelRecipe, build_classifier
from helpers.dense import CLASSES, DETECTOR, SEGMENTER
from helpers.dense import MODEL as PICO


class Source:
    """Names of classes; data are not needed to build a model."""

    def __init__(self, classes):
        self.classes = self.categories = classes


def task_of(what: str, classes: list[str], *, weights: str | None = None, model: ModelRecipe = PICO, **changes):
    model = dataclasses.replace(model, weights=weights)
    if what == "detector":
        task = Detection(DetectionRecipe(model=model, detector=dataclasses.replace(DETECTOR, **changes)))
    else:
        task = Segmentation(SegmentationRecipe(model=model, segmenter=dataclasses.replace(SEGMENTER, **changes)))
    task.source = Source(classes)
    return task


def saved(folder: Path, kind: str, **options):
    """Save an untrained model as a checkpoint, and return it."""
    torch.manual_seed(1)
    model = task_of(kind, CLASSES, **options).build_model()
    model.save_pretrained(folder)
    (folder / "labels.json").write_text(json.dumps(CLASSES))
    return model


def rows(kind: str, weights: dict[str, torch.Tensor], names: list[str]) -> dict[str, dict[str, torch.Tensor]]:
    """The rows of every layer of classes, by the name of the class, cut by hand."""
    found = {}
    if kind == "detector":
        heads = "rcnn.roi_heads."
        for layer, size in (("box_predictor.cls_score", 1), ("box_predictor.bbox_pred", 4)):
            for part in ("weight", "bias"):
                value = weights[f"{heads}{layer}.{part}"]
                found[layer + part] = {n: value[size * i : size * (i + 1)] for i, n in enumerate(["none", *names])}
        value = weights[f"{heads}mask_predictor.mask_fcn_logits.weight"]
        found["mask"] = {name: value[i] for i, name in enumerate(["none", *names])}
        return found
    layers = [name for name in weights if name.startswith(("head.classify.", "auxiliary.2."))]
    return {layer: {name: weights[layer][i] for i, name in enumerate(names)} for layer in layers}


@pytest.mark.parametrize("classes", [CLASSES, ["cow", "cat", "dog"]])
@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_all_of_the_same_kind_is_loaded_and_classes_by_their_names(kind, classes, tmp_path, capsys):
    given = saved(tmp_path, kind).state_dict()
    started = task_of(kind, classes, weights=str(tmp_path)).build_model().state_dict()
    cut = rows(kind, given, CLASSES)
    for layer, by_name in rows(kind, started, classes).items():
        for name, value in by_name.items():
            assert torch.equal(value, cut[layer][name]), (layer, name)
    others = [name for name in given if not name.endswith(("weight", "bias")) or given[name].shape[0] not in (3, 4, 16)]
    assert len(others) > 50
    assert all(torch.equal(started[name], given[name]) for name in others)
    said = capsys.readouterr().out
    assert f"loaded from {tmp_path} ({kind}): encoder, norms of the stages, " in said
    assert "head" in said
    assert "not loaded" not in said


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
@pytest.mark.parametrize(
    ("classes", "why"),
    [
        (["cat", "dog", "ant"], "other classes: cow there alone, ant here alone"),
        (["cat"], "other classes: dog, cow there alone"),
    ],
)
def test_rows_of_other_classes_stay_new_and_this_is_said(kind, classes, why, tmp_path, capsys):
    given = saved(tmp_path, kind).state_dict()
    started = task_of(kind, classes, weights=str(tmp_path)).build_model().state_dict()
    for layer, by_name in rows(kind, started, classes).items():
        old = rows(kind, given, CLASSES)[layer]["cat"]
        assert not torch.equal(by_name["cat"], old) or not old.any(), layer  # biases begin with zeros
    said = capsys.readouterr().out
    assert f"the layers of the classes in the {'box head' if kind == 'detector' else 'head'} ({why})" in said
    neck = "rcnn.backbone.fpn.inner_blocks.0.0.weight" if kind == "detector" else "head.fusion.0.weight"
    assert torch.equal(started[neck], given[neck])


def test_without_names_of_the_classes_their_rows_stay_new(tmp_path, capsys):
    saved(tmp_path, "segmenter")
    (tmp_path / "labels.json").unlink()
    task_of("segmenter", CLASSES, weights=str(tmp_path)).build_model()
    assert "no labels.json beside the weights names their classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("detector", {"fpn_channels": 16}, "feature pyramid network (of another shape: "),
        ("detector", {"out_indices": [1], "anchor_sizes": [8, 16]}, "pyramid network (over the stages all there"),
        ("segmenter", {"kind": "linear"}, "in the head (there is no head.classify.0.weight)"),
        ("segmenter", {"out_indices": [1], "auxiliary_weight": 0.0}, "head (over the stages all there, [1] here)"),
    ],
)  # fmt: skip
def test_parts_of_another_shape_or_over_other_stages_stay_new(kind, changes, told, tmp_path, capsys):
    saved(tmp_path, kind)
    task_of(kind, CLASSES, weights=str(tmp_path), **changes).build_model()
    said = capsys.readouterr().out
    assert told in said
    assert f"loaded from {tmp_path} ({kind}): encoder" in said


@pytest.mark.parametrize(("kind", "other"), [("detector", "segmenter"), ("segmenter", "detector")])
def test_of_another_kind_the_encoder_alone_is_loaded(kind, other, tmp_path, capsys):
    given = saved(tmp_path, other).state_dict()
    started = task_of(kind, CLASSES, weights=str(tmp_path)).build_model().state_dict()
    name = "encoder.norm.weight"
    body = {"detector": "rcnn.backbone.body.", "segmenter": "backbone."}
    assert torch.equal(started[body[kind] + name], given[body[other] + name])
    assert f"(the weights are those of a {other})" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_a_classifier_starts_from_the_encoder_of_a_dense_predictor(kind, tmp_path, capsys):
    given = saved(tmp_path, kind).state_dict()
    started = build_classifier(dataclasses.replace(PICO, weights=str(tmp_path)), num_classes=3, classes=CLASSES)
    name = next(name for name in given if name.endswith("encoder.initial_proj.convs.0.weight"))
    assert torch.equal(started.encoder.initial_proj.convs[0].weight, given[name])
    assert "loaded from" in capsys.readouterr().out


TIMM = {
    "timm/test_convnext": {},
    "timm/test_efficientnet": {},
    "timm/test_resnet": {},
    "timm/vit_tiny_patch16_224": {"depth": 3, "embed_dim": 24, "num_heads": 2, "img_size": 32},
}


@pytest.mark.parametrize("name", TIMM)
def test_a_backbone_of_timm_starts_from_a_classifier(name, tmp_path):
    torch.manual_seed(1)
    recipe = ModelRecipe(name=name, options=TIMM[name])
    classifier = build_classifier(recipe, num_classes=3).eval()
    classifier.save_pretrained(tmp_path)
    pyramid, _ = build_pyramid(dataclasses.replace(recipe, weights=str(tmp_path)), None)
    x = torch.randn(1, 3, 32, 32)
    maps = {tuple(level.shape): level for level in pyramid.eval()(x)}
    # The same numbers as the classifier's own, by a way that timm has for them.
    expected = classifier.model.forward_intermediates(x, intermediates_only=True, norm=False)
    compared = [(maps[tuple(level.shape)], level) for level in expected if tuple(level.shape) in maps]
    assert compared
    torch.testing.assert_close(compared[-1][0], compared[-1][1])


@pytest.mark.parametrize("kind", ["detector", "segmenter"])
def test_a_dense_predictor_starts_from_another_with_the_same_backbone_of_timm(kind, tmp_path, capsys):
    model = ModelRecipe(name="timm/test_convnext")
    changes = {"anchor_sizes": [8, 16, 32, 64, 128]} if kind == "detector" else {}
    given = saved(tmp_path, kind, model=model, **changes).state_dict()
    started = task_of(kind, CLASSES, weights=str(tmp_path), model=model, **changes).build_model().state_dict()
    assert all(torch.equal(started[name], value) for name, value in given.items())
    assert "not loaded" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (ModelRecipe(name="timm/test_resnet"), "hold timm/test_convnext, and model.name is timm/test_resnet"),
        (ModelRecipe(name="timm/test_convnext", options={"dims": [24, 32, 48, 72]}), "do not fit the backbone"),
        (PICO, "are of another encoder"),
    ],
)  # fmt: skip
def test_another_backbone_is_refused_in_a_sentence(model, told, tmp_path):
    build_classifier(ModelRecipe(name="timm/test_convnext"), num_classes=3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=told):
        build_pyramid(dataclasses.replace(model, weights=str(tmp_path)), None)


def test_an_encoder_of_this_project_is_no_backbone_of_timm(tmp_path):
    create_model("eyetoy2d_pico", num_classes=3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="hold a classifier without a model of timm, and model.name is timm/test_res"):
        build_pyramid(ModelRecipe(name="timm/test_resnet", weights=str(tmp_path)), None)


@pytest.mark.parametrize("out_indices", [[0, 9], [1, 0], [], [1, 1], [-9]])
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("eyetoy2d_pico", r"0 \(64 channels, stride \d+\), 1 \(96 channels, stride \d+\)"),
        ("timm/test_convnext", r"0 \(24 channels, stride 4\), .*, 3 \(64 channels, stride 32\)"),
    ],
)
def test_stages_that_are_not_there_are_answered_by_those_that_are(name, known, out_indices):
    with pytest.raises(ValueError, match=f"out_indices must name stages of {name}.*; there are {known}; got"):
        build_pyramid(ModelRecipe(name=name), out_indices)


def test_fewer_blocks_than_timm_takes_by_itself_are_told(tmp_path):
    recipe = ModelRecipe(name="timm/vit_tiny_patch16_224", options={"depth": 2, "embed_dim": 24, "num_heads": 2})
    with pytest.raises(ValueError, match=r"there are 0 \(24 channels, stride 16\), 1 \(24 channels, stride 16\); got"):
        build_pyramid(recipe, None)
    _, channels = build_pyramid(recipe, [0, 1])
    assert channels == [24, 24]
