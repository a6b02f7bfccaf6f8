"""Draw attention maps of the audio app's models over waveforms and spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from eyetoy.filterbank import mel_points
from eyetoy_audio.app import APP
from eyetoy_audio.figures import FLOOR, spectrogram
from eyetoy_audio.io.files import EXTENSIONS
from eyetoy_audio.task import AudioClassification
from eyetoy_audio.transforms.features import LogMel
from eyetoy_train.commands.visualize import View, check_place, visualize
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.visualize.classifier import ClassifierView
from eyetoy_train.visualize.figures import draw_picture_maps, normalized
from eyetoy_train.visualize.legend import (
    ATTENTION,
    FIELD,
    HEAT,
    MARK,
    OUTSIDE,
    Scale,
    greatest,
    put_legend,
    put_title,
    put_wide_bar,
    runs,
)
from eyetoy_train.visualize.maps import InputMaps, Map

TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)
"""Frequencies to label, in Hz."""
RELATIVE = Scale("share of the row's greatest value, which is written at its right", lambda value, _: f"{value:.0%}")


@dataclass(frozen=True)
class Heard:
    """The part of a sound that the model hears, in seconds of the file."""

    start: float
    """Below 0 where silence is put before a sound."""
    end: float
    total: float
    """The length of the file."""

    @property
    def words(self) -> str:
        """A sentence for a figure; empty where the model hears the sound and nothing else."""
        if self.added:
            return f"The sound is from 0 to {self.total:.2f} s; the rest is silence that was added to it."
        if self.start > 0 or self.end < self.total:
            span = f"{self.start:.2f} to {self.end:.2f} s of {self.total:.2f} s"
            return f"The maps and the percentages are of the part from {span}."
        return ""

    @property
    def added(self) -> list[tuple[float, float]]:
        """Start and end of the silence that was added."""
        return [side for side in ((self.start, 0.0), (self.total, self.end)) if side[0] < side[1]]


class SoundView(ClassifierView[AudioClassification]):
    """The predictions and maps of a classifier of sounds; see `ClassifierView`."""

    def __init__(self, opened: Checkpoint[AudioClassification]) -> None:
        super().__init__(opened)
        self.axes = ("time",) if self.encoder.params.num_spatial_dims == 1 else ("frequency", "time")

    def __call__(self, file: Path, at: Sequence[float] | None = None) -> View:
        """Return the prediction of a file, and the maps of the part around a point of it that the model hears."""
        place, raw = check_place(at, self.axes), self.task.load_sample(file, training=False)
        data, example = self.task.data, self.task.example(raw, training=False)
        classes = drawn = self.top(example)
        begin = part_begin(raw.shape[-1], data.num_samples, place[-1])
        part = raw[:, begin : begin + data.num_samples]
        if part.shape != raw.shape:
            example = self.task.example(part, training=False)
            drawn = self.top(example)
        one = self.one_view(example)
        size = int(one.get("length", data.num_samples))
        begin -= (size - part.shape[-1]) // 2  # silence is put around a short sound, see `fit_length`
        heard = Heard(begin / data.sample_rate, (begin + size) / data.sample_rate, raw.shape[-1] / data.sample_rate)
        inside = (place[-1] * raw.shape[-1] - begin) / size
        unit = {"waveform": "samples", "log_mel": "frames"}.get(data.features, "places")
        maps = self.maps(one, [*place[:-1], min(max(inside, 0.0), 1.0)], unit)
        if len(self.axes) == 2:
            picture = _picture(self.model_input(one)[0, 0].cpu().numpy())
            ticks = partial(_put_ticks, mel=self.task.log_mel, rate=data.sample_rate, start=heard.start)
            figure = draw_picture_maps(picture, maps, aspect="auto", note=heard.words, put_ticks=ticks)
        else:
            waveform = one["input"][0, : one.get("length")].numpy()
            figure = draw_sound_maps(waveform, data.sample_rate, maps, heard)
        put_title(figure, file, drawn)
        return View(classes, figure)


def part_begin(total: int, samples: int, at: float) -> int:
    """Return where the part of `samples` around a point begins that lies in a sound; 0 if the sound is shorter.

    Args:
        total: samples of the sound.
        samples: of the part.
        at: the point, a fraction of the sound.
    """
    excess = max(total - samples, 0)
    # Of the middle, this is the part that `windows` takes: rounded down.
    return min(max(int(at * total - samples / 2), 0), excess)


def draw_sound_maps(waveform: NDArray[np.float32], sample_rate: int, maps: InputMaps, heard: Heard) -> Figure:
    """Draw all maps of a sound, one below the other, with time to the right; `put_title` gives the figure its title.

    Args:
        waveform: `[samples]`.
        sample_rate: in Hz.
        maps: of the waveform, or of its features, which have fewer positions.
        heard: where the waveform lies in its file.
    """
    span = (heard.start, heard.end)
    heights = [1.4, 1.6, 0.7, *(0.45 * (len(stage.groups) + 1) for stage in maps.stages), 0.35]
    figure = Figure(figsize=(12, 1.25 * sum(heights) + 2), layout="constrained")
    panels = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    weights, scale = (maps.field, FIELD) if maps.context is None else (maps.context, ATTENTION)
    name = "receptive field of the point" if maps.context is None else "attention of the context token"
    most = "" if maps.context is None else f" (at most {scale.write(greatest(weights), greatest(weights))} per token)"
    _draw_waveform(panels[0], waveform, weights, span, f"waveform, over the {name}{most}")
    _draw_spectrogram(panels[1], waveform, sample_rate, weights, span, f"spectrogram, brighter for more {name}")
    _draw_curve(panels[2], maps.field, span, "effective receptive field of the point (gradient, largest = 1)")
    for axes, stage in zip(panels[3:-1], maps.stages, strict=True):
        bands = [(one.title, one.weights, ATTENTION, one.seen) for one in stage.groups]
        everywhere = np.ones(len(stage.field), dtype=bool)
        bands.append(("receptive field", stage.field, FIELD, everywhere))
        # A recipe may leave attention out of the blocks.
        seen_by = "attention of its head groups from the point, per token" if stage.groups else "no attention"
        _draw_bands(axes, bands, span, f"{stage.title}: {seen_by}")
    panels[-1].imshow(maps.components[None], aspect="auto", extent=(*span, 0, 1), interpolation="nearest")
    panels[-1].set(yticks=[], xlabel="seconds")
    panels[-1].set_title("features: three principal components", fontsize=10, loc="left")
    # The middle of the position.
    at = heard.start + (maps.point[0] + 0.5) / len(maps.field) * (heard.end - heard.start)
    for axes in panels:
        axes.axvline(at, color=MARK, linewidth=1.2)
        axes.set_xlim(*span)
    for axes in panels[:2]:
        for side in heard.added:
            axes.axvspan(*side, linewidth=0, **OUTSIDE)
    put_wide_bar(figure, panels, np.ones(1, np.float32), RELATIVE, HEAT)
    put_legend(figure, heard.words, has_attention=maps.has_attention, is_line=True)
    return figure


Span = tuple[float, float]


def _draw_waveform(axes: Axes, waveform: NDArray[np.float32], weights: Map, span: Span, title: str) -> None:
    peak = 1.05 * max(float(np.abs(waveform).max()), 1e-9)
    axes.imshow(normalized(weights)[None], cmap=HEAT, vmin=0, vmax=1, aspect="auto", extent=(*span, -peak, peak))
    # White below the curve: the colours of the map go from dark to bright.
    outline = [patheffects.withStroke(linewidth=2, foreground="white")]
    axes.plot(np.linspace(*span, len(waveform)), waveform, color="#24292f", linewidth=0.6, path_effects=outline)
    axes.set(ylim=(-peak, peak), yticks=[])
    axes.set_title(title, fontsize=10, loc="left")


def _draw_spectrogram(
    axes: Axes, waveform: NDArray[np.float32], sample_rate: int, weights: Map, span: Span, title: str
) -> None:
    decibels, loudest = spectrogram(torch.from_numpy(waveform))
    level = ((decibels - loudest - FLOOR) / -FLOOR).clip(0, 1)
    # The map has a value for every sample or frame; take the nearest one for each column of the spectrogram.
    columns = np.linspace(0, len(weights) - 1, level.shape[1]).round().astype(int)
    brightness = 0.3 + 0.7 * normalized(weights)[columns]
    colors = colormaps["magma"](level)[..., :3] * brightness[None, :, None]
    axes.imshow(colors, origin="lower", aspect="auto", extent=(*span, 0.0, sample_rate / 2))
    axes.set_ylabel("Hz")
    axes.set_title(title, fontsize=10, loc="left")


def _draw_curve(axes: Axes, values: Map, span: Span, title: str) -> None:
    time = span[0] + (np.arange(len(values)) + 0.5) / len(values) * (span[1] - span[0])
    axes.fill_between(time, values / greatest(values), color="#c2410c", linewidth=0)
    axes.set(ylim=(0, 1.05), yticks=[0, 1])
    axes.set_title(title, fontsize=10, loc="left")


def _draw_bands(axes: Axes, bands: Sequence[tuple[str, Map, Scale, NDArray[np.bool_]]], span: Span, title: str) -> None:
    """Draw maps as rows: name, values, what they are, and where there are any."""
    names, maps, scales, seen = zip(*bands, strict=True)
    picture, middles = np.stack([normalized(one) for one in maps]), np.arange(len(bands)) + 0.5
    axes.imshow(picture, aspect="auto", cmap=HEAT, extent=(*span, len(bands), 0), interpolation="nearest")
    axes.set_yticks(middles, names, fontsize=8)
    tops = [scale.write(greatest(one), greatest(one)) for scale, one in zip(scales, maps, strict=True)]
    right = axes.secondary_yaxis("right")
    right.set_yticks(middles, tops, fontsize=8)
    right.tick_params(length=0)
    for band, inside in enumerate(seen):
        outside = [_seconds(run, len(inside), span) for run in runs(~inside)]
        axes.broken_barh([(start, end - start) for start, end in outside], (band, 1), linewidth=0, **OUTSIDE)
        if not inside.all():
            found = np.flatnonzero(inside)
            axes.vlines(
                _seconds((found[0], found[-1] + 1), len(inside), span), band, band + 1, color=MARK, linewidth=1.2
            )
    for line in range(1, len(bands)):
        axes.axhline(line, color="white", linewidth=0.8)
    axes.set_title(title, fontsize=10, loc="left")


def _seconds(ends: tuple[int, int], count: int, span: Span) -> Span:
    """Return positions of `count` over a span as seconds."""
    first, last = (span[0] + end / count * (span[1] - span[0]) for end in ends)
    return first, last


def _put_ticks(axes: Axes, *, mel: LogMel, rate: int, start: float) -> None:
    """Label a picture of mel bands and frames with Hz and seconds, and turn low frequencies down."""
    # The middle of band b is point b + 1.
    points = mel_points(mel.num_bands, rate).numpy()
    wanted = [hertz for hertz in TICKS if points[1] <= hertz <= points[-2]]
    axes.set_yticks(np.interp(wanted, points[1:-1], np.arange(mel.num_bands)), map(str, wanted), fontsize=7)
    axes.invert_yaxis()
    # Frame f is centered `window_size` / 2 after its first sample.
    first = start + mel.window_size / 2 / rate
    axes.xaxis.set_major_locator(_Seconds(first, mel.hop / rate))
    axes.xaxis.set_major_formatter(lambda frame, _: f"{first + frame * mel.hop / rate:.3g}")
    axes.tick_params(labelsize=7, length=2, pad=1)
    axes.set_xlabel("seconds", fontsize=7, labelpad=1)
    axes.set_ylabel("Hz", fontsize=7, labelpad=1)


class _Seconds(MaxNLocator):
    """Puts ticks at round numbers of seconds, where an axis counts frames."""

    def __init__(self, first: float, step: float) -> None:
        super().__init__(nbins=5)
        self.first, self.step = first, step

    def tick_values(self, vmin: float, vmax: float) -> Any:
        low, high = (self.first + frame * self.step for frame in (vmin, vmax))
        return (np.asarray(super().tick_values(low, high)) - self.first) / self.step


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
