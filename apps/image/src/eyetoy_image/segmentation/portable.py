"""A segmenter as it is exported: pictures of one size in, logits of every pixel out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from eyetoy_image.classification.portable import export_pixels
from eyetoy_image.classification.transforms import normalized
from eyetoy_image.dense.examples import example_pictures
from eyetoy_image.io.background import Background, described
from eyetoy_image.io.files import read_image
from eyetoy_image.segmentation.inference import through_windows
from eyetoy_image.segmentation.recipe import SegmentationEvaluation
from eyetoy_train.export.portable import ExportModel

BATCHES = (2, 3)


def export_segmenter(
    model: nn.Module,
    size: tuple[int, int],
    evaluation: SegmentationEvaluation,
    check_on: Sequence[Path] = (),
    *,
    background: Background = "white",
) -> ExportModel:
    """Return a segmenter as it is exported, from uint8 pixels of a size to logits of every pixel.

    Args:
        model: the trained segmenter, in evaluation mode.
        size: height and width of the pictures.
        evaluation: the windows; other sizes and mirroring are not exported.
        check_on: pictures to compare it on, besides composed ones; they are resized.
        background: the colour on which transparent pictures are laid, for the description.

    Raises:
        ValueError: the evaluation averages over sizes or mirrored pictures.
    """
    if evaluation.scales != [1.0] or evaluation.flip:
        raise ValueError(
            f"an exported segmenter sees a picture once, and the recipe has evaluation.scales {evaluation.scales} and "
            f"evaluation.flip {str(evaluation.flip).lower()}: add --evaluation.scales '[1.0]' --evaluation.flip false"
        )
    height, width = size
    steps = evaluation.steps
    views = "one whole picture, once" if steps is None else "windows of {0} x {0} pixels every {1}".format(*steps)
    side, colour = height if height == width else [*size], described(background)
    given = export_pixels(size, 3, {"mode": "RGB", "background": colour, "size": side, "views": views})
    pictures = torch.stack(example_pictures([size] * sum(BATCHES))[: sum(BATCHES)])
    files = [TF.resize(read_image(file, grayscale=False), [*size], antialias=True) for file in check_on]
    batches = [pictures[: BATCHES[0]], pictures[BATCHES[0] :]]
    examples = [*batches, *(file.movedim(0, -1)[None].contiguous() for file in files)]
    return ExportModel(
        SegmenterWithPreprocessing(model, steps).eval(),
        replace(given, examples=examples),
        "logits",
        ("batch", "classes", "height", "width"),
    )


class SegmenterWithPreprocessing(nn.Module):
    """Map uint8 pixels `[batch, height, width, 3]` to logits `[batch, classes, height, width]`.

    Args:
        model: the segmenter.
        steps: side of a window, and pixels from one to the next; None for the whole picture.
    """

    def __init__(self, model: nn.Module, steps: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.model, self.steps = model, steps

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = normalized(x.movedim(-1, 1))
        logits: Tensor = self.model(x) if self.steps is None else through_windows(self.model, x, *self.steps)
        return logits
