"""Log-mel spectrograms of waveforms and SpecAugment, for whole batches on the model's device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from eyetoy.tracing import is_plain_call
from eyetoy_train.utils.seeds import uniforms

SILENT_ENERGY = 1e-20
"""The energy of silence, so that it has a logarithm."""
POINTS_AT_A_TIME = 1 << 17
"""Of Fourier transforms on a CPU."""
LEAST_VARIANCE = 1e-5
"""Added to the variance, so that silence is divided by more than zero."""


class LogMel(nn.Module):
    """Log-mel spectrograms of mean 0 and variance 1.

    A frame is a window of samples (von Hann's, without padding), and the first frame begins with the first sample, so
    that padding after a clip does not change its frames. Energies in mel bands (O'Shaughnessy's scale, as in HTK) go
    from 0 Hz to half the sample rate. Energies more than `range_db` below a clip's largest one are raised to that. Mean
    and variance are each one number for a clip, over its bands and frames: a gain changes nothing, and silence becomes
    zeros. Computed in float32, also under autocast.

    The mel filters are torchaudio's. Its `MelSpectrogram` takes no lengths, and puts windows of 400 samples in the
    middle of frames of 512: the first begins 56 samples late, and a second has 97 of them instead of 98.

    Args:
        sample_rate: in Hz.
        num_bands: number of mel bands.
        window_ms: length of a frame in milliseconds.
        hop_ms: time from the start of a frame to that of the next, in milliseconds.
        range_db: dynamic range, in dB.

    Raises:
        ValueError: a value is not positive, or a window or a hop is too short to hold samples.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int,
        num_bands: int = 64,
        window_ms: float = 25.0,
        hop_ms: float = 10.0,
        range_db: float = 80.0,
    ) -> None:
        super().__init__()
        if range_db <= 0:
            raise ValueError(f"range_db is {range_db}; it should be above 0")
        self.least = 10 ** (-range_db / 10)  # energies are raised to this fraction of a clip's largest one
        self.window_size, self.hop = (round(sample_rate * ms / 1000) for ms in (window_ms, hop_ms))
        if min(num_bands, self.window_size - 1, self.hop) < 1:
            raise ValueError(
                f"num_bands is {num_bands}, and {window_ms} and {hop_ms} ms at {sample_rate} Hz are windows of "
                f"{self.window_size} and hops of {self.hop} samples; they should be at least 1, 2 and 1"
            )
        self.num_bands = num_bands
        self.num_points = 1 << (self.window_size - 1).bit_length()  # the next power of two, for a fast transform
        filters = melscale_fbanks(self.num_points // 2 + 1, 0.0, sample_rate / 2, num_bands, sample_rate)
        # Not persistent: computed from the recipe, they are no part of a checkpoint.
        self.register_buffer("window", torch.hann_window(self.window_size), persistent=False)
        self.register_buffer("filters", filters, persistent=False)  # [frequencies, bands]

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Return the number of frames, at least one each, of clips of these lengths in samples; integers, any shape."""
        return 1 + (lengths - self.window_size).clamp_min(0) // self.hop

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the spectrograms of a batch.

        Args:
            x: `[batch, 1, samples]`.
            lengths: samples of each clip without its padding, int64 `[batch]`; all by default. The values of the
                padding do not matter.

        Returns:
            `[batch, bands, frames]`, in the type of `x`; zeros after a clip's last frame.

        Raises:
            ValueError: `x` has another shape.
        """
        if x.ndim != 3 or x.shape[1] != 1:
            raise ValueError(f"x is {list(x.shape)}; it should be [batch, 1, samples]")
        if lengths is None:
            lengths = torch.full(x.shape[:1], x.shape[-1], device=x.device)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 has too few digits for a range of 80 dB
            energy = self._energy(x[:, 0].float().masked_fill(~_before(lengths, x.shape[-1]), 0.0))
            valid = _before(self.num_frames(lengths), energy.shape[-1])[:, None]  # [batch, 1, frames]
            return _normalized(_log(energy * valid, self.least), valid).to(x.dtype)

    def _energy(self, x: Tensor) -> Tensor:
        """Return energies in mel bands, `[batch, bands, frames]`, of `[batch, samples]`."""
        x = nn.functional.pad(x, (0, max(self.window_size - x.shape[-1], 0)))  # a shorter clip has one frame
        frames = x.unfold(-1, self.window_size, self.hop)  # [batch, frames, samples]
        if not is_plain_call(x):
            return self._banded(frames).mT
        # A few clips at a time: their spectra stay in the cache. An exported graph must not depend on the batch.
        clips = max(POINTS_AT_A_TIME // (frames.shape[1] * self.num_points), 1)
        return torch.cat([self._banded(part) for part in torch.split(frames, clips)]).mT

    def _banded(self, frames: Tensor) -> Tensor:
        """Return energies in mel bands, `[batch, frames, bands]`, of `[batch, frames, samples]`."""
        spectrum = torch.fft.rfft(frames * self.window, n=self.num_points)  # [batch, frames, frequencies]
        # Squared magnitudes; abs() would take a square root only for the square to undo it.
        energy: Tensor = (spectrum.real.square() + spectrum.imag.square()) @ self.filters
        return energy


def _before(ends: Tensor, size: int) -> Tensor:
    """Return which of `size` positions come before `ends`, `[batch, size]`."""
    return torch.arange(size, device=ends.device) < ends[:, None]


def _log(energy: Tensor, least: float) -> Tensor:
    floor = energy.amax((1, 2), keepdim=True) * least
    return energy.maximum(floor.clamp_min(SILENT_ENERGY)).log()


def _normalized(x: Tensor, valid: Tensor) -> Tensor:
    """Scale `[batch, bands, frames]` to mean 0 and variance 1 over the frames of `valid`; the others become 0."""
    count = valid.sum(-1, keepdim=True) * x.shape[1]
    centered = (x - (x * valid).sum((1, 2), keepdim=True) / count) * valid
    variance = centered.square().sum((1, 2), keepdim=True) / count
    return centered / (variance + LEAST_VARIANCE).sqrt()


@dataclass(frozen=True)
class SpecAugment:
    """Masks over time and frequency (Park et al., SpecAugment, Interspeech 2019), without time warping.

    A clip's masks depend on its seed alone, not on its batch, and are in its frames, not in its padding. Not
    torchaudio's masking, which has neither seeds nor lengths. Masked positions become 0, the mean of `LogMel`'s output.

    Attributes:
        frequency_masks: number of masked bands of frequencies in each clip; they may overlap.
        frequency_width: largest width of one, in mel bands; all widths from 0 on are equally likely.
        time_masks: number of masked spans of time.
        time_width: largest width of one, in frames.
        time_share: largest width of one, as a fraction of a clip's frames.

    Raises:
        ValueError: a value is out of its range.
    """

    frequency_masks: int = 2
    frequency_width: int = 15
    time_masks: int = 2
    time_width: int = 25
    time_share: float = 0.2

    def __post_init__(self) -> None:
        for name in ("frequency_masks", "frequency_width", "time_masks", "time_width"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it should be zero or more")
        if not 0 <= self.time_share <= 1:
            raise ValueError(f"time_share is {self.time_share!r}; it should be from 0 to 1")

    def __call__(self, x: Tensor, seeds: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Mask `[batch, bands, frames]`.

        Args:
            x: spectrograms.
            seeds: one for each clip, for `uniforms`, int64 `[batch]`.
            num_frames: frames of each clip before its padding, `[batch]`; all by default.

        Returns:
            The same shape.
        """
        if num_frames is None:
            num_frames = seeds.new_full(seeds.shape, x.shape[-1])
        num_bands = seeds.new_full(seeds.shape, x.shape[1])
        widest = (num_frames * self.time_share).floor().clamp_max(self.time_width)
        count = self.frequency_masks + self.time_masks
        # A width and a position for each mask, bands first: [batch, masks, 2]. From the samples' own seeds and for the
        # whole batch at once: the masks do not depend on how processes share the batch.
        numbers = uniforms(seeds, 2 * count).view(len(seeds), count, 2)
        bands, times = numbers[:, : self.frequency_masks], numbers[:, self.frequency_masks :]
        masked = _masks(bands, num_bands, num_bands.clamp_max(self.frequency_width), x.shape[1])[:, :, None]
        return x.masked_fill(masked | _masks(times, num_frames, widest, x.shape[2])[:, None], 0.0)


def _masks(numbers: Tensor, sizes: Tensor, widest: Tensor, size: int) -> Tensor:
    """Return which of `size` positions are masked, `[batch, size]`.

    Args:
        numbers: width and position of each mask as uniform numbers of [0, 1), `[batch, masks, 2]`.
        sizes: number of positions that may be masked in each sample, `[batch]`.
        widest: the largest width, `[batch]`.
        size: number of all positions.
    """
    width = (numbers[..., 0] * (widest[:, None] + 1)).floor()  # + 1: the largest width is as likely as the others
    start = (numbers[..., 1] * (sizes[:, None] - width + 1)).floor()
    positions = torch.arange(size, device=numbers.device)
    masks = (positions >= start[..., None]) & (positions < (start + width)[..., None])  # [batch, masks, size]
    return masks.any(1)
