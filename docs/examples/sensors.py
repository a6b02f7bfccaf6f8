"""Classify sensor series: CSV files in class folders, one row per time step, one column per channel."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from eyetoy_train import (
    Batch,
    ClassificationApp,
    ClassificationRecipe,
    ExportInput,
    FolderClassification,
    UnreadableFileError,
    export_checkpoint,
)


@dataclass(kw_only=True)
class SeriesData:
    """The data set and how samples are read."""

    root: str = "data/series"
    """A folder of class folders, with or without train, val and test."""
    channels: int = 3
    """Columns of a file."""
    steps: int = 128
    """Rows of the model's input; longer series are cut, shorter ones are padded with zeros."""
    unreadable: Literal["refuse", "skip"] = "refuse"
    """Stop at an unreadable file, or name it and skip it."""
    cache: bool = True
    """Keep loaded samples in memory."""


@dataclass(kw_only=True)
class SeriesRecipe(ClassificationRecipe):
    """Train a series classifier with Encoder1D."""

    data: SeriesData = field(default_factory=SeriesData)
    """The data."""


class SeriesClassification(FolderClassification):
    """Classify series with Encoder1D."""

    def __init__(self, recipe: SeriesRecipe) -> None:
        self.data = recipe.data
        super().__init__(recipe, recipe.data, [".csv"])
        self.in_channels = self.data.channels

    def load_sample(self, source: Path, *, training: bool) -> Tensor:
        """Return `[channels, time]`, each channel of mean 0 and variance 1."""
        try:
            x = torch.from_numpy(np.loadtxt(source, delimiter=",", dtype=np.float32, ndmin=2)).T
        except ValueError as error:
            raise UnreadableFileError(f"{source} is not a table of numbers: {error}") from error
        if len(x) != self.data.channels or x.shape[1] < 2:
            raise UnreadableFileError(f"{source} is {list(x.T.shape)}; it should have {self.data.channels} columns")
        return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-6)

    def example(self, raw: Tensor, *, training: bool) -> Batch:
        """Return `[channels, steps]` as input: a random part in training, otherwise the middle."""
        spare = max(raw.shape[1] - self.data.steps, 0)
        start = int(torch.randint(spare + 1, ())) if training else spare // 2
        x = raw[:, start : start + self.data.steps]
        return {"input": torch.nn.functional.pad(x, (0, self.data.steps - x.shape[1]))}

    def plot(self, axes: Axes, x: Tensor) -> None:
        """Plot the channels over time."""
        axes.plot(x.T.numpy(), linewidth=0.8)

    def export_input(self) -> ExportInput:
        """Return that an exported model takes series as `example` gives them."""
        examples = [torch.randn(batch, self.data.channels, self.data.steps) for batch in (2, 3)]
        axes = ("batch", "channels", "time")
        return ExportInput(name="series", axes=axes, examples=examples, prepare=lambda x: {"input": x})


CONFIG = Path(__file__).with_suffix(".yaml")
APP = ClassificationApp(SeriesRecipe, SeriesClassification, [".csv"], default_config=CONFIG)

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "export":
        export_checkpoint(APP, arguments)
    else:
        {"train": APP.train, "validate": APP.validate, "predict": APP.predict}[command](arguments)
