"""Boxes and masks over pictures."""

from __future__ import annotations

import torch

from eyetoy_image.detection.figures import Objects, draw_objects
from eyetoy_image.figures import tile


def test_masks_tint_their_pixels_those_that_two_share_too_and_no_others():
    image = torch.full((3, 60, 80), 100, dtype=torch.uint8)
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[0, 25:45, 15:45], masks[1, 25:45, 35:65] = True, True
    boxes = torch.tensor([[10.0, 10, 50, 50], [30, 10, 70, 50]])
    drawn = draw_objects(image, Objects(boxes, torch.tensor([1, 2]), ["", ""], masks))
    one, both, other = (drawn[:, 35, x].tolist() for x in (20, 40, 60))
    assert one != other
    assert one != both != other
    assert min(sum(color) for color in (one, both, other)) > 100
    assert drawn[:, 57, 5].tolist() == [100] * 3
    assert (drawn[:, 10, 20] != 100).any()  # the box's line
    assert torch.equal(image, torch.full_like(image, 100))


def test_a_small_picture_is_enlarged_with_its_objects():
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    masks = torch.zeros(1, 20, 30, dtype=torch.bool)
    masks[0, 10:, 15:] = True
    drawn = draw_objects(
        image, Objects(torch.tensor([[15.0, 10, 30, 20]]), torch.tensor([1]), ["a"], masks), least_side=60
    )
    assert drawn.shape == (3, 60, 90)
    assert drawn[:, 50, 80].any()
    assert not drawn[:, 20, 20].any()


def test_nothing_found_leaves_the_picture():
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    empty = Objects(torch.zeros(0, 4), torch.zeros(0).long(), [], torch.zeros(0, 20, 30, dtype=torch.bool))
    assert torch.equal(draw_objects(image, empty), image)


def test_pictures_of_different_sizes_stand_in_a_grid():
    sheet = tile([torch.zeros(3, 4, 6, dtype=torch.uint8), torch.zeros(3, 5, 3, dtype=torch.uint8)], columns=1)
    assert sheet.shape == (3, 10, 6)
    assert sheet[:, 4].unique().tolist() == [255]
