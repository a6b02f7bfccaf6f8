"""A detector as it is exported gives the objects of the detector itself, number by number."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from eyetoy_image.detection.comparison import export_detector, object_differences
from eyetoy_image.detection.model import Detector
from eyetoy_image.detection.portable import PortableDetector
from eyetoy_train import ModelRecipe, UnreadableFileError

PICO = ModelRecipe(name="eyetoy2d_pico")


def make_detector(recipe, **changes) -> Detector:
    """Return a detector whose scores differ from each other, unlike those of new weights."""
    torch.manual_seed(0)
    detector = Detector(PICO, dataclasses.replace(recipe, **changes), num_classes=2, sizes=(64, 96)).eval()
    head, rpn = detector.rcnn.roi_heads.box_predictor, detector.rcnn.rpn.head
    for layer in (head.cls_score, head.bbox_pred, rpn.cls_logits, rpn.bbox_pred):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return detector


def picture(*grid: int):
    return torch.randint(256, (*grid, 3), generator=torch.Generator().manual_seed(sum(grid)), dtype=torch.uint8)


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize(
    "changes", [{}, {"kind": "faster_rcnn"}, {"out_indices": [1], "anchor_sizes": [16, 32]}], ids=str
)
@pytest.mark.parametrize(("grid", "canvas"), [((64, 64), (64, 64)), ((30, 45), (64, 96)), ((200, 140), (96, 64))])
def test_the_objects_are_those_of_the_detector_itself(small_detector, changes, grid, canvas):
    """On a canvas of the size to which the detector itself pads such a picture."""
    detector, x = make_detector(small_detector, **changes), picture(*grid)
    (expected,) = detector([x.movedim(-1, 0) / 255])
    actual = PortableDetector(detector, canvas)(x)
    assert len(expected["boxes"]) > 1
    expected = [value[:, 0] if name == "masks" else value for name, value in expected.items()]
    for one, other in zip(expected, actual, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("no_grad")
def test_more_padding_is_that_of_a_batch_with_larger_pictures(small_detector):
    detector, x = make_detector(small_detector), picture(70, 40)
    larger = [torch.zeros(3, *grid) for grid in ((64, 96), (96, 64))]
    expected = detector([x.movedim(-1, 0) / 255, *larger])[0]
    model = export_detector(detector)
    assert model.input.preprocessing["canvas"] == [96, 96]
    for outputs in (model.module(x), model.original(x)):
        torch.testing.assert_close(outputs[0], expected["boxes"], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(outputs[3], expected["masks"][:, 0], rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("no_grad")
@pytest.mark.parametrize("grid", [(70, 40), (300, 30), (1, 9), (31, 200), (3, 900)])
def test_a_picture_is_made_smaller_until_it_fits_the_canvas(small_detector, grid):
    model = export_detector(make_detector(small_detector), (64, 32))
    differences = object_differences(model.original(picture(*grid)), model.module(picture(*grid)))
    assert len(differences)
    assert differences.max() < 1e-4


@pytest.mark.usefixtures("no_grad")
def test_without_objects_the_outputs_are_empty(small_detector):
    detector = make_detector(small_detector, score_threshold=0.9999)
    boxes, labels, scores, masks = PortableDetector(detector, (64, 64))(picture(40, 50))
    assert (boxes.shape, labels.shape, scores.shape, masks.shape) == ((0, 4), (0,), (0,), (0, 40, 50))


@pytest.mark.usefixtures("no_grad")
def test_strides_of_levels_do_not_depend_on_the_first_picture(small_detector):
    """Of 40 x 96 in 64 x 96 torchvision would infer strides of 2 and 4, also for the second one."""
    first, second = picture(40, 96).movedim(-1, 0) / 255, picture(64, 64).movedim(-1, 0) / 255
    fresh, used = make_detector(small_detector), make_detector(small_detector)
    used([first])
    torch.testing.assert_close(used([second])[0]["scores"], fresh([second])[0]["scores"])
    assert used.rcnn.roi_heads.mask_roi_pool.scales == [1 / 4, 1 / 8]


def test_a_canvas_of_no_multiples_of_32_is_refused(small_detector):
    with pytest.raises(ValueError, match=r"must be multiples of 32; got 100x64: take 128x64"):
        export_detector(make_detector(small_detector), (100, 64))


def test_a_file_that_is_no_picture_is_refused(small_detector, tmp_path):
    (tmp_path / "notes.png").write_text("none")
    with pytest.raises(UnreadableFileError, match=r"notes\.png"):
        export_detector(make_detector(small_detector), check_on=[tmp_path / "notes.png"])


def found(*rows: tuple[float, int, float]):
    boxes = torch.tensor([[x, 0, x + 10, 10] for x, _, _ in rows]).reshape(-1, 4)
    return boxes, torch.tensor([label for _, label, _ in rows]), torch.tensor([score for _, _, score in rows])


@pytest.mark.parametrize(
    ("expected", "actual", "differences"),
    [
        ([(0, 1, 0.5), (90, 2, 0.5)], [(90, 2, 0.5), (0, 1, 0.5)], [0, 0]),  # in another order
        ([(0, 1, 0.5)], [(0, 1, 0.75)], [0.25]),
        ([(90, 1, 0.5)], [(80, 1, 0.5)], [0.1]),  # 10 pixels of 100
        ([(0, 1, 0.5)], [(0, 2, 0.5)], [torch.inf, torch.inf]),  # another class
        ([(0, 1, 0.5)], [], [torch.inf]),
        ([], [(0, 1, 0.5)], [torch.inf]),
        ([(0, 1, 0.5)], [(0, 1, torch.nan)], [torch.inf, torch.inf]),
        ([(0, 1, 0.5)], [(0, 1, 0.5), (0, 1, 0.5)], [0, torch.inf]),  # one twice
        ([], [], []),
    ],
)
def test_every_object_is_compared_with_its_nearest(expected, actual, differences):
    torch.testing.assert_close(object_differences(found(*expected), found(*actual)), torch.tensor(differences).float())


def test_masks_are_compared_too():
    masks = torch.zeros(1, 10, 10)
    assert object_differences((*found((0, 1, 0.5)), masks), (*found((0, 1, 0.5)), masks + 0.25)).tolist() == [0.25]
