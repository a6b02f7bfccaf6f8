"""Augment waveforms in training: speed, position, room, noise and gain, and mixup of a batch.

Every waveform is `[1, samples]`, floating point. All randomness comes from torch's global generator, which the engine
seeds for each example. torchaudio's functions are used where they do the same in the same time; a function here that
torchaudio has as well says why it is not that one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Beta

from eyetoy.sizes import ceil_div
from eyetoy_audio.io.files import EXTENSIONS, read_sound
from eyetoy_audio.recipe import WaveformAugmentation
from eyetoy_audio.transforms.waveform import SILENCE, check_value, check_waveform, fit_length, level, normalize_level
from eyetoy_train.utils.files import list_files

LEAST_LEVEL = 1e-12
"""Divisors are at least this, so that silence divided by its own level is silence."""
HALF_FRAME = 0.015
"""Seconds from one frame to the next where the tempo changes."""
OCTAVES = 7
"""Points of a random equalizer, an octave apart: at 16 kHz from 125 Hz to 8 kHz."""
ODD_FACTORS = (1, 3, 5, 9, 15, 25, 27, 45, 75, 81, 125, 135)
"""Of the sizes of Fourier transforms: they are fast where no prime factor is above 5."""
CACHED_SOUNDS = 32
"""Number of decoded files of noises and impulse responses that each process keeps in memory."""


@dataclass(frozen=True)
class Augment(WaveformAugmentation):
    """The transform of a training example: random speed, position, room and noise, one level, random gain.

    Nothing is clipped: samples may exceed 1.

    Attributes:
        samples: length of the result.
        pads: put silence around a waveform shorter than `samples`; otherwise it keeps its length.
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
        for name in ("speed", "tempo", "shift", "margin", "equalizer", "noise_color", "gain"):
            check_value(getattr(self, name) >= 0, name, getattr(self, name), "zero or more")

    def __call__(self, waveform: Tensor) -> Tensor:
        """Map `[1, length]` to `[1, samples]`, or, if it does not pad, to fewer samples."""
        # The order of random draws must not change, or the results in docs/ could not be reproduced. Tempo, equalizers,
        # rooms and backgrounds, which were added later, draw nothing if they are off; noise always draws once.
        # A power of a number from -1 to 1, so that faster and slower are equally likely.
        waveform = change_speed(waveform, (1 + self.speed) ** _uniform(-1, 1))
        if self.tempo:
            waveform = change_tempo(waveform, (1 + self.tempo) ** _uniform(-1, 1), self.sample_rate)
        waveform = self._place(waveform)
        if self.equalizer:
            waveform = equalize(waveform, self.equalizer * (2 * torch.rand(OCTAVES) - 1))
        if _happens(self.reverberation_probability):
            if self.response_folder is not None:
                response = recorded_response(Path(self.response_folder), self.sample_rate)
            else:
                response = synthetic_response(self.sample_rate, _uniform(*self.rt60), _uniform(*self.direct_ratio))
            waveform = reverberate(waveform, response)
        if self.background_folder is not None and _happens(self.background_probability):
            recording = cached_sound(random_file(Path(self.background_folder)), self.sample_rate)
            waveform = add_background(waveform, recording, _uniform(*self.background_snr))
        if _uniform(0, 1) < self.noise_probability:
            waveform = add_noise(waveform, _uniform(*self.snr), _uniform(0, self.noise_color))
        # Gain after the level is normalized, which would undo it.
        return normalize_level(waveform) * _ratio(_uniform(-self.gain, self.gain))

    def _place(self, waveform: Tensor) -> Tensor:
        excess = waveform.shape[-1] - self.samples
        if excess <= 0 and not self.pads:
            most = min(round(self.samples * self.margin), -excess)
            # Cut anywhere, so that the clip's place within the silence around it is random.
            silence = round(most * _uniform(0, 1)) if most else 0
            before = round(silence * _uniform(0, 1)) if silence else 0
            return F.pad(waveform, (before, silence - before))
        if self.random_crop and excess > 0:
            start = int(torch.randint(excess + 1, ()))
            return waveform[:, start : start + self.samples]
        return place(waveform, self.samples, round(self.samples * self.shift * _uniform(-1, 1)))


def change_speed(waveform: Tensor, factor: float) -> Tensor:
    """Change the speed of a waveform, and its pitch with it, by linear interpolation.

    Not `torchaudio.functional.speed`: it resamples with a filter for each phase, of which a factor such as 1.0437 has
    thousands, and takes 20 seconds for one second of sound.

    Args:
        waveform: `[1, length]`.
        factor: the speed; 2 is twice as fast.

    Returns:
        `[1, length / factor]`, rounded to a whole length.
    """
    check_waveform(waveform)
    length = round(waveform.shape[-1] / factor)
    if length in (0, waveform.shape[-1]):
        return waveform
    return F.interpolate(waveform[None], size=length, mode="linear")[0]


def change_tempo(waveform: Tensor, factor: float, sample_rate: int) -> Tensor:
    """Change how fast a speaker talks, without the pitch: frames are laid closer together or further apart.

    Each frame is taken from where it continues the one before it best (WSOLA: Verhelst and Roelands, ICASSP 1993). Not
    `torchaudio.functional.phase_vocoder`, which smears onsets.

    Args:
        waveform: `[1, length]`.
        factor: the tempo; 2 is twice as fast.
        sample_rate: in Hz.

    Returns:
        `[1, length / factor]`, rounded to a whole length; a clip shorter than two frames of 30 ms stays as it is.
    """
    check_waveform(waveform)
    hop = round(sample_rate * HALF_FRAME)
    length = round(waveform.shape[-1] / factor)
    if hop < 2 or waveform.shape[-1] < 4 * hop or length < 4 * hop or length == waveform.shape[-1]:
        return waveform
    reach = hop // 2  # how far a frame may be moved
    x = np.pad(waveform[0].numpy(), (reach, 4 * hop))  # sample t is at reach + t
    window = np.hanning(2 * hop + 1)[:-1].astype(x.dtype)  # halves of neighbors add up to 1
    out, last = np.zeros(length + 3 * hop, x.dtype), reach
    for start in range(0, length + hop, hop):
        place = min(round(start * factor), waveform.shape[-1] + hop) + reach
        if start:
            wanted, near = x[last + hop : last + 3 * hop], x[place - reach : place + reach + 2 * hop]
            place += int(np.correlate(near, wanted[: len(near) - 2 * reach], "valid")[: 2 * reach].argmax()) - reach
        # The first half of the first frame has no neighbor.
        shape = np.where(np.arange(2 * hop) < hop, 1, window).astype(x.dtype) if start == 0 else window
        out[start : start + 2 * hop] += shape * x[place : place + 2 * hop]
        last = place
    return torch.from_numpy(out[:length])[None]


def place(waveform: Tensor, samples: int, offset: int) -> Tensor:
    """Crop or pad like `fit_length`, with the waveform `offset` samples later than centered; negative is earlier."""
    # Padding of twice the offset at one side moves the center by the offset.
    return fit_length(F.pad(waveform, (2 * max(offset, 0), 2 * max(-offset, 0))), samples)


def equalize(waveform: Tensor, gains: Tensor) -> Tensor:
    """Make some frequencies louder and others quieter, as another microphone, mouth or room would.

    Args:
        waveform: `[1, samples]`, at least one sample.
        gains: in dB, at half the sample rate, a quarter, an eighth and so on, `[points]`. Between them the gain is
            linear over octaves; below the last it stays.

    Returns:
        `[1, samples]`.

    Raises:
        ValueError: the waveform has another shape.
    """
    check_waveform(waveform)
    samples = waveform.shape[-1]
    size = fast_size(samples + samples // 8)  # zeros after the end, so that little of it reaches the start
    spectrum = torch.fft.rfft(waveform, n=size)
    octave = math.log2(size // 2) - _frequencies(spectrum).log2()  # below half the sample rate
    octave = octave.clamp(0, len(gains) - 1)
    point = octave.int().clamp_max(max(len(gains) - 2, 0))
    after = (point + 1).clamp_max(len(gains) - 1)
    exponents = gains.to(octave) * (math.log(10) / 20)
    factors = torch.lerp(exponents[point], exponents[after], octave - point).exp()
    equalized: Tensor = torch.fft.irfft(spectrum * factors, n=size)[:, :samples]
    return equalized


def add_noise(waveform: Tensor, snr: float, color: float) -> Tensor:
    """Add colored noise.

    Args:
        waveform: `[1, samples]`, at least one sample. Silence gets noise as if it had the level `SILENCE`.
        snr: ratio of the waveform's power to the noise's, in dB.
        color: exponent by which the noise's power falls with frequency: 0 is white, 1 pink, 2 brown noise.

    Returns:
        `[1, samples]`.

    Raises:
        ValueError: the waveform has another shape.
    """
    check_waveform(waveform)
    size = fast_size(waveform.shape[-1])
    spectrum = torch.fft.rfft(torch.randn(1, size, dtype=waveform.dtype, device=waveform.device))
    # Power ~ 1 / f^color, so amplitude ~ 1 / f^(color / 2).
    noise = torch.fft.irfft(spectrum * _frequencies(spectrum) ** (-color / 2), n=size)
    return _add(waveform, noise[:, : waveform.shape[-1]], snr)


def _frequencies(spectrum: Tensor) -> Tensor:
    """Return the number of each frequency; 0, whose logarithm is infinite, counts as the lowest."""
    return torch.arange(spectrum.shape[-1], dtype=spectrum.real.dtype, device=spectrum.device).clamp_min(1)


def fast_size(samples: int) -> int:
    """Return an even size of at least `samples`, little above it, for which a Fourier transform is fast.

    A clip's own length may have large prime factors: transforms of 14,000 to 21,000 samples took four to five times as
    long so.
    """
    return min(factor << max((ceil_div(samples, factor) - 1).bit_length(), 1) for factor in ODD_FACTORS)


def add_background(waveform: Tensor, recording: Tensor, snr: float) -> Tensor:
    """Add a random excerpt of a recording.

    Args:
        waveform: `[1, samples]`, at least one sample. Silence gets noise as if it had the level `SILENCE`.
        recording: `[1, length]`, at least one sample. A shorter one is repeated. A silent excerpt adds nothing.
        snr: ratio of the waveform's power to the excerpt's, in dB.

    Returns:
        `[1, samples]`.

    Raises:
        ValueError: the waveform or the recording has another shape.
    """
    check_waveform(waveform)
    check_waveform(recording, "recording")
    return _add(waveform, excerpt(recording, waveform.shape[-1]).to(waveform), snr)


def _add(waveform: Tensor, noise: Tensor, snr: float) -> Tensor:
    # Not torchaudio.functional.add_noise: it returns NaN for silent noise, and adds no noise to a silent waveform.
    return waveform + noise * (level(waveform).clamp_min(SILENCE) * _ratio(-snr) / level(noise).clamp_min(LEAST_LEVEL))


def excerpt(recording: Tensor, samples: int) -> Tensor:
    """Cut `[1, samples]` out of `[1, length]` at a random place; a shorter recording is repeated."""
    length = recording.shape[-1]
    start = torch.randint(length - samples + 1 if length >= samples else length, ())
    return recording[:, (start + torch.arange(samples)) % length]


def synthetic_response(sample_rate: int, rt60: float, direct_ratio: float) -> Tensor:
    """Return a synthetic impulse response of a room: the direct sound, then noise that decays exponentially.

    This is the diffuse part of a room's response (Polack, La transmission de l'énergie sonore dans les salles, 1988),
    without single early reflections.

    Args:
        sample_rate: in Hz.
        rt60: seconds until the reverberation is 60 dB weaker; the response ends there.
        direct_ratio: ratio of the direct sound's energy to that of the rest, in dB.

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
    """Return a random measured impulse response of a folder, from its direct sound on.

    The loudest sample is taken for the direct sound.

    Args:
        folder: a folder with sound files, in it or below it.
        sample_rate: in Hz.

    Returns:
        `[1, samples]`.

    Raises:
        FileNotFoundError: the folder has no sound file.
        ValueError: the chosen file is silent.
    """
    path = random_file(folder)
    recording = cached_sound(path, sample_rate)
    if not recording.any():
        raise ValueError(f"{path} is silent; it should be a room's impulse response")
    return recording[:, int(recording.abs().argmax()) :]


def reverberate(waveform: Tensor, response: Tensor) -> Tensor:
    """Convolve a waveform with the impulse response of a room.

    Args:
        waveform: `[1, samples]`, at least one sample.
        response: `[1, length]`, at least one sample, with the direct sound first, so that the sound is not delayed.

    Returns:
        `[1, samples]`, of the same level; the reverberation after the end is cut.

    Raises:
        ValueError: the waveform or the response has another shape.
    """
    check_waveform(waveform)
    check_waveform(response, "response")
    samples = waveform.shape[-1]
    response = response[:, :samples].to(waveform)
    # A product of spectra is a circular convolution; a size that holds both keeps the end from wrapping around. Not
    # torchaudio.functional.fftconvolve, which uses the exact length.
    size = fast_size(samples + response.shape[-1] - 1)
    spectrum = torch.fft.rfft(waveform, n=size) * torch.fft.rfft(response, n=size)
    convolved: Tensor = torch.fft.irfft(spectrum, n=size)[:, :samples]
    return convolved * (level(waveform) / level(convolved).clamp_min(LEAST_LEVEL))


def mixup(
    x: Tensor, target: Tensor, lengths: Tensor | None = None, *, alpha: float, num_classes: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Mix each example of a batch with another one, and their targets likewise (Zhang et al., mixup, ICLR 2018).

    The partners and their weight, which is one number for the batch, come from torch's global generator. Not
    torchvision's MixUp, which takes no lengths and mixes each example with the one before it.

    Args:
        x: `[batch, ...]`, floating point.
        target: labels, `[batch]`, or the probability of each class, such as 0 or 1, `[batch, num_classes]`.
        lengths: length of each example without its padding, `[batch]`.
        alpha: both parameters of the beta distribution of the weight.
        num_classes: number of classes.

    Returns:
        the mixed examples, the probabilities of their classes, `[batch, num_classes]`, and the larger of both
        lengths.

    Raises:
        ValueError: `alpha` is not positive.
    """
    check_value(alpha > 0, "alpha", alpha, "positive")
    # On the CPU, also for a batch on a GPU: the numbers are then the same on every device.
    weight = float(Beta(alpha, alpha).sample())
    partner = torch.randperm(len(x)).to(x.device)
    probability = (F.one_hot(target, num_classes) if target.ndim == 1 else target).to(x.dtype)
    longest = None if lengths is None else lengths.maximum(lengths[partner])
    return x.lerp(x[partner], weight), probability.lerp(probability[partner], weight), longest


def random_file(folder: Path) -> Path:
    """Return a random sound file in a folder or below it.

    Raises:
        FileNotFoundError: there is none.
    """
    files = _sound_files(folder)
    return files[int(torch.randint(len(files), ()))]


@lru_cache
def _sound_files(folder: Path) -> tuple[Path, ...]:
    # Sorted, so that a random number means the same file on every machine.
    files = tuple(path for path in list_files(folder, EXTENSIONS)[0] if path.is_file())
    if not files:
        raise FileNotFoundError(
            f"found no sound file in {folder}; it should hold files ending in {', '.join(EXTENSIONS)}"
        )
    return files


@lru_cache(maxsize=CACHED_SOUNDS)
def cached_sound(path: Path, sample_rate: int) -> Tensor:
    """Return `read_sound` of a file, cached. Do not change the tensor in place."""
    return read_sound(path, sample_rate)


def _happens(probability: float) -> bool:
    """Return True with a probability; with 0 no random number is drawn, so that later ones stay the same."""
    return probability > 0 and _uniform(0, 1) < probability


def _uniform(least: float, largest: float) -> float:
    return float(torch.empty(()).uniform_(least, largest))


def _ratio(decibels: float) -> float:
    """Return the ratio of two levels (not powers)."""
    return 10 ** (decibels / 20)
