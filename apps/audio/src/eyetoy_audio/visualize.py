"""Draw attention maps of the audio app's models over waveforms and spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from eyetoy_audio.app import APP
from eyetoy_audio.figures import FLOOR, spectrogram
from eyetoy_audio.io.files import EXTENSIONS
from eyetoy_audio.task import AudioClassification
from eyetoy_train.commands.visualize import View, check_place, visualize
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.visualize.classifier import ClassifierView, heading
from eyetoy_train.visualize.figures import HEAT, MARK, draw_picture_maps, normalized
from eyetoy_train.visualize.maps import InputMaps, Map


class SoundView(ClassifierView[AudioClassification]):
    """The predictions and maps of a classifier of sounds; see `ClassifierView`."""

    def __init__(self, opened: Checkpoint[AudioClassification]) -> None:
        super().__init__(opened)
        self.axes = ("time",) if self.encoder.params.num_spatial_dims == 1 else ("frequency", "time")

    def __call__(self, file: Path, at: Sequence[float] | None = None) -> View:
        """Return the prediction and the maps of a file."""
        place, example = check_place(at, self.axes), self.example(file)
        classes, one = self.top(example), self.one_view(example)
        data = self.task.data
        unit = {"waveform": "samples", "log_mel": "frames"}.get(data.features, "places")
        maps = self.maps(one, place, unit)
        if len(self.axes) == 2:
            picture = _picture(self.model_input(one)[0, 0].cpu().numpy())
            figure = draw_picture_maps(picture, maps, heading(classes), aspect="auto")
            for axes in figure.axes:
                axes.invert_yaxis()  # row 0 is the lowest frequency, which is drawn at the bottom
        else:
            waveform = one["input"][0, : one.get("length")].numpy()
            figure = draw_sound_maps(waveform, data.sample_rate, maps, heading(classes))
        return View(classes, figure)


def draw_sound_maps(waveform: NDArray[np.float32], sample_rate: int, maps: InputMaps, title: str) -> Figure:
    """Draw all maps of a sound, one below the other, with time to the right.

    Args:
        waveform: `[samples]`.
        sample_rate: in Hz.
        maps: of the waveform, or of its features, which have fewer positions.
        title: title of the figure.
    """
    seconds = len(waveform) / sample_rate
    heights = [1.4, 1.6, 0.7, *(0.45 * (len(stage.groups) + 1) for stage in maps.stages), 0.35]
    figure = Figure(figsize=(12, 1.25 * sum(heights) + 1), layout="constrained")
    figure.suptitle(title, fontsize=15)
    panels = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    weights = maps.field if maps.context is None else maps.context
    name = "receptive field of the point" if maps.context is None else "attention of the context token"
    _draw_waveform(panels[0], waveform, weights, seconds, f"waveform, brighter for more {name}")
    _draw_spectrogram(panels[1], waveform, sample_rate, weights, f"spectrogram, brighter for more {name}")
    _draw_curve(panels[2], maps.field, seconds, "effective receptive field of the point")
    for axes, stage in zip(panels[3:-1], maps.stages, strict=True):
        bands = [*(group.weights for group in stage.groups), stage.field]
        names = [*(group.title for group in stage.groups), "receptive field"]
        _draw_bands(axes, bands, names, seconds, f"{stage.title}: attention of its head groups from the point")
        _draw_windows(axes, [group.seen for group in stage.groups], seconds)
    panels[-1].imshow(maps.components[None], aspect="auto", extent=(0, seconds, 0, 1), interpolation="nearest")
    panels[-1].set(yticks=[], xlabel="seconds")
    panels[-1].set_title("features: three principal components", fontsize=10, loc="left")
    at = (maps.point[0] + 0.5) / len(maps.field) * seconds  # the middle of the position
    for axes in panels:
        axes.axvline(at, color=MARK, linewidth=1.2)
        axes.set_xlim(0, seconds)
    return figure


def _draw_waveform(axes: Axes, waveform: NDArray[np.float32], weights: Map, seconds: float, title: str) -> None:
    peak = 1.05 * max(float(np.abs(waveform).max()), 1e-9)
    extent = (0, seconds, -peak, peak)
    # 0.9: the brightest colour is nearly white, on which the curve would not be seen.
    axes.imshow(0.9 * normalized(weights)[None], cmap=HEAT, vmin=0, vmax=1, aspect="auto", extent=extent)
    axes.plot(np.linspace(0, seconds, len(waveform)), waveform, color="#8fd3ff", linewidth=0.7)
    axes.set(ylim=(-peak, peak), yticks=[])
    axes.set_title(title, fontsize=10, loc="left")


def _draw_spectrogram(axes: Axes, waveform: NDArray[np.float32], sample_rate: int, weights: Map, title: str) -> None:
    decibels, loudest = spectrogram(torch.from_numpy(waveform))
    level = ((decibels - loudest - FLOOR) / -FLOOR).clip(0, 1)
    # The map has a value for every sample or frame; take the nearest one for each column of the spectrogram.
    columns = np.linspace(0, len(weights) - 1, level.shape[1]).round().astype(int)
    brightness = 0.3 + 0.7 * normalized(weights)[columns]
    colors = colormaps["magma"](level)[..., :3] * brightness[None, :, None]
    extent = (0.0, len(waveform) / sample_rate, 0.0, sample_rate / 2000)
    axes.imshow(colors, origin="lower", aspect="auto", extent=extent)
    axes.set_ylabel("kHz")
    axes.set_title(title, fontsize=10, loc="left")


def _draw_curve(axes: Axes, values: Map, seconds: float, title: str) -> None:
    time = (np.arange(len(values)) + 0.5) / len(values) * seconds
    axes.fill_between(time, values, color="#c2410c", linewidth=0)
    axes.set(ylim=(0, None), yticks=[])
    axes.set_title(title, fontsize=10, loc="left")


def _draw_bands(axes: Axes, bands: Sequence[Map], names: Sequence[str], seconds: float, title: str) -> None:
    picture = np.stack([normalized(band) for band in bands])
    axes.imshow(picture, aspect="auto", cmap=HEAT, extent=(0, seconds, len(bands), 0), interpolation="nearest")
    axes.set_yticks(np.arange(len(bands)) + 0.5, names, fontsize=8)
    for line in range(1, len(bands)):
        axes.axhline(line, color="white", linewidth=0.8)
    axes.set_title(title, fontsize=10, loc="left")


def _draw_windows(axes: Axes, seen: Sequence[NDArray[np.bool_]], seconds: float) -> None:
    """Mark the start and the end of neighborhoods."""
    for band, inside in enumerate(seen):
        found = np.flatnonzero(inside)
        ends = np.array([found[0], found[-1] + 1]) / len(inside) * seconds
        axes.vlines(ends, band, band + 1, color=MARK, linewidth=1.2)


def _picture(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return features `[bands, frames]` as a grey image, with the lowest band in the first row."""
    low, high = np.percentile(features, (1, 99))
    level = ((features - low) / max(high - low, 1e-9)).clip(0, 1)
    picture: NDArray[np.float32] = np.repeat(level[..., None], 3, axis=-1).astype(np.float32)
    return picture


def open_viewer(checkpoint: Path, overrides: Sequence[str] = ()) -> SoundView:
    """Return the view of a run or a checkpoint; see `App.open` and `ClassifierView` for errors."""
    return SoundView(APP.open(checkpoint, overrides, command="visualize"))


def main(argv: Sequence[str] | None = None) -> None:
    """Draw maps, as the command line says."""
    visualize(open_viewer, EXTENSIONS, argv=argv)
