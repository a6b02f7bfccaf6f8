"""Random changes to waveforms in training: speed, place, room, noise and gain, and the mixing of a batch.

Every waveform is `[1, samples]`, floating point. All randomness comes from torch's global generator, which the engine
seeds for each example; torchaudio's functions are used where they do the same in the same time, and each function here
that has a namesake there says why it is not that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta

from eyetoy_audio.io.files import EXTENSIONS, read_sound
from eyetoy_audio.recipe import WaveformAugmentation
from eyetoy_audio.transforms.waveform import SILENCE, check_value, check_waveform, fit_length, level, normalize_level

LEAST_LEVEL = 1e-12
"""Divisors are at least this, so that silence divided by its own level is silence."""
CACHED_SOUNDS = 32
"""How many decoded files of noises and impulse responses each process keeps in memory."""


@dataclass(frozen=True)
class Augment(WaveformAugmentation):
    """The transform of a training example: random speed, place, room and noise, one level, random gain.

    Nothing is clipped: samples may exceed 1.

    Attributes:
        samples: the length that it returns.
        pads: put silence around a waveform that is shorter than `samples`; otherwise it stays as short as it is.
        sample_rate: of the waveform in Hz, for reverberation and recordings.

    Raises:
        ValueError: a value is out of its range.
    """

    samples: int
    pads: bool = True
    sample_rate: int = 16_000

    def __post_init__(self) -> None:
        for name in ("samples", "sample_rate"):
            check_value(getattr(self, name) > 0, name, getattr(self, name), "positive")
        for name in ("noise_probability", "reverberation_probability", "background_probability"):
            check_value(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        for name in ("snr", "rt60", "direct_ratio", "background_snr"):
            least, largest = getattr(self, name)
            check_value(least <= largest, name, (least, largest), "the least, then the largest")
        check_value(self.rt60[0] > 0, "rt60", self.rt60, "positive")
        has_recordings = self.background_folder is not None or self.background_probability == 0
        check_value(has_recordings, "background_folder", None, "a folder where background_probability is above 0")
        for name in ("speed", "shift", "noise_color", "gain"):
            check_value(getattr(self, name) >= 0, name, getattr(self, name), "zero or more")

    def __call__(self, waveform: Tensor) -> Tensor:
        """Map `[1, length]` to `[1, samples]`, or, if it does not pad, to fewer samples."""
        # The order of the draws is that of the results in docs/: rooms and backgrounds, which came later, draw nothing
        # where they are off; noise always draws whether it happens.
        waveform = self._place(change_speed(waveform, (1 + self.speed) ** _draw(-1, 1)))
        if _happens(self.reverberation_probability):
            waveform = reverberate(waveform, self._response())
        if self.background_folder is not None and _happens(self.background_probability):
            recording = cached_sound(random_file(Path(self.background_folder)), self.sample_rate)
            waveform = add_background(waveform, recording, _draw(*self.background_snr))
        if _draw(0, 1) < self.noise_probability:
            waveform = add_noise(waveform, _draw(*self.snr), _draw(0, self.noise_color))
        return normalize_level(waveform) * _ratio(_draw(-self.gain, self.gain))

    def _place(self, waveform: Tensor) -> Tensor:
        excess = waveform.shape[-1] - self.samples
        if excess <= 0 and not self.pads:
            return waveform
        if self.random_crop and excess > 0:
            start = int(torch.randint(excess + 1, ()))
            return waveform[:, start : start + self.samples]
        return place(waveform, self.samples, round(self.samples * self.shift * _draw(-1, 1)))

    def _response(self) -> Tensor:
        if self.response_folder is not None:
            return recorded_response(Path(self.response_folder), self.sample_rate)
        return synthetic_response(self.sample_rate, _draw(*self.rt60), _draw(*self.direct_ratio))


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """Play a waveform faster, and as much higher, by linear interpolation.

    `torchaudio.functional.speed` resamples with a filter for each phase, which for a factor such as 1.0437 are
    thousands, and takes 20 seconds for one second of sound.

    Args:
        waveform: `[1, length]`.
        factor: how many times as fast.

    Returns:
        `[1, length / factor]`, rounded to a whole length.
    """
    check_waveform(waveform)
    length = round(waveform.shape[-1] / factor)
    if length in (0, waveform.shape[-1]):
        return waveform
    return F.interpolate(waveform[None], size=length, mode="linear")[0]


def place(waveform: Tensor, samples: int, offset: int) -> Tensor:
    """Crop or pad as `fit_length` does, with the waveform `offset` samples later than centered; negative is earlier."""
    # Twice the offset at one side moves the center by it; a waveform longer than `samples` then shows more of that end.
    return fit_length(F.pad(waveform, (2 * max(offset, 0), 2 * max(-offset, 0))), samples)


def add_noise(waveform: Tensor, snr: float, color: float) -> Tensor:
    """Add noise of a color.

    Args:
        waveform: `[1, samples]`, at least one sample. Silence gets noise as if it had the level `SILENCE`.
        snr: the ratio of the waveform's power to the noise's, in dB.
        color: the noise's power falls with the frequency to this power: 0 is white, 1 pink, 2 brown noise.

    Returns:
        `[1, samples]`.

    Raises:
        ValueError: the shape is another one.
    """
    check_waveform(waveform)
    spectrum = torch.fft.rfft(torch.randn_like(waveform))
    # The constant part would be infinitely loud: it gets the level of the lowest frequency.
    frequency = torch.arange(spectrum.shape[-1], device=waveform.device).clamp_min(1)
    # Power ~ 1 / f^color, so amplitude ~ 1 / f^(color / 2).
    noise = torch.fft.irfft(spectrum * frequency ** (-color / 2), n=waveform.shape[-1])
    return _add(waveform, noise, snr)


def add_background(waveform: Tensor, recording: Tensor, snr: float) -> Tensor:
    """Add a random excerpt of a recording.

    Args:
        waveform: `[1, samples]`, at least one sample. Silence gets noise as if it had the level `SILENCE`.
        recording: `[1, length]`, at least one sample. A shorter one is repeated. Where the excerpt is silence,
            nothing is added.
        snr: the ratio of the waveform's power to the excerpt's, in dB.

    Returns:
        `[1, samples]`.

    Raises:
        ValueError: a shape is another one.
    """
    check_waveform(waveform)
    check_waveform(recording, "recording")
    return _add(waveform, excerpt(recording, waveform.shape[-1]).to(waveform), snr)


def _add(waveform: Tensor, noise: Tensor, snr: float) -> Tensor:
    # Not torchaudio.functional.add_noise, which gives NaN where the noise is silent, and none where the waveform is.
    return waveform + noise * (level(waveform).clamp_min(SILENCE) * _ratio(-snr) / level(noise).clamp_min(LEAST_LEVEL))


def excerpt(recording: Tensor, samples: int) -> Tensor:
    """Cut `[1, samples]` out of `[1, length]` at a random place; a shorter recording goes round in a circle."""
    length = recording.shape[-1]
    start = torch.randint(length - samples + 1 if length >= samples else length, ())
    return recording[:, (start + torch.arange(samples)) % length]


def synthetic_response(sample_rate: int, rt60: float, direct_ratio: float) -> Tensor:
    """Make up a room's impulse response: the direct sound, then noise that dies away exponentially.

    This is the diffuse part of a room's response as Polack describes it (La transmission de l'énergie sonore dans les
    salles, 1988), without single early reflections.

    Args:
        sample_rate: in Hz.
        rt60: seconds until the reverberation is 60 dB weaker; the response ends there.
        direct_ratio: the ratio of the direct sound's energy to that of all the rest, in dB.

    Returns:
        `[1, samples]`, float32; the first sample is 1.

    Raises:
        ValueError: `rt60` is shorter than a sample.
    """
    length = round(sample_rate * rt60)
    if length < 1:
        raise ValueError(f"rt60 is {rt60!r}; it should be at least one sample, {1 / sample_rate:.2g} seconds")
    tail = torch.randn(length) * 10 ** (-3 * torch.arange(1, length + 1) / length)  # 60 dB are a level of 1 / 1000
    return torch.cat([torch.ones(1), tail * (_ratio(-direct_ratio) / tail.norm())])[None]


def recorded_response(folder: Path, sample_rate: int) -> Tensor:
    """Return a random one of the measured impulse responses of a folder, from its direct sound on.

    The direct sound is taken to be the loudest sample.

    Args:
        folder: a folder with sound files, in it or in folders in it.
        sample_rate: in Hz.

    Returns:
        `[1, samples]`.

    Raises:
        FileNotFoundError: the folder holds no sound file.
        ValueError: the file that was drawn is silent.
    """
    path = random_file(folder)
    recording = cached_sound(path, sample_rate)
    if not recording.any():
        raise ValueError(f"{path} is silent; it should be a room's impulse response")
    return recording[:, int(recording.abs().argmax()) :]


def reverberate(waveform: Tensor, response: Tensor) -> Tensor:
    """Let a waveform sound as in the room that has this impulse response.

    Args:
        waveform: `[1, samples]`, at least one sample.
        response: `[1, length]`, at least one sample, the direct sound first: it then comes no later than it was.

    Returns:
        `[1, samples]`, of the same level; what would sound longer is cut.

    Raises:
        ValueError: a shape is another one.
    """
    check_waveform(waveform)
    check_waveform(response, "response")
    samples = waveform.shape[-1]
    response = response[:, :samples].to(waveform)
    # A power of two that holds both, so that nothing wraps around. torchaudio.functional.fftconvolve takes the exact
    # length, which may have large prime factors and then takes three times as long.
    size = 1 << (samples + response.shape[-1] - 2).bit_length()
    spectrum = torch.fft.rfft(waveform, n=size) * torch.fft.rfft(response, n=size)
    heard: Tensor = torch.fft.irfft(spectrum, n=size)[:, :samples]
    return heard * (level(waveform) / level(heard).clamp_min(LEAST_LEVEL))


def mixup(
    x: Tensor, target: Tensor, lengths: Tensor | None = None, *, alpha: float, num_classes: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mix each example of a batch with another one, and their targets likewise (Zhang et al., mixup, ICLR 2018).

    The partners and their share, which is one number for the batch, come from torch's global generator. torchvision's
    MixUp takes no lengths, and mixes each example with the one before it.

    Args:
        x: `[batch, ...]`, floating point.
        target: labels, `[batch]`, or the probability of each class, such as 0 or 1, `[batch, num_classes]`.
        lengths: how much of each example is no padding, `[batch]`.
        alpha: both parameters of the beta distribution that the share is from.
        num_classes: number of classes.

    Returns:
        the mixed examples, the probabilities of their classes, `[batch, num_classes]`, and the larger of both
        lengths.

    Raises:
        ValueError: `alpha` is not positive.
    """
    check_value(alpha > 0, "alpha", alpha, "positive")
    share = float(Beta(alpha, alpha).sample())
    partner = torch.randperm(len(x)).to(x.device)
    probability = (F.one_hot(target, num_classes) if target.ndim == 1 else target).to(x.dtype)
    longest = None if lengths is None else lengths.maximum(lengths[partner])
    return x.lerp(x[partner], share), probability.lerp(probability[partner], share), longest


def random_file(folder: Path) -> Path:
    """Return one of the sound files of a folder and the folders in it.

    Raises:
        FileNotFoundError: there is none.
    """
    files = _sound_files(folder)
    return files[int(torch.randint(len(files), ()))]


@lru_cache
def _sound_files(folder: Path) -> tuple[Path, ...]:
    files = tuple(path for path in sorted(folder.rglob("*")) if path.suffix.lower() in EXTENSIONS and path.is_file())
    if not files:
        raise FileNotFoundError(
            f"found no sound file in {folder}; it should hold files ending in {', '.join(EXTENSIONS)}"
        )
    return files


@lru_cache(maxsize=CACHED_SOUNDS)
def cached_sound(path: Path, sample_rate: int) -> Tensor:
    """Read a file as `read_sound` does, or return the tensor read before; do not change it in place."""
    return read_sound(path, sample_rate)


def _happens(probability: float) -> bool:
    """Draw whether something happens; with a probability of zero nothing is drawn, so that no other draw changes."""
    return probability > 0 and _draw(0, 1) < probability


def _draw(least: float, largest: float) -> float:
    return float(torch.empty(()).uniform_(least, largest))


def _ratio(decibels: float) -> float:
    """Return the ratio of two levels (not powers)."""
    return 10 ** (decibels / 20)
