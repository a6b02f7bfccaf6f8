"""The video classification task: its data, and how a clip goes in."""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from eyetoy_train import FolderClassification
from eyetoy_train.class_folder import write_once
from eyetoy_video.files import EXTENSIONS, read_clip
from eyetoy_video.moving_digits import write_moving_digits
from eyetoy_video.recipe import VideoClassificationRecipe
from eyetoy_video.transforms import EvaluationTransform, TrainingTransform

SHOWN_FRAMES = 4


class VideoClassification(FolderClassification):
    """Classify clips, through Encoder3D."""

    def __init__(self, recipe: VideoClassificationRecipe) -> None:
        super().__init__(recipe, recipe.data, EXTENSIONS)
        self.data = recipe.data
        self.training_transform = TrainingTransform(recipe.data.transform)
        self.evaluation_transform = EvaluationTransform(recipe.data.transform)

    def prepare(self) -> None:
        """Make the moving digits if they are asked for and not there."""
        if self.data.source == "moving_digits":
            write_once(self.root, write_moving_digits)
        super().prepare()

    def load_sample(self, source: Path, *, training: bool) -> Tensor:
        """Return a clip, uint8 `[num_frames, 3, height, width]`, scaled down to little more than the model needs."""
        jitter = training and self.data.temporal_jitter
        # A random crop may take a part of the frame and enlarge it, so keep twice the size for it.
        short_side = 2 * self.data.transform.size if training else self.data.transform.size
        return read_clip(
            source, self.data.num_frames, sampling="random" if jitter else "uniform", short_side=short_side
        )

    def transform(self, raw: Tensor, *, training: bool) -> Tensor:
        """Return a float clip `[3, num_frames, size, size]`."""
        return self.training_transform(raw) if training else self.evaluation_transform(raw)

    def draw(self, axes: Axes, x: Tensor) -> None:
        """Draw a few frames of a clip, the first one at the top left."""
        params = self.data.transform
        mean, std = (torch.tensor(values)[:, None, None, None] for values in (params.mean, params.std))
        frames = (x * std + mean).clamp(0, 1)  # [3, time, height, width]
        chosen = torch.linspace(0, frames.shape[1] - 1, SHOWN_FRAMES).round().long()
        first, second, third, fourth = frames[:, chosen].unbind(1)
        sheet = torch.cat([torch.cat([first, second], -1), torch.cat([third, fourth], -1)], -2)
        axes.imshow(sheet.movedim(0, -1))
