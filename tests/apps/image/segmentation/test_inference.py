"""Windows, sizes and mirrors of an evaluation, against plain loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from eyetoy_image.classification.transforms import normalized
from eyetoy_image.segmentation import Segmentation, SegmentationEvaluation
from eyetoy_image.segmentation.inference import probabilities, starts, through_windows


def model(x: torch.Tensor) -> torch.Tensor:
    """Logits that depend on what else is in the window, and on the side."""
    slope = torch.linspace(0, 1, x.shape[-1])
    return torch.stack([x[:, 0] - x.mean((1, 2, 3))[:, None, None], x[:, 1] * slope, x[:, 2]], 1)


def picture(height: int = 23, width: int = 31) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("window", [31, 40])
def test_a_window_as_large_as_the_picture_is_the_whole(window):
    whole = probabilities(model, picture(), SegmentationEvaluation())
    torch.testing.assert_close(probabilities(model, picture(), SegmentationEvaluation(window=window)), whole)
    torch.testing.assert_close(whole, model(normalized(picture())[None])[0].softmax(0))


@pytest.mark.parametrize(("window", "stride"), [(10, 7), (10, 10), (9, 4), (25, 3)])
def test_windows_are_averaged_as_a_loop_over_pixels_does(window, stride):
    x = normalized(picture())[None]
    height, width = x.shape[-2:]
    tops = sorted({min(i * stride, max(height - window, 0)) for i in range(height)})
    lefts = sorted({min(i * stride, max(width - window, 0)) for i in range(width)})
    expected = torch.empty(1, 3, height, width)
    seen = {(t, left): model(x[..., t : t + window, left : left + window]) for t in tops for left in lefts}
    for row in range(height):
        for column in range(width):
            values = [
                logits[:, :, row - t, column - left]
                for (t, left), logits in seen.items()
                if 0 <= row - t < logits.shape[2] and 0 <= column - left < logits.shape[3]
            ]
            expected[:, :, row, column] = torch.stack(values).mean(0)
    torch.testing.assert_close(through_windows(model, x, window, stride), expected)


def test_windows_reach_the_end_and_no_further():
    assert starts(23, 10, 7) == [0, 7, 13]
    assert starts(24, 10, 7) == [0, 7, 14]
    assert starts(9, 10, 7) == [0]


def test_scales_and_mirrors_are_averaged_as_probabilities():
    image = picture()
    evaluation = SegmentationEvaluation(scales=[1.0, 2.0], flip=True)
    larger = F.interpolate(normalized(image)[None], scale_factor=2, mode="bilinear", antialias=True)
    logits = [seen for x in (normalized(image)[None], larger) for seen in (model(x), model(x.flip(-1)).flip(-1))]
    views = [F.interpolate(seen, image.shape[-2:], mode="bilinear")[0].softmax(0) for seen in logits]
    found = probabilities(model, image, evaluation)
    torch.testing.assert_close(found, torch.stack(views).mean(0), atol=5e-3, rtol=0)  # pixels are rounded
    torch.testing.assert_close(found.sum(0), torch.ones(23, 31))
    assert (found - probabilities(model, image, SegmentationEvaluation())).abs().max() > 0.05


def test_one_scale_is_plain():
    one = probabilities(model, picture(), SegmentationEvaluation(scales=[1.0], flip=False))
    assert torch.equal(one, probabilities(model, picture(), SegmentationEvaluation()))


def test_a_resized_picture_is_scored_at_its_own_size():
    sizes = []
    logits = probabilities(lambda x: sizes.append(tuple(x.shape[-2:])) or model(x), picture(), _plain(), short_side=46)
    assert sizes == [(46, 62)]
    assert logits.shape == (3, 23, 31)
    probabilities(
        lambda x: sizes.append(tuple(x.shape[-2:])) or model(x), picture(), _plain(), short_side=46, long_side=31
    )
    assert sizes[1] == (23, 31)


def _plain() -> SegmentationEvaluation:
    return SegmentationEvaluation()


def test_the_protocol_says_how(tree, recipe_of):
    recipe = recipe_of(tree, short_side=512, long_side=2048)
    sides = "with a short side of 512 and a long one of at most 2048"
    assert Segmentation(recipe).protocol == f"whole pictures {sides}"
    recipe.evaluation = SegmentationEvaluation(window=512, stride=341, scales=[0.5, 1.0], flip=True)
    said = f"windows of 512 x 512 pixels every 341 {sides} at scales of 0.5, 1, mirrored too"
    assert Segmentation(recipe).protocol == said


@pytest.mark.parametrize("wrong", [{"window": 10, "stride": 11}, {"stride": 4}, {"scales": []}, {"window": 0}])
def test_windows_that_leave_something_out_are_refused(wrong):
    with pytest.raises(ValueError, match=r"evaluation\.(window|stride|scales) must be"):
        SegmentationEvaluation(**wrong)
