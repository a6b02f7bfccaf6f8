"""The video classification task: data, preprocessing and samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from eyetoy_train import Batch
from eyetoy_train.classification.task import FORCED_CHOICE, ClassificationTask
from eyetoy_train.data.hub import HubSample
from eyetoy_train.data.loading import repeats_apart
from eyetoy_train.export.portable import ExportInput
from eyetoy_train.media.encode import write_mp4
from eyetoy_train.media.video import describe_decoders
from eyetoy_train.models.external import Families, Family
from eyetoy_train.types import About
from eyetoy_video.datasets import DATASETS
from eyetoy_video.io.files import read_array, read_clips, read_parts
from eyetoy_video.io.hub import read_stored_clips
from eyetoy_video.recipe import VideoClassificationRecipe
from eyetoy_video.transforms.clips import ClipMixing, EvaluationTransform, TrainingTransform, normalized_clips
from eyetoy_video.transforms.sampling import ClipSampling

FAMILIES: Families = {
    name: Family(f"eyetoy_baselines.video:build_{name}") for name in ("framewise", "pytorchvideo", "torchvision")
}
SHOWN_FRAMES = 4
PLAYED_SIDE, PLAYED_RATE = 128, 8
"""Least height in pixels, and frames per second, of the clips in a report."""


COMPOSED = "Its clips are composed of moving images; how well it classifies videos of a camera is not known."


class VideoClassification(ClassificationTask):
    """Classify clips with Encoder3D."""

    families = FAMILIES
    batched_axes: int | None = 5

    def __init__(self, recipe: VideoClassificationRecipe) -> None:
        self.data = data = recipe.data
        super().__init__(recipe, DATASETS.open(data, recipe.seed), data)
        size = data.transform.size
        self.evaluation_sampling = ClipSampling(data.num_frames, data.frame_stride, data.frame_rate, data.clips)
        self.training_sampling = ClipSampling(
            data.num_frames, data.frame_stride, data.frame_rate, random=data.temporal_jitter
        )
        self.training_transform = TrainingTransform(data.transform)
        self.evaluation_transform = EvaluationTransform(data.transform, clips=data.clips, crops=data.crops)
        self.reader = f"videos by {data.decoder}, {self.evaluation_sampling}"
        self.num_views = data.clips * data.crops
        self.mixes = bool(data.transform.mixup or data.transform.cutmix)
        self.grid = (data.num_frames, size, size)
        # The notation of published scores: clips x crops of frames x stride.
        views = f"{data.clips}x{data.crops} views of {data.num_frames}"
        if data.frame_stride is None:
            self.protocol = f"{views} frames of {size} pixels, spread over the file"
        else:
            rate = f" at {data.frame_rate:g} per second" if data.frame_rate else ""
            self.protocol = f"{views}x{data.frame_stride} frames of {size} pixels{rate}"
        limits = (FORCED_CHOICE, COMPOSED) if data.source == "moving_digits" else (FORCED_CHOICE,)
        self.about = About.of_data(
            "videos", data, pipeline_tag="video-classification", predict="eyetoy predict", limits=limits
        )

    def describe_decoders(self) -> str:
        """Say which library decodes files."""
        return describe_decoders(self.data.decoder)

    def load_sample(self, source: Path | HubSample | dict[str, Any], *, training: bool) -> Tensor:
        """Return the frames of one clip in training, else of all, uint8 `[clips * num_frames, 3, height, width]`.

        They are scaled down to little more than the model needs.
        """
        transform, decoder = self.data.transform, self.data.decoder
        sampling = self.training_sampling if training else self.evaluation_sampling
        # Scaled by the decoder: a 1080p clip would take 30 times the memory and time of workers for the same input.
        side = transform.largest_side if training else transform.size
        if isinstance(source, Path):
            return read_clips(source, sampling, short_side=side, decoder=decoder)
        stored, name = (source, "a video of the stream") if isinstance(source, dict) else (source.stored, source.place)
        return read_stored_clips(stored, sampling, name=name, short_side=side, decoder=decoder)

    def load_array(self, given: Any, rate: float | None) -> Tensor:
        """Return the frames of all clips of a video in memory, uint8 `[clips * num_frames, 3, height, width]`."""
        return read_array(given, self.evaluation_sampling, rate)

    def parts(self, source: Path, seconds: float) -> Iterator[tuple[float, float, Batch]]:
        """Read a file, and yield parts of about `seconds`, each preprocessed as a whole file in an evaluation."""
        side, decoder = self.data.transform.size, self.data.decoder
        for start, end, clips in read_parts(
            source, self.evaluation_sampling, seconds, short_side=side, decoder=decoder
        ):
            yield start, end, self.example(clips, training=False)

    def example(self, raw: Tensor, *, training: bool) -> Batch:
        """Return a float clip `[3, num_frames, size, size]`, or several views `[views, 3, num_frames, size, size]`."""
        return {"input": self.training_transform(raw) if training else self.evaluation_transform(raw)}

    @cached_property
    def mixing(self) -> ClipMixing:
        """The mixing of a training batch; made at first use, since it needs the classes."""
        return ClipMixing(self.data.transform, len(self.classes))

    def augment(self, batch: Batch) -> Batch:
        """Mix the clips of a training batch, as the recipe says."""
        x, target = self.mixing(*repeats_apart(self.recipe.augmentation_repeats, batch["input"], batch["label"]))
        return batch | {"input": x, "label": target}

    def preprocessing(self) -> dict[str, Any]:
        """Return how clips become the model's input."""
        data, transform = self.data, self.data.transform
        return {
            "modality": "video",
            **{name: getattr(data, name) for name in ("num_frames", "frame_stride", "frame_rate", "clips", "crops")},
            "short_side": transform.size,
            "size": [transform.size, transform.size],
            "crop": "centre",
            "interpolation": "bilinear, antialiased",
            "mean": list(transform.mean),
            "std": list(transform.std),
        }

    def export_input(self) -> ExportInput:
        """Return the input of an exported model: uint8 pixels of a clip's frames, one view at a time."""
        data, size, generator = self.data, self.data.transform.size, torch.Generator().manual_seed(0)
        return ExportInput(
            name="frames",
            axes=("batch", "time", "height", "width", "channels"),
            examples=[
                torch.randint(256, (batch, data.num_frames, size, size, 3), generator=generator, dtype=torch.uint8)
                for batch in (2, 3)
            ],
            prepare=lambda x: {"input": normalized_clips(x, data.transform)},
            preprocessing={
                "mode": "RGB",
                "short_side": size,
                "size": size,
                "crop": "centre",
                "interpolation": "bilinear, antialiased",
                "num_frames": data.num_frames,
                "frame_stride": data.frame_stride,
                "frame_rate": data.frame_rate,
                "views": f"{data.clips} clip(s) times {data.crops} crop(s) of a file, whose probabilities are averaged",
                "in_the_model": f"scaling to 0 to 1, mean {data.transform.mean}, std {data.transform.std}",
            },
        )

    def plot(self, axes: Axes, x: Tensor) -> None:
        """Plot a few frames of a clip, the first one at the top left."""
        frames = self.frames(x)
        chosen = torch.linspace(0, len(frames) - 1, SHOWN_FRAMES).round().long()
        first, second, third, fourth = frames[chosen].unbind()
        axes.imshow(torch.cat([torch.cat([first, second], 1), torch.cat([third, fourth], 1)]).numpy())

    def play(self, x: Tensor, path: Path) -> Path:
        """Write a clip as an MP4 file."""
        frames = self.frames(x)
        even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]  # H.264 takes even sizes only
        scale = math.ceil(PLAYED_SIDE / self.data.transform.size)  # or a player would enlarge and blur it
        large = even.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        file = path.with_name(f"{path.name}.mp4")
        file.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(file, large.numpy(), PLAYED_RATE)
        return file

    def frames(self, x: Tensor) -> Tensor:
        """Return the images of a transformed clip, uint8 `[num_frames, height, width, 3]`."""
        params = self.data.transform
        mean, std = (torch.tensor(values)[:, None, None, None] for values in (params.mean, params.std))
        return ((x * std + mean).clamp(0, 1) * 255).round().byte().movedim(0, -1)
