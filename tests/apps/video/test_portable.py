"""Pixels of clips as an exported model takes them."""

from __future__ import annotations

import torch

from eyetoy_video.transforms.clips import ClipTransformParams, EvaluationTransform, normalized_clips


def test_clips_are_normalised_as_in_an_evaluation():
    params = ClipTransformParams(size=6, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    pixels = torch.randint(256, (2, 5, 6, 6, 3), dtype=torch.uint8)
    expected = [EvaluationTransform(params)(clip.movedim(-1, 1)) for clip in pixels]
    torch.testing.assert_close(normalized_clips(pixels, params), torch.stack(expected))
