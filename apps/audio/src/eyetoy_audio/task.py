"""The audio classification task: data, preprocessing and samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from eyetoy_audio.datasets import DATASETS
from eyetoy_audio.datasets.speech_commands import background_noise
from eyetoy_audio.figures import draw_sound, write_wav
from eyetoy_audio.io.files import read_array, read_sound
from eyetoy_audio.io.hub import read_stored_sound
from eyetoy_audio.recipe import AudioClassificationRecipe, AudioData
from eyetoy_audio.transforms.augmentation import Augment, mixup
from eyetoy_audio.transforms.features import LogMel, SpecAugment
from eyetoy_audio.transforms.waveform import LEVEL, MOST_WINDOWS, Fit, HeardWindows, normalize_level, windows
from eyetoy_train import Batch
from eyetoy_train.classification.task import FORCED_CHOICE, ClassificationTask, equal_spans
from eyetoy_train.data.hub import HubSample
from eyetoy_train.export.portable import ExportInput
from eyetoy_train.media.sound import describe_decoders
from eyetoy_train.models.external import TIMM, Family
from eyetoy_train.recipe import ModelRecipe
from eyetoy_train.types import About

SYNTHETIC = "Its speech is synthetic, and so is the score: how well it understands people is not known."


def augmentation(data: AudioData) -> Augment:
    """Return the augmentation of a recipe."""
    options = _shared_fields(data.augmentation, Augment)
    if options["background_folder"] is None and data.source == "speech_commands":
        options["background_folder"] = str(background_noise(Path(data.root)))
    return Augment(data.num_samples, sample_rate=data.sample_rate, pads=data.padding == "silence", **options)


class AudioClassification(ClassificationTask):
    """Classify sounds with Encoder1D, or with Encoder2D on log-mel images."""

    views_called = "windows"
    batched_axes: int | None = None  # [channels, samples] has as many axes as a batch would have

    def __init__(self, recipe: AudioClassificationRecipe) -> None:
        self.data = data = recipe.data
        super().__init__(recipe, DATASETS.open(data, recipe.seed), data)
        baselines = Family("eyetoy_baselines.audio:build_baseline", {"sample_rate": data.sample_rate})
        self.families = {**TIMM, "baseline": baselines}
        self.training_transform = augmentation(data)
        self.log_mel = LogMel(data.sample_rate, **dataclasses.asdict(data.mel))
        self.spec_augment = SpecAugment(**_shared_fields(data.augmentation, SpecAugment))
        frames = int(self.log_mel.num_frames(torch.tensor(data.num_samples)))
        self.in_channels = data.mel.num_bands if data.features == "log_mel" else 1
        grids = {"waveform": (data.num_samples,), "log_mel": (frames,)}
        self.grid = grids.get(data.features, (data.mel.num_bands, frames))  # of log_mel_image
        self.reader = f"sounds by {data.decoder}"
        self.num_views = data.windows
        self.mixes = bool(data.augmentation.mixup)
        self.protocol = {None: f"windows of {data.seconds:g} s over the whole sound", 1: ""}.get(
            data.windows, f"{data.windows} windows of {data.seconds:g} s"
        )
        limits = [] if self.multi_label else [FORCED_CHOICE]
        if data.source == "spoken_keywords":
            limits.append(SYNTHETIC)
        self.about = About.of_data(
            "sounds", data, pipeline_tag="audio-classification", predict="eyetoy predict", limits=limits
        )

    def describe_decoders(self) -> str:
        """Say which library decodes files."""
        return describe_decoders(self.data.decoder)

    @property
    def model_recipe(self) -> ModelRecipe:
        """The model's part of the recipe; a filterbank has the sample rate of the sounds.

        Raises:
            ValueError: the recipe gives the filterbank another one.
        """
        model, rate = self.recipe.model, self.data.sample_rate
        bank = model.options.get("filterbank")
        if not isinstance(bank, dict):
            return model
        if bank.get("sample_rate", rate) != rate:
            raise ValueError(
                f"model.options.filterbank.sample_rate is {bank['sample_rate']}, and data.sample_rate {rate}; leave "
                "the filterbank's out, and it has that of the sounds"
            )
        return dataclasses.replace(model, options=model.options | {"filterbank": bank | {"sample_rate": rate}})

    def build_model(self) -> nn.Module:
        """Return the recipe's model.

        Raises:
            ValueError: the recipe masks padding, which the model does not support.
        """
        # A slash is in the names of other projects' models only, such as timm/NAME.
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

    def load_array(self, given: Any, rate: float | None) -> Tensor:
        """Return the waveform of a sound in memory, `[1, samples]`; see `read_array`."""
        return read_array(given, rate, self.data.sample_rate)

    def example(self, raw: Tensor, *, training: bool) -> Batch:
        """Return a waveform `[1, num_samples]` of unit level, or windows of it, `[windows, 1, num_samples]`.

        With masked padding, the example has their `length` as well. Where the number of windows is the sound's own, and
        not one, the example has it as `views`.
        """
        if training:
            clips = [self.training_transform(raw)]
        else:
            # With a mask only the level is set: padding before it would count as silence and raise the level.
            fit = Fit(self.data.num_samples) if self.data.padding == "silence" else normalize_level
            clips = [fit(clip) for clip in windows(raw, self.data.num_samples, self.num_views)]
        # Padded to one size, so that clips can be stacked; then to unit variance, which encoders expect of images, too.
        padding = [self.data.num_samples - clip.shape[-1] for clip in clips]
        fitted = [nn.functional.pad(clip, (0, size)) / LEVEL for clip, size in zip(clips, padding, strict=True)]
        one = len(clips) == 1
        example = {"input": fitted[0] if one else torch.stack(fitted)}
        if not one and self.num_views is None:
            example["views"] = torch.tensor(len(clips))
        if self.data.padding == "silence":
            return example
        lengths = torch.tensor([clip.shape[-1] for clip in clips])
        return example | {"length": lengths[0] if one else lengths}

    def parts(self, source: Path, seconds: float) -> Iterator[tuple[float, float, Batch]]:
        """Read a file, and yield parts of about `seconds`, each preprocessed as a whole file in an evaluation.

        Raises:
            ValueError: `seconds` is less than one sample.
        """
        rate = self.data.sample_rate
        if seconds < 1 / rate:
            raise ValueError(f"--timeline must be at least 1/{rate} seconds, one sample; got {seconds:g}")
        waveform = self.load_sample(source, training=False)
        for start, end in equal_spans(waveform.shape[-1] / rate, seconds):
            yield start, end, self.example(waveform[:, round(start * rate) : round(end * rate)], training=False)

    def to_input(self, batch: Batch) -> Batch:
        """Turn waveforms into log-mel features, if the recipe asks for them."""
        if self.data.features == "waveform":
            return batch
        x, lengths = batch["input"], batch.get("length")
        features = self.log_mel.to(x.device)(x, lengths)  # [B, bands, frames]
        if lengths is not None:
            batch = batch | {"length": self.log_mel.num_frames(lengths)}  # of samples before, of frames now
        # Bands as channels for a 1-D model; [B, 1, bands, frames] for a 2-D model.
        return batch | {"input": features if self.data.features == "log_mel" else features[:, None]}

    def augment(self, batch: Batch) -> Batch:
        """Mix clips, and mask parts of log-mel features, as the recipe says."""
        # Mixed before masking: a mask over a mix hides both clips.
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
            # The view drops the channel axis of images: [B, 1, bands, frames] to [B, bands, frames].
            masked = self.spec_augment(x.view(len(x), *x.shape[-2:]), batch["seed"], batch.get("length"))
            batch = batch | {"input": masked.view(x.shape)}
        return batch

    def model_args(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the sounds, and their lengths if padding is masked."""
        return (batch["input"],) if "length" not in batch else (batch["input"], batch["length"])

    def preprocessing(self) -> dict[str, Any]:
        """Return how sounds become the model's input."""
        data = self.data
        mel = {} if data.features == "waveform" else {"mel": dataclasses.asdict(data.mel)}
        return {
            "modality": "audio",
            "sample_rate": data.sample_rate,
            "seconds": data.seconds,
            "windows": data.windows or "as many as cover the sound",
            "padding": data.padding,
            "features": data.features,
            "channels": "mono, the mean of a file's",
            "rms": 1.0,  # of waveforms divided by LEVEL, and of log-mel features, whose variance is 1
            **mel,
        }

    def export_input(self) -> ExportInput:
        """Return the input of an exported model: the samples of a whole clip of any length."""
        data, generator = self.data, torch.Generator().manual_seed(0)
        # Longer than a window, exactly one, and shorter: the three cases that the export is compared on.
        lengths = (data.num_samples * 3 // 2 + 1, data.num_samples, data.num_samples // 2 + 1)
        # The number of windows of a whole sound depends on its length, which an exported program learns too late: the
        # caller cuts them, and the program takes each as a sound.
        count = data.windows or 1
        cut = {"window": None if data.windows else data.num_samples, "most_windows": MOST_WINDOWS}
        return ExportInput(
            name="samples",
            axes=("batch", "samples"),
            varying=("batch", "samples"),
            examples=[torch.randn(2 + i, length, generator=generator) / 10 for i, length in enumerate(lengths)],
            prepare=HeardWindows(data.num_samples, count, data.padding == "silence"),
            views=count,
            preprocessing={
                "sample_rate": data.sample_rate,
                "channels": "mono, the mean of a file's",
                **cut,
                "in_the_model": f"level; {count} window(s) of {data.seconds:g} s; {data.features}",
            },
        )

    def plot(self, axes: Axes, x: Tensor) -> None:
        """Plot a waveform and its spectrogram."""
        draw_sound(axes, x)

    def plot_input(self, axes: Axes, x: Tensor) -> None:
        """Plot a waveform, or log-mel features with high bands up."""
        if self.data.features == "waveform":
            self.plot(axes, x)
        else:
            axes.imshow(x.view(-1, x.shape[-1]).numpy(), origin="lower", aspect="auto", cmap="magma")

    def play(self, x: Tensor, path: Path) -> Path:
        """Write a waveform as a wav file."""
        file = path.with_name(f"{path.name}.wav")
        write_wav(x, self.data.sample_rate, file)
        return file


def _shared_fields(recipe: Any, target: Any) -> dict[str, Any]:
    """Return the fields of a recipe that `target`, a dataclass, has too."""
    names = {field.name for field in dataclasses.fields(target)}
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe) if field.name in names}
