"""Detectors and segmenters in Python answer exactly as predict.py does, and each names the call for another kind."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from eyetoy import Classifier, Encoder1D, Encoder2D, FeaturePyramid, create_encoder, create_model, create_pyramid
from eyetoy_image.detection import APP as DETECTION
from eyetoy_image.detection import DetectionPredictor
from eyetoy_image.segmentation import APP as SEGMENTATION
from eyetoy_image.segmentation import SegmentationPredictor
from eyetoy_train import ModelRecipe, build_classifier
from helpers.dense import CLASSES, save_run

KINDS = ("detector", "segmenter")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Untrained runs of a detector and a segmenter, and pictures, one of them transparent, gray and turned."""
    folder = tmp_path_factory.mktemp("predictors")
    torch.manual_seed(0)
    for kind in KINDS:
        save_run(kind, folder / kind, background=[200, 30, 90])
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 4), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "pictures").mkdir()
    Image.fromarray(pixels).save(folder / "pictures/1.png", exif=exif)
    Image.fromarray(pixels[..., :3]).save(folder / "pictures/2.jpg")
    return folder


@pytest.mark.parametrize("form", ["path", "text", "image", "array"])
def test_a_detector_answers_as_predict_does(workplace, form, tmp_path):
    pictures = sorted((workplace / "pictures").iterdir())
    DETECTION.predict([str(workplace / "detector"), *map(str, pictures), "--output", str(tmp_path / "found.json")])
    entries = json.loads((tmp_path / "found.json").read_text())
    predictor = DetectionPredictor.from_pretrained(workplace / "detector")
    for number, picture in enumerate(pictures, 1):
        expected = [entry for entry in entries if entry["image_id"] == number]
        found = predictor.predict(as_form(picture, form), threshold=0)
        assert found.labels == [CLASSES[entry["category_id"] // 10 - 1] for entry in expected]
        assert found.scores.tolist() == [entry["score"] for entry in expected]
        boxes = found.boxes.clone()
        boxes[:, 2:] -= boxes[:, :2]
        assert boxes.tolist() == [entry["bbox"] for entry in expected]
        height, width = (70, 50) if number == 1 else (50, 70)  # the first one is turned
        assert found.masks.shape == (len(expected), height, width)
        assert expected
    sure = predictor.predict(pictures[0], threshold=found.scores[0].item())
    assert (sure.scores >= found.scores[0]).all()
    assert len(predictor.predict(pictures[0], threshold=1.0).labels) == 0


@pytest.mark.parametrize("form", ["path", "text", "image", "array"])
def test_a_segmenter_answers_as_predict_does(workplace, form, tmp_path):
    pictures = sorted((workplace / "pictures").iterdir())
    SEGMENTATION.predict([str(workplace / "segmenter"), *map(str, pictures), "--output", str(tmp_path), "--maps"])
    predictor = SegmentationPredictor.from_pretrained(str(workplace / "segmenter"), device="cpu")
    for picture in pictures:
        found = predictor.predict(as_form(picture, form))
        assert found.labels.tolist() == np.asarray(Image.open(tmp_path / f"{picture.stem}.png")).tolist()
        assert found.classes == CLASSES


def as_form(picture, form):
    if form == "image":
        return Image.open(picture)
    if form == "array":
        pixels = np.asarray(Image.open(picture))
        return np.rot90(pixels, -1) if picture.suffix == ".png" else pixels  # an array has no orientation
    return str(picture) if form == "text" else picture


def test_what_is_no_picture_is_refused(workplace):
    predictor = SegmentationPredictor.from_pretrained(workplace / "segmenter")
    for wrong in (np.zeros((4, 4, 3)), np.zeros((3, 5, 6), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"pixels, uint8 \[height, width, 3\].*; got"):
            predictor.predict(wrong)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        SegmentationPredictor.from_pretrained(workplace / "pictures")


def test_each_predictor_names_the_other(workplace):
    with pytest.raises(
        ValueError, match=r"holds no segmenter: .*'detector', which .*detection.DetectionPredictor.from_p"
    ):
        SegmentationPredictor.from_pretrained(workplace / "detector")
    with pytest.raises(ValueError, match=r"holds no detector: .*'segmenter', which .*SegmentationPredictor.from_pretr"):
        DetectionPredictor.from_pretrained(workplace / "segmenter")


SAVED = {
    "classifier": lambda: create_model("eyetoy2d_pico", num_classes=2),
    "pyramid": lambda: create_pyramid("eyetoy2d_pico"),
    "encoder": lambda: create_encoder("eyetoy2d_pico"),
    "sound": lambda: create_encoder("eyetoy1d_pico"),
    "timm": lambda: build_classifier(ModelRecipe(name="timm/test_resnet"), num_classes=2),
}
CALLS = {
    "classifier": "eyetoy.Classifier.from_pretrained",
    "pyramid": "eyetoy.FeaturePyramid.from_pretrained",
    "encoder": "eyetoy.Encoder2D.from_pretrained",
    "sound": "eyetoy.Encoder1D.from_pretrained",
    "timm": "eyetoy_train.load_classifier",
    "detector": "eyetoy_image.detection.DetectionPredictor.from_pretrained",
    "segmenter": "eyetoy_image.segmentation.SegmentationPredictor.from_pretrained",
}


@pytest.mark.parametrize("reader", [Classifier, Encoder2D, Encoder1D, FeaturePyramid])
@pytest.mark.parametrize("kind", CALLS)
def test_the_core_names_the_call_that_reads_another_kind(kind, reader, workplace, tmp_path):
    folder = tmp_path
    if kind in SAVED:
        SAVED[kind]().save_pretrained(tmp_path)
    else:
        folder = workplace / kind
    if reader.kind == {"sound": "encoder"}.get(kind, kind):
        if (kind == "sound") == (reader is Encoder1D):
            assert isinstance(reader.from_pretrained(folder), reader)
        return
    with pytest.raises(RuntimeError, match=f"another kind than {reader.__name__}: .*, which {CALLS[kind]} reads"):
        reader.from_pretrained(folder)


def test_the_encoder_of_a_detector_is_loaded_where_its_parameters_are_given(workplace):
    with pytest.raises(RuntimeError, match=r"with params=encoder_params\('eyetoy2d_pico', ...\), strict=False"):
        Encoder2D.from_pretrained(workplace / "detector", strict=False)
    params = create_model("eyetoy2d_pico", num_classes=1, changes={"global_depth": 0}).encoder.params
    loaded = Encoder2D.from_pretrained(workplace / "detector", params=params, strict=False)
    detector = DetectionPredictor.from_pretrained(workplace / "detector").model
    for name, value in detector.rcnn.backbone.body.encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.cpu())
