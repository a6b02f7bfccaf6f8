"""Clip transforms: shapes for any size, one draw per clip, and the numbers that come out."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eyetoy_video.transforms.clips import ClipMixing, ClipTransformParams, EvaluationTransform, TrainingTransform

PLAIN = ClipTransformParams(size=16, crop_area=(1, 1), crop_ratio=(1, 1), brightness=0, contrast=0)
TRANSFORMS = [TrainingTransform, EvaluationTransform]


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def raw(x: torch.Tensor, params: ClipTransformParams) -> torch.Tensor:
    """Undo the normalization: [num_frames, 3, size, size] from 0 to 255."""
    mean, std = (torch.tensor(value).view(3, 1, 1, 1) for value in (params.mean, params.std))
    return ((x * std + mean) * 255).transpose(0, 1)


@pytest.mark.parametrize("transform", TRANSFORMS)
@settings(max_examples=40, deadline=None)
@given(num_frames=st.integers(1, 5), height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(2, 40))
def test_any_size_becomes_a_square(transform, num_frames, height, width, size):
    x = transform(ClipTransformParams(size=size))(noise(num_frames, 3, height, width))
    assert x.shape == (3, num_frames, size, size)
    assert x.dtype == torch.float32
    assert x.isfinite().all()


STRONG = {"rand_augment": 3, "rand_augment_magnitude": 20, "erasing": 0.8}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("options", [{}, STRONG, STRONG | {"short_side": (18, 40)}])
def test_all_frames_are_treated_alike(transform, options):
    params = ClipTransformParams(size=16, crop_area=(0.2, 0.8), brightness=0.5, contrast=0.5, flip=0.5, **options)
    still = noise(1, 3, 37, 53).expand(6, -1, -1, -1)
    for _ in range(20):
        x = transform(params)(still)
        assert torch.equal(x, x[:, :1].expand_as(x))


def test_frames_keep_their_order():
    clip = torch.arange(0, 250, 10, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 20, 20)
    for transform in TRANSFORMS:
        levels = raw(transform(PLAIN)(clip), PLAIN).mean((1, 2, 3))
        assert torch.allclose(levels, torch.arange(0, 250, 10).float(), atol=0.01)


def test_training_crops_at_random_and_evaluation_does_not():
    clip = noise(2, 3, 40, 40)
    params = dataclasses.replace(PLAIN, crop_area=(0.3, 0.9))
    training, evaluation = TrainingTransform(params), EvaluationTransform(params)
    assert not torch.equal(training(clip), training(clip))
    assert torch.equal(evaluation(clip), evaluation(clip))


def test_training_draws_from_torchs_generator():
    clip, training = noise(2, 3, 40, 40), TrainingTransform(ClipTransformParams(size=16))
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(training(clip))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_brightness_and_contrast_vary_within_their_range(name):
    """Between two greys, brightness scales both and contrast their distance from the mean."""
    clip = torch.tensor([80, 120], dtype=torch.uint8).repeat_interleave(8).expand(1, 3, 16, 16)
    training = TrainingTransform(dataclasses.replace(PLAIN, **{name: 0.25}))
    ends = torch.stack([raw(training(clip), PLAIN)[0, 0, 0, [0, -1]] for _ in range(60)])
    changed = ends.mean(1) / 100 if name == "brightness" else (ends[:, 1] - ends[:, 0]) / 40
    assert changed.min() >= 0.72
    assert changed.max() <= 1.28
    assert changed.max() - changed.min() > 0.3


def test_left_and_right_are_not_exchanged_unless_asked():
    clip = torch.arange(0, 160, 10, dtype=torch.uint8).expand(2, 3, 16, -1)
    kept, mirrored = (TrainingTransform(dataclasses.replace(PLAIN, flip=flip)) for flip in (0.0, 1.0))
    for _ in range(20):
        x = TrainingTransform(ClipTransformParams(size=16))(clip)
        assert (x[..., -1] > x[..., 0]).all()
    assert torch.equal(mirrored(clip), kept(clip).flip(-1))


@pytest.mark.parametrize(("height", "width"), [(20, 60), (60, 20), (21, 61)])
def test_evaluation_takes_the_middle(height, width):
    clip = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    top, left = (height - 20) // 2, (width - 20) // 2
    clip[..., top + 1 : top + 19, left + 1 : left + 19] = 255
    shown = raw(EvaluationTransform(dataclasses.replace(PLAIN, size=20))(clip), PLAIN)
    assert shown[..., 4:16, 4:16].min() > 240
    assert shown.mean() > 180


@pytest.mark.parametrize(("height", "width"), [(20, 50), (50, 20)])
def test_three_crops_are_the_start_middle_and_end_of_the_longer_side(height, width):
    ramp = torch.arange(0, 250, 5, dtype=torch.uint8)
    clip = (ramp if width == 50 else ramp[:, None]).expand(4, 3, height, width)
    views = EvaluationTransform(dataclasses.replace(PLAIN, size=20), clips=2, crops=3)(clip)
    assert views.shape == (6, 3, 2, 20, 20)
    starts = [raw(view, PLAIN).min().round().item() for view in views]
    assert starts == [0, 75, 150] * 2
    middle = EvaluationTransform(dataclasses.replace(PLAIN, size=20))(clip[:2])
    assert torch.equal(views[1], middle)


def test_several_clips_stay_apart():
    clip = torch.tensor([10, 20, 30, 40, 50, 60], dtype=torch.uint8).view(6, 1, 1, 1).expand(-1, 3, 16, 16)
    views = EvaluationTransform(PLAIN, clips=3)(clip)
    levels = torch.stack([raw(view, PLAIN).mean((1, 2, 3)) for view in views])
    torch.testing.assert_close(levels, torch.tensor([[10.0, 20], [30, 40], [50, 60]]), rtol=0, atol=0.01)


def test_the_short_side_is_scaled_to_a_random_length_and_a_square_taken_anywhere():
    """Of columns as bright as their place, in a clip twice as wide as high, a crop shows where and how large it is."""
    clip = torch.arange(200).to(torch.uint8).expand(1, 3, 100, 200)
    training = TrainingTransform(dataclasses.replace(PLAIN, size=20, short_side=(20, 50)))
    shown = torch.stack([raw(training(clip), PLAIN)[0, 0, 0] for _ in range(80)])
    widths = (shown[:, -1] - shown[:, 0]) * 20 / 19
    assert 38 < widths.min() < 50
    assert 80 < widths.max() < 102
    assert shown[:, 0].min() < 20
    assert shown[:, -1].max() > 180


@pytest.mark.parametrize("height", [71, 83, 95, 97])
def test_a_short_side_as_long_as_the_crop_is_always_enough(height):
    """torchvision makes a side of 111 of these heights where 112 is asked for."""
    training = TrainingTransform(dataclasses.replace(PLAIN, size=112, short_side=(112, 112)))
    assert training(noise(1, 3, height, 2 * height)).shape == (3, 1, 112, 112)


def test_rand_augment_changes_clips_the_more_the_stronger():
    clip = noise(2, 3, 16, 16)

    def change(**options: int) -> float:
        torch.manual_seed(0)
        training = TrainingTransform(dataclasses.replace(PLAIN, **options))
        return sum((raw(training(clip), PLAIN) - clip).abs().mean().item() for _ in range(20)) / 20

    assert change() < 0.01
    assert 10 < change(rand_augment=2, rand_augment_magnitude=5) < change(rand_augment=2, rand_augment_magnitude=30)


def test_an_erased_rectangle_is_mean_grey_in_all_frames():
    clip = torch.full((3, 3, 32, 32), 255, dtype=torch.uint8)
    x = TrainingTransform(dataclasses.replace(PLAIN, size=32, erasing=1.0))(clip)
    erased = x == 0
    assert erased.any()
    assert not erased.all()
    assert torch.equal(erased, erased[:1, :1].expand_as(erased))
    rows, columns = erased[0, 0].any(1), erased[0, 0].any(0)
    assert torch.equal(erased[0, 0], rows[:, None] & columns)


def mixed(**options: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of one brightness each, as many classes, and what becomes of them."""
    torch.manual_seed(0)
    clips = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(-1, 3, 5, 16, 16)
    return ClipMixing(ClipTransformParams(**options), num_classes=4)(clips, torch.arange(4))


def test_mixup_mixes_clips_and_labels_alike():
    clips, labels = mixed(mixup=0.8)
    assert clips.std((1, 2, 3, 4)).max() < 1e-6
    torch.testing.assert_close(clips.mean((1, 2, 3, 4)), labels @ torch.arange(4.0))
    assert 0 < labels[0].max() < 1


def test_cutmix_pastes_the_same_rectangle_into_all_frames():
    clips, labels = mixed(cutmix=1.0)
    assert torch.equal(clips, clips[:, :1, :1].expand_as(clips))
    pasted = clips[1, 0, 0] == 0
    assert 0 < pasted.float().mean() < 1
    torch.testing.assert_close(labels[1, 0], pasted.float().mean())
    torch.testing.assert_close(clips.mean((1, 2, 3, 4)), labels @ torch.arange(4.0))


def test_where_both_are_asked_for_each_comes_in_turn():
    outcomes = set()
    for seed in range(12):
        torch.manual_seed(seed)
        clips = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(-1, 3, 2, 16, 16)
        out, _ = ClipMixing(ClipTransformParams(mixup=1.0, cutmix=1.0), num_classes=4)(clips, torch.arange(4))
        outcomes.add("mixup" if out[1].std() < 1e-6 and out[1].mean() % 1 else "cutmix")
    assert outcomes == {"mixup", "cutmix"}


def test_pixels_are_normalized():
    clip = torch.tensor([255, 0, 102], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 16, 16)
    params = dataclasses.replace(PLAIN, mean=(0.5, 0.25, 0.4), std=(0.5, 0.25, 2.0))
    for transform in TRANSFORMS:
        expected = torch.tensor([1.0, -1.0, 0.0]).view(3, 1, 1, 1).expand(3, 2, 16, 16)
        assert torch.allclose(transform(params)(clip), expected, atol=1e-6)


def test_the_clip_is_not_changed():
    clip = noise(2, 3, 16, 16)
    before = clip.clone()
    for transform in TRANSFORMS:
        transform(ClipTransformParams(size=16))(clip)
        assert torch.equal(clip, before)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_clip_of_another_kind_is_refused(transform):
    with pytest.raises(TypeError, match=r"uint8.*float32"):
        transform(PLAIN)(torch.zeros(2, 3, 8, 8))
    for shape in ((3, 2, 8, 8), (3, 8, 8), (0, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"num_frames, 3, height, width.*" + str(shape[0])):
            transform(PLAIN)(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 1}, "size.*2 pixels.*1"),
        ({"crop_area": (0.9, 0.5)}, r"crop_area.*smaller first.*0\.9"),
        ({"crop_area": (0.5, 1.5)}, r"crop_area.*1 at most.*1\.5"),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio.*above 0"),
        ({"flip": 2.0}, r"flip.*0 to 1.*2\.0"),
        ({"brightness": -0.1}, r"brightness.*-0\.1"),
        ({"std": (1.0, 0.0, 1.0)}, "std.*above 0"),
        ({"size": 16, "short_side": (12, 20)}, r"short_side.*16 <= low <= high.*\(12, 20\)"),
        ({"size": 16, "short_side": (30, 20)}, r"short_side.*\(30, 20\)"),
        ({"rand_augment": -1}, "rand_augment must be 0 or more, not -1"),
        ({"rand_augment_magnitude": 31}, "rand_augment_magnitude must be from 0 to 30, not 31"),
        ({"erasing": 1.5}, r"erasing.*0 to 1.*1\.5"),
        ({"mixup": -0.5}, r"mixup must be 0 or more, not -0\.5"),
        ({"cutmix": float("nan")}, "cutmix must be 0 or more, not nan"),
    ],
)
def test_bad_params_say_what_would_be_right(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipTransformParams(**arguments)
