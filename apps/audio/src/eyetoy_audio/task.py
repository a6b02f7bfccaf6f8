"""The audio classification task: its data, and how a waveform goes in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch import Tensor

from eyetoy_audio.files import EXTENSIONS, read_sound
from eyetoy_audio.recipe import AudioClassificationRecipe
from eyetoy_audio.spoken_keywords import write_spoken_keywords
from eyetoy_audio.transforms import LEVEL, Augment, Fit
from eyetoy_train import FolderClassification
from eyetoy_train.class_folder import write_once


class AudioClassification(FolderClassification):
    """Classify sounds, through Encoder1D."""

    def __init__(self, recipe: AudioClassificationRecipe) -> None:
        super().__init__(recipe, recipe.data, EXTENSIONS)
        self.data = recipe.data
        self.evaluation_transform = Fit(recipe.data.num_samples)
        self.training_transform = Augment(recipe.data.num_samples, **dataclasses.asdict(recipe.data.augmentation))

    def prepare(self) -> None:
        """Synthesise the spoken keywords if they are asked for and not there."""
        if self.data.source == "spoken_keywords":
            write_once(self.root, write_spoken_keywords)
        super().prepare()

    def load_sample(self, source: Path, *, training: bool) -> Tensor:
        """Return a waveform `[1, samples]` of any length."""
        return read_sound(source, self.data.sample_rate)

    def transform(self, raw: Tensor, *, training: bool) -> Tensor:
        """Return a waveform `[1, num_samples]` of one level."""
        # The encoder is given unit variance, as it is for images and video.
        return (self.training_transform if training else self.evaluation_transform)(raw) / LEVEL

    def draw(self, axes: Axes, x: Tensor) -> None:
        """Draw the spectrogram of a waveform, time from left to right and frequency upwards."""
        spectrum = torch.stft(x[0], 256, hop_length=64, window=torch.hann_window(256), return_complex=True)
        decibels = 20 * spectrum.abs().clamp_min(1e-6).log10()
        axes.imshow(decibels, origin="lower", aspect="auto", vmin=-40, cmap="magma")
