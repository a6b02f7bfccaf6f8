"""Masks and features of objects are at the objects' place, to a fraction of a pixel."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection import roi_heads
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads

from eyetoy_image.detection.boxes import LevelPooling
from eyetoy_image.detection.heads import mask_targets, paste_masks
from eyetoy_image.detection.model import Detector, InputTransform
from eyetoy_train import ModelRecipe

SIDE = 28


def ellipses(count, height, width):
    """Masks of filled ellipses, and boxes around them that are up to half a pixel off."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.rand(count, 2, generator=generator) * torch.tensor([width - 40, height - 40]) + 20
    radii = torch.rand(count, 2, generator=generator) * 10 + 6
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    off = (torch.stack([x, y], -1) - centers[:, None, None]) / radii[:, None, None]
    jitter = torch.rand(count, 4, generator=generator) - 0.5
    return ((off**2).sum(-1) <= 1).to(torch.uint8), torch.cat([centers - radii, centers + radii], 1) + jitter


def test_masks_of_small_objects_come_back_whole():
    """By torchvision's own targets and pasting the mean is 91 %."""
    masks, boxes = ellipses(200, 120, 160)
    back = paste_masks(mask_targets(masks, boxes, torch.arange(200), SIDE), boxes, 120, 160) >= 0.5
    found, masks = back.flatten(1), masks.flatten(1).bool()
    overlap = (found & masks).sum(1) / (found | masks).sum(1)
    assert overlap.min() > 0.95
    assert overlap.mean() > 0.99


def test_the_target_of_a_box_with_a_cell_for_each_pixel_is_the_mask():
    masks = (torch.rand(2, 50, 60) > 0.5).to(torch.uint8)
    boxes = torch.tensor([[10.0, 12, 38, 40], [0.0, 0, 28, 28], [32.0, 22, 60, 50]])
    found = mask_targets(masks, boxes, torch.tensor([1, 0, 1]), SIDE)
    assert torch.equal(found, torch.stack([masks[1, 12:40, 10:38], masks[0, :28, :28], masks[1, 22:, 32:]]).float())


@given(
    box=st.tuples(*[st.floats(-10, 40)] * 2, *[st.floats(0.5, 50)] * 2),
    grid=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_masks_are_pasted_as_pixels_are_sampled(box, grid):
    """As `grid_sample` does, at the middle of every pixel."""
    height, width = grid
    left, top, wide, high = box
    mask = torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    y = (torch.arange(height) + 0.5 - top) / high * 2 - 1
    x = (torch.arange(width) + 0.5 - left) / wide * 2 - 1
    places = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)
    expected = F.grid_sample(mask[None], places[None], align_corners=False)[0]
    found = paste_masks(mask, torch.tensor([[left, top, left + wide, top + high]]), height, width)
    assert torch.allclose(found, expected, atol=2e-4)


def test_no_object_has_no_mask():
    none = torch.zeros(0, 4)
    assert paste_masks(torch.zeros(0, SIDE, SIDE), none, 5, 7).shape == (0, 5, 7)
    assert mask_targets(
        torch.zeros(0, 5, 7, dtype=torch.uint8), none, torch.zeros(0, dtype=torch.long), SIDE
    ).shape == (0, SIDE, SIDE)


def test_features_are_those_at_the_place_of_the_box_on_every_level():
    """Each map holds the coordinate of its cells' middles, so the features must be those of the box's cells."""
    strides, grid = [4, 8, 16, 32], 7
    maps = {}
    for level, stride in enumerate(strides):
        along = (torch.arange(1024 // stride) + 0.5) * stride
        maps[str(level)] = torch.stack([along.expand(len(along), -1), along[:, None].expand(-1, len(along))])[None]
    boxes = torch.tensor([[300.0, 301, 331, 350], [190, 200, 320, 340], [201, 99, 450, 352], [100, 110, 700, 800]])
    found = LevelPooling(strides, grid)(maps, [boxes])
    cells = (torch.arange(grid) + 0.5) / grid
    for box, features in zip(boxes, found, strict=True):
        x, y = (box[axis] + cells * (box[axis + 2] - box[axis]) for axis in (0, 1))
        assert torch.allclose(features[0], x.expand(grid, grid), atol=1e-2)
        assert torch.allclose(features[1], y[:, None].expand(grid, grid), atol=1e-2)


def test_features_of_older_detectors_are_half_a_stride_beside_the_box():
    ramp = {"0": (torch.arange(64.0) * 4 + 2).expand(1, 1, 64, 64)}
    box = torch.tensor([[100.0, 100, 128, 128]])
    own, former = (LevelPooling([4], 7, aligned=aligned)(ramp, [box]) for aligned in (True, False))
    assert torch.allclose(former - own, torch.tensor(2.0))


def test_features_keep_the_order_of_images_and_boxes():
    maps = {"0": torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 64, 64), "1": torch.full((2, 1, 32, 32), 9.0)}
    small, large = [10.0, 10, 20, 20], [0.0, 0, 250, 250]
    boxes = [torch.tensor([large, small]), torch.tensor([small, large, small])]
    found = LevelPooling([4, 8], 7)(maps, boxes).mean((1, 2, 3))
    assert found.tolist() == pytest.approx([9, 0, 1, 9, 1])


@pytest.mark.parametrize("short_side", [33, 117])
def test_masks_for_the_losses_of_an_evaluation_are_not_moved(short_side):
    transform, off = InputTransform((short_side, 400)).eval(), []
    for start in range(20, 35):
        masks = torch.zeros(1, 80, 90, dtype=torch.uint8)
        masks[:, start : start + 30, start : start + 30] = 1
        boxes = torch.tensor([[start, start, start + 30, start + 30]], dtype=torch.float32)
        (_, targets) = transform([torch.zeros(3, 80, 90)], [{"boxes": boxes, "masks": masks}])
        (target,) = targets
        rows, columns = (target["masks"][0].any(axis).nonzero() for axis in (1, 0))
        extents = [float(columns.min()), float(rows.min()), float(columns.max()) + 1, float(rows.max()) + 1]
        off.append(torch.tensor(extents) - target["boxes"][0])
    assert torch.stack(off).mean().abs() < 0.1


@pytest.fixture(params=["mask_rcnn", "faster_rcnn"])
def detector(request, small_detector):
    torch.manual_seed(0)
    recipe = replace(small_detector, kind=request.param)
    return Detector(ModelRecipe(name="eyetoy2d_pico"), recipe, num_classes=2, sizes=(64, 96))


def test_all_but_the_targets_of_masks_is_torchvisions(detector, monkeypatch):
    monkeypatch.setattr(
        roi_heads,
        "project_masks_on_boxes",
        lambda masks, boxes, objects, side: mask_targets(masks, boxes, objects, side),
    )
    heads = detector.rcnn.roi_heads
    images = torch.rand(2, 3, 64, 96)
    masks = torch.zeros(2, 64, 96, dtype=torch.uint8)
    masks[0, 10:30, 20:50] = masks[1, 5:60, 30:90] = 1
    boxes = torch.tensor([[20.0, 10, 50, 30], [30.0, 5, 90, 60]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "masks": masks[:0]},
    ]
    maps = detector.rcnn.backbone(images)
    shapes = [(64, 96)] * 2
    for training in (True, False):
        detector.train(training)
        proposals, _ = detector.rcnn.rpn(ImageList(images, shapes), maps, targets)
        torch.manual_seed(1)
        found, losses = heads(maps, proposals, shapes, targets)
        torch.manual_seed(1)
        expected, others = RoIHeads.forward(heads, maps, proposals, shapes, targets)
        assert losses.keys() == others.keys()
        assert all(torch.equal(losses[name], others[name]) for name in losses)
        assert losses.get("loss_mask") != 0
        assert len(found) == len(expected) == (0 if training else 2)
        for one, other in zip(found, expected, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_image_without_objects_gives_the_mask_head_no_loss(detector):
    detector.train()
    target = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.long),
        "masks": torch.zeros(0, 64, 96, dtype=torch.uint8),
    }
    losses = detector([torch.rand(3, 64, 96)], [target])
    assert ("loss_mask" in losses) == detector.rcnn.roi_heads.has_mask()
    assert losses.get("loss_mask", 0) == 0
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()


def test_masks_that_are_found_are_placed_in_float32(detector):
    """Under autocast a product of matrices has the precision of bfloat16."""
    if not detector.rcnn.roi_heads.has_mask():
        pytest.skip("has no masks")
    boxes, masks = torch.tensor([[3.3, 4.4, 40.1, 50.2]]), torch.rand(1, 1, SIDE, SIDE)
    found = {"boxes": boxes, "labels": torch.tensor([1]), "scores": torch.ones(1), "masks": masks}
    with torch.autocast("cpu", torch.bfloat16):
        (placed,) = detector.eval().rcnn.transform.postprocess([found], [(64, 96)], [(64, 96)])
    assert placed["masks"].dtype == torch.float32
    assert torch.equal(placed["masks"][:, 0], paste_masks(masks[:, 0], boxes, 64, 96))


def test_levels_of_several_dtypes_give_features_of_the_first():
    maps = {"0": torch.ones(1, 1, 64, 64, dtype=torch.bfloat16), "1": torch.full((1, 1, 32, 32), 9.0)}
    boxes = torch.tensor([[0.0, 0, 250, 250], [10, 10, 20, 20]])
    with torch.autocast("cpu", torch.bfloat16):
        found = LevelPooling([4, 8], 7)(maps, [boxes])
    assert found.dtype == torch.bfloat16
    assert found.mean((1, 2, 3)).tolist() == [9, 1]
