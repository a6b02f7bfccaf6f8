"""Random changes treat a picture and its labels alike."""

from __future__ import annotations

import pytest
import torch

from eyetoy_image.segmentation import Segmentation, SegmentationAugmentation
from eyetoy_image.segmentation.transforms import TrainingTransform, largest_fraction


def pair(height: int = 40, width: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture whose red is its label, in blocks."""
    labels = (torch.arange(height)[:, None] // 20 * 3 + torch.arange(width) // 20).to(torch.uint8)
    return torch.stack([labels * 40, labels, labels]), labels


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.5), (2.0, 2.0)])
def test_labels_follow_the_picture_and_padding_is_ignored(scale):
    torch.manual_seed(0)
    augmentation = SegmentationAugmentation(scale=scale, crop_size=48, flip=0.5, color=0.0, cat_max_ratio=1.0)
    flipped = set()
    for _ in range(12):
        image, labels = TrainingTransform(augmentation)(*pair())
        assert image.shape == (3, 48, 48)
        assert labels.shape == (48, 48)
        assert type(labels) is torch.Tensor
        padded = labels == 255
        assert (image[:, padded] == 128).all()
        inside = (image[0] - labels * 40.0).abs()[~padded]
        assert (inside < 1).float().mean() > 0.7  # but where blocks meet
        columns = labels.where(~padded, 0).int().amax(0)  # the label grows to the right, or to the left
        places = (~padded).any(0).nonzero()
        flipped.add(bool(columns[places[0]] > columns[places[-1]]))
        assert padded.any() == (scale[0] < 2)
    assert flipped == {True, False}


@pytest.mark.parametrize(
    ("crop_size", "short_side", "expected"), [(None, 40, 40), (None, None, 512), (24, 40, 24), (24, None, 24)]
)
def test_the_square_of_training_follows_the_short_side(tree, recipe_of, crop_size, short_side, expected):
    augmentation = SegmentationAugmentation(crop_size=crop_size)
    task = Segmentation(recipe_of(tree, short_side=short_side, augmentation=augmentation))
    assert task.dataset("train")[0]["image"].shape == (3, expected, expected)


def test_colours_change_and_channels_stay_in_their_order():
    image = torch.tensor([200, 100, 20], dtype=torch.uint8)[:, None, None].expand(3, 16, 16)
    augmentation = SegmentationAugmentation(scale=(1.0, 1.0), crop_size=16, color=1.0)
    transform = TrainingTransform(augmentation)
    shown = torch.stack([transform(image, pair(16, 16)[1])[0][:, 0, 0].int() for _ in range(60)])
    assert len(shown.unique(dim=0)) > 30
    assert (shown[:, 2] <= shown.amin(1)).all()


def test_the_scale_is_random_within_its_bounds():
    torch.manual_seed(0)
    augmentation = SegmentationAugmentation(scale=(0.5, 2.0), crop_size=200, flip=0, color=0, cat_max_ratio=1.0)
    areas = [int((TrainingTransform(augmentation)(*pair())[1] != 255).sum()) / 2400 for _ in range(40)]
    assert 0.24 <= min(areas) < 0.5
    assert 2.5 < max(areas) <= 4.01


def test_the_short_side_is_resized_before():
    augmentation = SegmentationAugmentation(scale=(1.0, 1.0), crop_size=200, flip=0, color=0, cat_max_ratio=1.0)
    labels = TrainingTransform(augmentation, short_side=80)(*pair())[1]
    assert int((labels != 255).sum()) == 80 * 120


def test_crops_of_one_class_are_drawn_again():
    torch.manual_seed(0)
    labels = torch.zeros(100, 100, dtype=torch.uint8)
    labels[:, 80:] = 1
    shares = {}
    for ratio in (1.0, 0.75):
        augmentation = SegmentationAugmentation(scale=(1, 1), crop_size=30, flip=0, color=0, cat_max_ratio=ratio)
        transform = TrainingTransform(augmentation)
        drawn = [transform(torch.zeros(3, 100, 100, dtype=torch.uint8), labels)[1] for _ in range(40)]
        shares[ratio] = sum(largest_fraction(each) < 0.75 for each in drawn) / 40
    assert shares[1.0] < 0.4
    assert shares[0.75] > 0.7


def test_what_is_ignored_is_no_class_of_a_crop():
    assert largest_fraction(torch.tensor([[0, 0, 1, 255, 255, 255]], dtype=torch.uint8)) == pytest.approx(2 / 3)
    assert largest_fraction(torch.full((2, 2), 255, dtype=torch.uint8)) == 1.0
