"""Where anchors and boxes lie, to a fraction of a pixel, and from which map a box gets its features."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from eyetoy_image.detection.boxes import Anchors, LevelPooling
from eyetoy_image.detection.model import Detector
from eyetoy_train import ModelRecipe

SIZES = (600, 1000)


def random_detector(recipe, **options):
    torch.manual_seed(0)
    return Detector(ModelRecipe(name="eyetoy2d_pico", **options), recipe, num_classes=2, sizes=SIZES).eval()


@pytest.fixture(scope="module")
def detector(small_detector):
    return random_detector(small_detector)


@pytest.fixture(scope="module")
def picture():
    return torch.rand(3, 600, 1000)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_boxes_are_not_rounded_in_mixed_precision(detector, picture, dtype):
    """From 512 to 1024, bfloat16 has multiples of 4 alone, and float16 halves."""
    with torch.no_grad(), torch.autocast("cpu", dtype):
        (found,) = detector([picture])
        seen, _ = detector.rcnn.transform([picture])
        (proposals,), _ = detector.rcnn.rpn(seen, detector.rcnn.backbone(seen.tensors))
    for boxes in (found["boxes"], proposals):
        inner = boxes[(boxes > 512) & (boxes < 999)]
        assert len(inner)
        assert boxes.dtype == torch.float32
        assert (inner != inner.to(dtype)).float().mean() > 0.9


def test_a_detector_of_float64_finds_boxes_of_float64(small_detector, picture):
    detector = random_detector(small_detector).double()
    with torch.no_grad():
        (found,) = detector([picture[:, :64, :96].double()])
    assert found["boxes"].dtype == torch.float64
    assert len(found["boxes"])


def test_anchors_are_those_of_float32_whatever_the_precision_of_the_maps():
    anchors = Anchors([33, 77], [0.5, 1.0, 2.0], [4, 8])
    images = ImageList(torch.zeros(2, 3, 64, 800), [(64, 800)] * 2)
    maps = [torch.zeros(2, 1, 64 // stride, 800 // stride) for stride in (4, 8)]
    low = anchors(images, [x.bfloat16() for x in maps])
    for one, other in zip(low, anchors(images, maps), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("stem_strides", [[2, 2], [3], [2, 3]])
@pytest.mark.parametrize("size", [(416, 640), (64, 800)])
def test_anchors_of_every_level_are_a_stride_apart(small_detector, stem_strides, size):
    detector = random_detector(small_detector, stem_strides=stem_strides)
    image = torch.zeros(1, 3, *size)
    with torch.no_grad():
        maps = [*detector.rcnn.backbone(image).values()]
        (found,) = detector.rcnn.rpn.anchor_generator(ImageList(image, [size]), maps)
    finest = math.prod(stem_strides)
    expected = [
        (column * stride, row * stride)
        for level, stride in enumerate((finest, 2 * finest, 4 * finest))
        for row in range(maps[level].shape[2])
        for column in range(maps[level].shape[3])
        for _ in small_detector.anchor_ratios
    ]
    assert torch.equal((found[:, :2] + found[:, 2:]) / 2, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize(
    ("strides", "expected"),
    [
        ([4, 8, 16, 32], [4, 4, 8, 8, 16, 16, 32, 32]),
        ([4, 16, 32], [4, 4, 4, 4, 16, 16, 32, 32]),
        ([8, 32], [8, 8, 8, 8, 8, 8, 32, 32]),
        ([3, 6, 12, 24], [3, 6, 12, 12, 24, 24, 24, 24]),
        ([16], [16] * 8),
    ],
)
def test_a_box_has_the_features_of_the_level_that_suits_its_size(strides, expected):
    """A box of 224 pixels suits the stride of 16 (Lin et al., 2017), one half as large that of 8."""
    maps = {str(level): torch.full((1, 1, 2048 // s, 2048 // s), float(s)) for level, s in enumerate(strides)}
    sides = [20, 111, 112, 223, 224, 447, 448, 1500]
    boxes = torch.tensor([[100.0, 100, 100 + side, 100 + side] for side in sides])
    pooled = LevelPooling(strides, 7)(maps, [boxes], [(2048, 2048)])
    assert pooled.amin((1, 2, 3)).tolist() == pytest.approx(expected)
    assert pooled.amax((1, 2, 3)).tolist() == pytest.approx(expected)


def test_other_strides_along_the_height_than_along_the_width_are_refused(small_detector):
    with pytest.raises(ValueError, match=r"same stride along height and width; one has \(4, 8\)"):
        random_detector(small_detector, stem_strides=[[4, 8]])
