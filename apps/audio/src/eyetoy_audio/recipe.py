"""What an audio classification run is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from eyetoy_audio.datasets import DATASETS
from eyetoy_train import ClassificationRecipe
from eyetoy_train.data.source import DatasetOptions, RefuseOrSkip
from eyetoy_train.recipe import check_fields


@dataclass(frozen=True, kw_only=True)
class WaveformAugmentation:
    """Random changes to waveforms; `eyetoy_audio.transforms.augmentation.Augment` makes them."""

    speed: float = 0.1
    """Largest relative change of speed, and of pitch with it: with 0.1, from 1 / 1.1 to 1.1."""
    shift: float = 0.1
    """Move a clip earlier or later by up to this share of its length."""
    noise_probability: float = 0.5
    """How often noise is added."""
    snr: tuple[float, float] = (10.0, 40.0)
    """Least and largest ratio of the clip's power to the noise's, in dB."""
    noise_color: float = 2.0
    """Largest exponent with which the noise's power falls with frequency: 0 is white, 1 pink, 2 brown noise."""
    random_crop: bool = False
    """Cut a clip that is longer than the model's input anywhere; or around its middle, moved by `shift`."""
    reverberation_probability: float = 0.0
    """How often a clip is put into a room."""
    rt60: tuple[float, float] = (0.1, 0.8)
    """Least and largest time in which a room's echo falls by 60 dB, in seconds."""
    direct_ratio: tuple[float, float] = (0.0, 15.0)
    """Least and largest ratio of the direct sound's energy to the echo's, in dB."""
    response_folder: str | None = None
    """Sound files with measured impulse responses, to take in place of rooms that are made up."""
    background_probability: float = 0.0
    """How often a part of a recording is mixed in."""
    background_folder: str | None = None
    """The recordings; those of the set itself by default, if it has any, as Speech Commands does."""
    background_snr: tuple[float, float] = (5.0, 30.0)
    """Least and largest ratio of the clip's power to the recording's, in dB."""
    gain: float = 6.0
    """Largest change of the level, up or down, in dB. It comes last, or the one level would undo it."""


@dataclass(frozen=True, kw_only=True)
class AudioAugmentation(WaveformAugmentation):
    """Random changes to training clips; evaluation hears them as they are."""

    random_crop: bool = True
    """Cut a clip that is longer than the model's input anywhere; or around its middle, moved by `shift`."""
    mixup: float = 0.0
    """Mix pairs of clips and their labels, in shares of the beta distribution with this parameter; 0 for never."""
    time_masks: int = 0
    """SpecAugment (Park et al., 2019): stretches of time that are hidden in log-mel features."""
    time_width: int = 25
    """Frames of the longest of them."""
    time_share: float = 0.2
    """Share of a clip's frames that none of them exceeds."""
    frequency_masks: int = 0
    """Bands of frequencies that are hidden."""
    frequency_width: int = 15
    """Mel bands of the widest of them."""


@dataclass(kw_only=True)
class MelFeatures:
    """What log-mel features are made of."""

    num_bands: int = 64
    """How many mel bands."""
    window_ms: float = 25.0
    """Length of the part of a sound that a frame is made from."""
    hop_ms: float = 10.0
    """Time from one frame to the next."""


@dataclass(kw_only=True)
@DATASETS.as_choices
class AudioData(DatasetOptions):
    """Which sounds, and how they go in."""

    source: str = "folder"
    """A folder of class folders, with or without train, val and test; a set on Hugging Face's hub; a folder of tables
    with any number of labels for a clip, as AudioSet's; or a set by its name. Spoken keywords are synthesised into
    `root`. The others must be present; if one is missing, the message gives the command that fetches it."""
    root: str = "data/sounds"
    """Folder of the sounds, or a set's name on the hub."""
    missing: RefuseOrSkip = "refuse"
    """Clips that a list names and that are not there stop the run; or they are counted and left out."""
    fold: int = 1
    """The fold of ESC-50 that is for the test, from 1 to 5; the next one is for validation."""
    sample_rate: int = 16_000
    """Samples per second of the model's input; files are resampled to it."""
    seconds: float = 1.0
    """Length of the model's input. Of a longer clip training hears a random part, and an evaluation `windows`."""
    windows: int = 1
    """Parts of a longer clip, evenly spread over it, whose probabilities an evaluation averages; one is its middle."""
    padding: Literal["mask", "silence"] = "silence"
    """A shorter clip gets silence on both sides; or its end is padded and the model is told to leave that out, which
    this project's models for waveforms and log-mel features can."""
    features: Literal["waveform", "log_mel", "log_mel_image"] = "waveform"
    """What the model hears: the waveform itself; log-mel features, whose bands are the channels of a 1-D model; or the
    same as a picture of one channel for a 2-D model."""
    mel: MelFeatures = field(default_factory=MelFeatures)
    """What log-mel features are made of."""
    decoder: Literal["auto", "torchcodec", "soundfile", "pyav"] = "auto"
    """Library that reads files; what `auto` chooses for which is said once."""
    augmentation: AudioAugmentation = field(default_factory=AudioAugmentation)
    """Random changes to training clips."""

    def __post_init__(self) -> None:
        """Refuse clips without samples, and what does not go together."""
        if self.num_samples < 1:
            raise ValueError(
                f"sample_rate times seconds must be at least 1 sample; got {self.sample_rate} times {self.seconds}"
            )
        check_fields(self, "at least 1", "windows", prefix="data.")
        if self.features == "log_mel_image" and self.padding == "mask":
            raise ValueError("data.padding: mask is for 1-D models; with log_mel_image, data.padding must be silence")
        masks = self.augmentation.time_masks or self.augmentation.frequency_masks
        if self.features == "waveform" and masks:
            raise ValueError("time_masks and frequency_masks hide log-mel features, and data.features is waveform")

    @property
    def num_samples(self) -> int:
        """Samples of the model's input."""
        return round(self.sample_rate * self.seconds)


@dataclass(kw_only=True)
class AudioClassificationRecipe(ClassificationRecipe):
    """Train a sound classifier: Encoder1D on raw waveforms, or on log-mel features, or Encoder2D on their picture."""

    data: AudioData = field(default_factory=AudioData)
    """The sounds."""
