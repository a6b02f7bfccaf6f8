"""Random changes to whole batches, against torchvision's changes to one picture."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from eyetoy_image.classification import (
    ImageAugmentation,
    ImageClassification,
    ImageClassificationRecipe,
    ImageData,
)
from eyetoy_image.classification.augmentation import BatchAugmentation, mixing
from eyetoy_train.utils.seeds import uniforms

STILL = {"rotation": 0, "translation": 0, "scaling": 0}
BLACK = -2.0


def augmentation(**options) -> BatchAugmentation:
    return BatchAugmentation(ImageAugmentation(**(STILL | options)), black=BLACK)


def seeds(device, count=16):
    return torch.arange(count, device=device) * 7919


def pictures(device, count=16, channels=3, size=12):
    generator = torch.Generator().manual_seed(0)
    return (4 * torch.rand(count, channels, size, size, generator=generator) - 2).to(device)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_picture_is_moved_as_torchvision_moves_one(device, channels):
    x = pictures(device, channels=channels)
    moved = augmentation(rotation=30, translation=0.3, scaling=0.2, flip=0.5)(x, seeds(device))
    for picture, draws, found in zip(x.cpu(), uniforms(seeds("cpu"), 5).tolist(), moved.cpu(), strict=True):
        angle, right, down, grow = (2 * draw - 1 for draw in draws[:4])
        mirrored = picture.flip(-1) if draws[4] < 0.5 else picture
        expected = TF.affine(
            mirrored - BLACK,
            angle=angle * 30,
            translate=[round(right * 0.3 * 12), round(down * 0.3 * 12)],
            scale=1 + 0.2 * grow,
            shear=[0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(found, expected + BLACK, atol=1e-3, rtol=1e-3)


def test_what_is_only_shifted_or_mirrored_keeps_its_pixels(device):
    x = pictures(device)
    moved = augmentation(translation=0.25, flip=0.5)(x, seeds(device))
    values = {round(value, 4) for value in [*x.flatten().tolist(), BLACK]}
    assert all(min(abs(value - v) for v in values) < 1e-3 for value in moved[:2].flatten().tolist())


def test_a_picture_changes_by_its_seed_alone(device):
    change = augmentation(rotation=20, translation=0.2, scaling=0.2, flip=0.5, erasing=0.5)
    x = pictures(device)
    whole = change(x, seeds(device))
    torch.testing.assert_close(change(x[5:9], seeds(device)[5:9]), whole[5:9])
    assert torch.equal(change(x, seeds(device)), whole)
    same = change(x[:1].expand(16, -1, -1, -1), seeds(device))
    assert len({tuple(picture.flatten().tolist()) for picture in same}) == 16


def test_mixed_precision_moves_nothing_elsewhere(device):
    change = augmentation(rotation=20, translation=0.2, scaling=0.2, flip=0.5)
    x = pictures(device, size=64)
    expected = change(x, seeds(device))
    with torch.autocast(device, dtype=torch.bfloat16):
        assert torch.equal(change(x, seeds(device)), expected)


def test_nothing_asked_changes_nothing(device):
    x = pictures(device)
    assert torch.equal(augmentation()(x, seeds(device)), x)


def test_erasing_takes_a_rectangle_of_the_asked_area_from_the_asked_share(device):
    count, size = 400, 64
    x = torch.ones(count, 1, size, size, device=device)
    erased = augmentation(erasing=0.25, erased_area=(0.1, 0.3))(x, seeds(device, count))[:, 0] == 0
    areas = erased.flatten(1).float().mean(1)
    chosen = areas > 0
    assert 0.18 < float(chosen.float().mean()) < 0.32
    assert 0.07 < float(areas[chosen].min()) <= float(areas[chosen].max()) < 0.34
    for mask in erased[chosen][:20]:
        rows, columns = mask.any(1), mask.any(0)
        assert int(mask.sum()) == int(rows.sum()) * int(columns.sum())


@pytest.mark.parametrize("area", [0.33, 0.5, 0.8, 1.0])
def test_large_rectangles_are_as_large_as_asked(device, area):
    x = torch.ones(200, 1, 64, 64, device=device)
    erased = augmentation(erasing=1.0, erased_area=(area, area))(x, seeds(device, 200))[:, 0] == 0
    assert (erased.flatten(1).float().mean(1) - area).abs().max() < 0.04  # sides are of whole pixels


@pytest.mark.parametrize("alphas", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_mixing_gives_class_probabilities(device, alphas):
    labels = torch.arange(16, device=device) % 10
    torch.manual_seed(0)
    x, target = mixing(ImageAugmentation(**alphas), 10)(pictures(device), labels)
    assert x.shape == (16, 3, 12, 12)
    assert target.shape == (16, 10)
    torch.testing.assert_close(target.sum(1), torch.ones(16, device=device))
    assert float(target.gather(1, labels[:, None]).min()) >= 0


@pytest.mark.parametrize("alphas", [{"mixup": 1.0}, {"cutmix": 1.0}])
@pytest.mark.parametrize(("count", "repeats"), [(2, 2), (2, 4), (16, 4), (64, 2)])
def test_repeats_of_a_picture_are_mixed_with_other_pictures(alphas, count, repeats):
    """Repeats are neighbours in a batch, and so are the pairs that are mixed."""
    data = ImageData(augmentation=ImageAugmentation(**(STILL | alphas)))
    task = ImageClassification(ImageClassificationRecipe(data=data, augmentation_repeats=repeats))
    task.mixing = mixing(data.augmentation, 64)
    labels = torch.arange(count).repeat_interleave(repeats)
    batch = {"input": pictures("cpu", count * repeats), "label": labels, "seed": seeds("cpu", count * repeats)}
    shares = []
    for seed in range(4):  # a drawn rectangle of CutMix may be empty
        torch.manual_seed(seed)
        shares.append(float((task.augment(batch)["label"].amax(1) == 1).float().mean()))
    assert min(shares) == 0


def test_no_mixing_unless_asked():
    assert mixing(ImageAugmentation(), 10) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": 1.5}, "data.augmentation.flip must be from 0 to 1; got 1.5"),
        ({"crop": 1.0}, "crop must be at least 0 and below 1; got 1.0"),
        ({"mixup": -1.0}, "mixup must be at least 0; got -1.0"),
        ({"rand_augment_magnitude": 31}, "rand_augment_magnitude must be from 0 to 30; got 31"),
        ({"erased_area": (0.5, 0.1)}, "erased_area must be two fractions above 0, the smaller one first"),
    ],
)
def test_what_cannot_be_done_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ImageAugmentation(**options)


def test_drawn_numbers_are_those_of_splitmix64():
    seed, mask = 0x1234_5678_9ABC_DE, 2**64 - 1
    expected = []
    state = seed
    for _ in range(4):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        expected.append(((z ^ (z >> 31)) >> 40) / 2**24)
    assert uniforms(torch.tensor([seed]), 4)[0].tolist() == expected


def test_drawn_numbers_are_spread_evenly(device):
    drawn = uniforms(torch.arange(4096, device=device), 8)
    assert 0 <= float(drawn.min()) < float(drawn.max()) < 1
    torch.testing.assert_close(drawn.mean(0).cpu(), torch.full((8,), 0.5), atol=0.03, rtol=0)
    torch.testing.assert_close(drawn.std(0).cpu(), torch.full((8,), 1 / math.sqrt(12)), atol=0.02, rtol=0)
    correlation = torch.corrcoef(drawn.T.cpu()) - torch.eye(8)
    assert float(correlation.abs().max()) < 0.08
