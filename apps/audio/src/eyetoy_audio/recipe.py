"""What an audio classification run is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eyetoy_train import ClassificationRecipe


@dataclass(kw_only=True)
class AudioAugmentation:
    """Random changes to training clips; evaluation hears them as they are."""

    speed: float = 0.1
    """Largest relative change of speed, and of pitch with it."""
    shift: float = 0.1
    """Move a clip earlier or later by up to this share of its length."""
    noise_probability: float = 0.5
    """How often noise is added."""
    snr: tuple[float, float] = (10.0, 40.0)
    """Least and largest ratio of the clip's power to the noise's, in dB."""
    noise_color: float = 2.0
    """Largest exponent with which the noise's power falls with frequency: 0 is white, 1 pink, 2 brown noise."""
    gain: float = 6.0
    """Largest change of the level, up or down, in dB."""


@dataclass(kw_only=True)
class AudioData:
    """Which sounds, and how they go in."""

    source: Literal["spoken_keywords", "folder"] = "folder"
    """Keywords synthesised on this machine, or any folder of class folders with sound files."""
    root: str = "data/sounds"
    """Where the sounds lie; spoken keywords are written there if they are not there yet."""
    sample_rate: int = 16_000
    """Samples per second of the model's input; files are resampled to it."""
    seconds: float = 1.0
    """Length of the model's input: longer clips are cropped around their middle, shorter ones padded with silence."""
    unreadable: Literal["refuse", "skip"] = "refuse"
    """Files that cannot be read stop the run; or all are read once before it, and these are named and left out."""
    cache: bool = False
    """Keep decoded clips in memory."""
    augmentation: AudioAugmentation = field(default_factory=AudioAugmentation)
    """Random changes to training clips."""

    def __post_init__(self) -> None:
        """Refuse clips without samples."""
        if self.num_samples < 1:
            raise ValueError(
                f"sample_rate times seconds must be at least 1 sample; got {self.sample_rate} times {self.seconds}"
            )

    @property
    def num_samples(self) -> int:
        """Samples of the model's input."""
        return round(self.sample_rate * self.seconds)


@dataclass(kw_only=True)
class AudioClassificationRecipe(ClassificationRecipe):
    """Train a sound classifier on Encoder1D, from raw waveforms."""

    data: AudioData = field(default_factory=AudioData)
    """The sounds."""
