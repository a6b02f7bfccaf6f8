"""The audio classification task: its data, and how a waveform goes in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from matplotlib.axes import Axes
from torch import Tensor, nn

from eyetoy_audio.datasets.esc50 import read_esc50
from eyetoy_audio.datasets.speech_commands import background_noise, read_speech_commands
from eyetoy_audio.datasets.spoken_keywords import write_spoken_keywords
from eyetoy_audio.datasets.tagged import TaggedSet
from eyetoy_audio.figures import draw_sound, write_wav
from eyetoy_audio.io.files import EXTENSIONS, read_sound
from eyetoy_audio.io.hub import read_stored_sound
from eyetoy_audio.recipe import AudioClassificationRecipe, AudioData
from eyetoy_audio.transforms.features import LogMel, SpecAugment
from eyetoy_audio.transforms.portable import HeardWindows
from eyetoy_audio.transforms.waveform import LEVEL, Augment, Fit, mixup, normalize_level, windows
from eyetoy_train import Batch, ClassFolder
from eyetoy_train.classification.datasets import SetClassification
from eyetoy_train.classification.task import FORCED_CHOICE, equal_spans
from eyetoy_train.data.folder import write_once
from eyetoy_train.data.hub import HubSample, HubSet
from eyetoy_train.export.portable import PlainInput
from eyetoy_train.media.sound import describe_decoders
from eyetoy_train.models.external import TIMM, Family
from eyetoy_train.types import About
from eyetoy_train.utils.console import log

SYNTHETIC = "Its speech is synthetic, and so is the score: how well it understands people is not known."


def open_set(data: AudioData, seed: int) -> HubSet | TaggedSet | None:
    """Return the set that a recipe names, or None if it is a folder of files."""
    if data.source == "hub":
        where = {"label_column": data.label_column, "config": data.config, "revision": data.revision}
        return HubSet(data.root, "Audio", data.streaming, data.splits, seed, **where)
    return TaggedSet(Path(data.root), data.missing, seed) if data.source == "tagged" else None


def augmentation(data: AudioData) -> Augment:
    """Return the random changes that a recipe asks for."""
    asked = _shared_fields(data.augmentation, Augment)
    if asked["background_folder"] is None and data.source == "speech_commands":
        asked["background_folder"] = str(background_noise(Path(data.root)))
    return Augment(data.num_samples, sample_rate=data.sample_rate, pads=data.padding == "silence", **asked)


class AudioClassification(SetClassification):
    """Classify sounds, through Encoder1D, or through Encoder2D as pictures of log-mel features."""

    def __init__(self, recipe: AudioClassificationRecipe) -> None:
        self.data = data = recipe.data
        super().__init__(recipe, data, EXTENSIONS, open_set(data, recipe.seed))
        baselines = Family("eyetoy_baselines.audio:build_baseline", {"sample_rate": data.sample_rate})
        self.families = {**TIMM, "baseline": baselines}
        self.training_transform = augmentation(data)
        self.log_mel = LogMel(data.sample_rate, **dataclasses.asdict(data.mel))
        self.spec_augment = SpecAugment(**_shared_fields(data.augmentation, SpecAugment))

    @property
    def multi_label(self) -> bool:
        """Whether a clip has any number of labels."""
        return self.data.source == "tagged"

    @property
    def num_views(self) -> int:
        """Windows of a clip in an evaluation."""
        return self.data.windows

    @property
    def protocol(self) -> str:
        """How much of a clip an evaluation hears."""
        return f"{self.data.windows} windows of {self.data.seconds:g} s" if self.data.windows > 1 else ""

    @property
    def in_channels(self) -> int:
        """Bands of log-mel features, or one."""
        return self.data.mel.num_bands if self.data.features == "log_mel" else 1

    @property
    def grid(self) -> Sequence[int]:
        """Samples of the model's input, or frames, or bands and frames."""
        frames = int(self.log_mel.num_frames(torch.tensor(self.data.num_samples)))
        grids = {"waveform": (self.data.num_samples,), "log_mel": (frames,)}
        return grids.get(self.data.features, (self.data.mel.num_bands, frames))

    @property
    def about(self) -> About:
        """What a card says of the data and the task."""
        data = self.data
        limits: tuple[str, ...] = () if self.multi_label else (FORCED_CHOICE,)
        if data.source == "spoken_keywords":
            limits += (SYNTHETIC,)
        return About.of_data(
            "sounds",
            data.source,
            data.root,
            pipeline_tag="audio-classification",
            predict="apps/audio/predict.py",
            limits=limits,
        )

    def prepare(self) -> None:
        """Synthesise the spoken keywords if they are asked for and not there, and say what decodes files."""
        if self.data.source == "spoken_keywords":
            write_once(self.root, write_spoken_keywords)
        decoders = describe_decoders(self.data.decoder)
        if PartialState().is_main_process:
            log(decoders)
        super().prepare()

    def read_folder(self) -> ClassFolder:
        """List the files."""
        if self.data.source == "speech_commands":
            return read_speech_commands(self.root)
        return read_esc50(self.root, self.data.fold) if self.data.source == "esc50" else super().read_folder()

    def build_model(self) -> nn.Module:
        """Return the recipe's model.

        Raises:
            ValueError: it cannot leave padding out.
        """
        if self.data.padding == "mask" and "/" in self.recipe.model.name:
            raise ValueError(f"data.padding: mask is for this project's models; {self.recipe.model.name} needs silence")
        return super().build_model()

    def load_sample(self, source: Path | HubSample | dict[str, Any], *, training: bool) -> Tensor:
        """Return a waveform `[1, samples]` of any length."""
        rate, decoder = self.data.sample_rate, self.data.decoder
        if isinstance(source, Path):
            return read_sound(source, rate, decoder)
        if isinstance(source, HubSample):
            return read_stored_sound(source.stored, f"sound {source.place}", rate, decoder)
        return read_stored_sound(source, "a sound of the stream", rate, decoder)

    def example(self, raw: Tensor, *, training: bool) -> Batch:
        """Return a waveform `[1, num_samples]` of one level, or several windows of it, `[windows, 1, num_samples]`.

        Where padding is left out, their `length` comes with it.
        """
        clips = [self.training_transform(raw)] if training else self._windows(raw)
        fitted = [self._fit(clip) / LEVEL for clip in clips]  # the encoder is given unit variance, as for images
        one = training or self.num_views == 1
        example = {"input": fitted[0] if one else torch.stack(fitted)}
        if self.data.padding == "silence":
            return example
        lengths = torch.tensor([clip.shape[-1] for clip in clips])
        return example | {"length": lengths[0] if one else lengths}

    def parts(self, source: Path, seconds: float) -> Iterator[tuple[float, float, Batch]]:
        """Read a file, and give parts of about so many seconds, each heard as an evaluation hears a file.

        Raises:
            ValueError: a part would have no sample.
        """
        rate = self.data.sample_rate
        if seconds < 1 / rate:
            raise ValueError(f"--timeline must be at least 1/{rate} seconds, one sample; got {seconds:g}")
        waveform = self.load_sample(source, training=False)
        for start, end in equal_spans(waveform.shape[-1] / rate, seconds):
            yield start, end, self.example(waveform[:, round(start * rate) : round(end * rate)], training=False)

    def _windows(self, raw: Tensor) -> list[Tensor]:
        size = self.data.num_samples
        fit = Fit(size) if self.data.padding == "silence" else normalize_level
        return [fit(clip) for clip in windows(raw, size, self.num_views)]

    def _fit(self, clip: Tensor) -> Tensor:
        return nn.functional.pad(clip, (0, self.data.num_samples - clip.shape[-1]))

    def to_input(self, batch: Batch) -> Batch:
        """Make log-mel features of waveforms, if the recipe asks for them."""
        if self.data.features == "waveform":
            return batch
        x, lengths = batch["input"], batch.get("length")
        features = self.log_mel.to(x.device)(x, lengths)
        if lengths is not None:
            batch = batch | {"length": self.log_mel.num_frames(lengths)}
        return batch | {"input": features if self.data.features == "log_mel" else features[:, None]}

    def augment(self, batch: Batch) -> Batch:
        """Mix clips, and hide parts of log-mel features, as the recipe says."""
        alpha = self.data.augmentation.mixup
        if alpha:
            mixed = mixup(
                batch["input"], batch["label"], batch.get("length"), alpha=alpha, num_classes=len(self.classes)
            )
            batch = batch | {
                key: x for key, x in zip(("input", "label", "length"), mixed, strict=True) if x is not None
            }
        if self.data.features != "waveform":
            x = batch["input"]
            hidden = self.spec_augment(x.view(len(x), *x.shape[-2:]), batch["seed"], batch.get("length"))
            batch = batch | {"input": hidden.view(x.shape)}
        return batch

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the logits; a model that can leaves padding out."""
        lengths = () if "length" not in batch else (batch["length"],)
        logits: Tensor = model(batch["input"], *lengths)
        return logits

    def plain_input(self) -> PlainInput:
        """Return that an exported model takes samples, of a whole clip of any length."""
        data, generator = self.data, torch.Generator().manual_seed(0)
        lengths = (data.num_samples * 3 // 2 + 1, data.num_samples, data.num_samples // 2 + 1)
        return PlainInput(
            name="samples",
            axes=("batch", "samples"),
            varying=("batch", "samples"),
            examples=[torch.randn(2 + i, length, generator=generator) / 10 for i, length in enumerate(lengths)],
            prepare=HeardWindows(data.num_samples, data.windows, data.padding == "silence"),
            views=data.windows,
            preprocessing={
                "sample_rate": data.sample_rate,
                "channels": "mono, the mean of a file's",
                "in_the_model": f"level; {data.windows} window(s) of {data.seconds:g} s; {data.features}",
            },
        )

    def draw(self, axes: Axes, x: Tensor) -> None:
        """Draw a waveform and its spectrogram."""
        draw_sound(axes, x)

    def play(self, x: Tensor, path: Path) -> Path:
        """Write a waveform as a wav file."""
        file = path.with_name(f"{path.name}.wav")
        write_wav(x, self.data.sample_rate, file)
        return file


def _shared_fields(recipe: Any, target: Any) -> dict[str, Any]:
    """Return what a recipe says of a dataclass's fields."""
    names = {field.name for field in dataclasses.fields(target)}
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe) if field.name in names}
