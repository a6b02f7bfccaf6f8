"""The recipe of an audio classification run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from eyetoy_audio.datasets import DATASETS
from eyetoy_train import ClassificationRecipe
from eyetoy_train.concerns import ANYWHERE, DATA, EVALUATION, MODEL, READING, TRAINING, Concerns
from eyetoy_train.data.source import DatasetOptions, RefuseOrSkip
from eyetoy_train.data.tagged import Separator
from eyetoy_train.recipe import check_fields

LEAST_SAMPLES = 8
"""The fewest samples of a waveform from one token to the next, 1 ms at 8 kHz."""


@dataclass(frozen=True, kw_only=True)
class WaveformAugmentation:
    """Random changes to waveforms, applied by `eyetoy_audio.transforms.augmentation.Augment`."""

    concerns: ClassVar[Concerns] = {
        ANYWHERE: ("response_folder", "background_folder"),  # another set may have no recordings of its own
        TRAINING: (
            *("speed", "tempo", "shift", "margin", "equalizer", "gain", "random_crop"),
            *("noise_probability", "snr", "noise_color"),
            *("reverberation_probability", "rt60", "direct_ratio", "background_probability", "background_snr"),
        ),
    }

    speed: float = 0.1
    """Largest relative change of speed, and of pitch with it: with 0.1, from 1 / 1.1 to 1.1."""
    tempo: float = 0.0
    """Largest relative change of the tempo, without the pitch: with 0.5, from 1 / 1.5 to 1.5. Without it, a model may
    tell words apart by how long its few speakers take for them."""
    shift: float = 0.1
    """Move a clip earlier or later by up to this fraction of the model's input. Not a shorter one where padding is
    masked, for which `margin` is meant; nor a longer one with `random_crop`."""
    margin: float = 0.0
    """Put silence around a clip that is shorter than the model's input, up to this fraction of the input in all, where
    padding is masked: a clip may then begin and end anywhere within its file."""
    equalizer: float = 0.0
    """Largest gain or loss of a random equalizer, in dB; 0 for none. Each octave gets its own, as if another microphone
    had recorded another mouth."""
    noise_probability: float = 0.5
    """Probability of added noise."""
    snr: tuple[float, float] = (10.0, 40.0)
    """Range of the ratio of the clip's power to the noise's, in dB."""
    noise_color: float = 2.0
    """Largest exponent with which the noise's power falls with frequency: 0 is white, 1 pink, 2 brown noise."""
    random_crop: bool = False
    """Crop a clip longer than the model's input at a random place; False: around its middle, moved by `shift`."""
    reverberation_probability: float = 0.0
    """Probability of the reverberation of a room."""
    rt60: tuple[float, float] = (0.1, 0.8)
    """Range of the time in which a room's echo falls by 60 dB, in seconds."""
    direct_ratio: tuple[float, float] = (0.0, 15.0)
    """Range of the ratio of the direct sound's energy to the echo's, in dB."""
    response_folder: str | None = None
    """Folder of measured impulse responses, used instead of synthetic rooms."""
    background_probability: float = 0.0
    """Probability of a recording mixed in."""
    background_folder: str | None = None
    """Folder of the recordings; those of the data set by default, if it has any, as Speech Commands does."""
    background_snr: tuple[float, float] = (5.0, 30.0)
    """Range of the ratio of the clip's power to the recording's, in dB."""
    gain: float = 6.0
    """Largest change of the level, up or down, in dB. It is the last step, after the level is normalized."""


@dataclass(frozen=True, kw_only=True)
class AudioAugmentation(WaveformAugmentation):
    """Random changes to training clips; an evaluation uses the clips unchanged."""

    concerns: ClassVar[Concerns] = {
        TRAINING: (*("mixup", "time_masks", "time_width", "time_share", "frequency_masks", "frequency_width"),),
    }

    random_crop: bool = True
    """Crop a clip longer than the model's input at a random place; False: around its middle, moved by `shift`."""
    mixup: float = 0.0
    """Parameter of the beta distribution by which pairs of clips and their labels are mixed; 0 for no mixing."""
    time_masks: int = 0
    """Number of masked spans of time in log-mel features (SpecAugment, Park et al., 2019)."""
    time_width: int = 25
    """Largest width of a masked span, in frames."""
    time_share: float = 0.2
    """Largest width of a masked span as a fraction of the clip's frames."""
    frequency_masks: int = 0
    """Number of masked bands of frequencies in log-mel features."""
    frequency_width: int = 15
    """Largest width of a masked band, in mel bands."""


@dataclass(kw_only=True)
class MelFeatures:
    """Parameters of log-mel features."""

    concerns: ClassVar[Concerns] = {MODEL: ("num_bands",), EVALUATION: ("window_ms", "hop_ms", "range_db")}

    num_bands: int = 64
    """Number of mel bands."""
    window_ms: float = 25.0
    """Length of the window of a frame, in milliseconds."""
    hop_ms: float = 10.0
    """Time from one frame to the next, in milliseconds."""
    range_db: float = 80.0
    """Dynamic range: energies further below a clip's largest one are raised to that, in dB. A small range hides what
    tells recordings apart rather than sounds: how quiet their pauses and highest bands are."""


@dataclass(kw_only=True)
@DATASETS.as_choices
class AudioData(DatasetOptions):
    """The sounds and their preprocessing."""

    concerns: ClassVar[Concerns] = {
        DATA: ("source", "label_separator"),
        EVALUATION: ("sample_rate", "seconds", "windows", "padding", "decoder"),
        MODEL: ("features",),
        READING: ("missing",),
    }

    source: str = "folder"
    """A folder of class folders, with or without train, val and test; a set on Hugging Face's hub; a folder of tables
    with any number of labels for a clip, as AudioSet's; or a set by its name. Spoken keywords are synthesised into
    `root`. The others must be present; if one is missing, the message has the command that fetches it."""
    root: str = "data/sounds"
    """Folder of the sounds, or name of a set on the hub."""
    label_separator: Separator | None = None
    """What is between the labels in the column of a table; found in the table if not given, where that is clear."""
    missing: RefuseOrSkip = "refuse"
    """Refuse: listed clips that are missing stop the run. Skip: they are counted and left out."""
    fold: int = 1
    """The part for the test, from 1 to `folds`; the fold of ESC-50 for the test, from 1 to 5, of which the next one is
    for validation."""
    sample_rate: int = 16_000
    """Samples per second of the model's input; files are resampled to it."""
    seconds: float = 1.0
    """Length of the model's input. Training uses a random part of a longer clip, an evaluation `windows` parts."""
    windows: int | None = None
    """Number of parts of a longer clip, evenly spaced, whose probabilities an evaluation averages; 1 is its middle. If
    not given, as many as cover the whole clip, at most 256."""
    padding: Literal["mask", "silence"] = "silence"
    """Silence: a shorter clip gets silence on both sides. Mask: its end is padded and the model ignores the padding,
    which needs a model of this project for waveforms or log-mel features."""
    features: Literal["waveform", "log_mel", "log_mel_image"] = "waveform"
    """The model's input: the waveform; log-mel features, whose bands are the channels of a 1-D model; or the same as an
    image of one channel for a 2-D model."""
    mel: MelFeatures = field(default_factory=MelFeatures)
    """Parameters of log-mel features."""
    decoder: Literal["auto", "torchcodec", "soundfile", "pyav"] = "auto"
    """Library that reads files; the choice of `auto` is logged once."""
    augmentation: AudioAugmentation = field(default_factory=AudioAugmentation)
    """Random changes to training clips."""

    def __post_init__(self) -> None:
        """Refuse clips without samples, and options that exclude each other."""
        if self.num_samples < 1:
            raise ValueError(
                f"sample_rate times seconds must be at least 1 sample; got {self.sample_rate} times {self.seconds}"
            )
        check_fields(self, "at least 1", "windows", prefix="data.")
        check_fields(self.augmentation, "at least 0", "mixup", prefix="data.augmentation.")
        for name, chance in (("background", "background"), ("response", "reverberation")):
            folder = getattr(self.augmentation, f"{name}_folder")
            if folder is not None and getattr(self.augmentation, f"{chance}_probability") == 0:
                raise ValueError(
                    f"data.augmentation.{name}_folder={folder} is never read while "
                    f"{chance}_probability is 0; give it, too"
                )
        if self.features == "log_mel_image" and self.padding == "mask":
            raise ValueError("data.padding: mask is for 1-D models; with log_mel_image, data.padding must be silence")
        masks = self.augmentation.time_masks or self.augmentation.frequency_masks
        if self.features == "waveform" and masks:
            raise ValueError("time_masks and frequency_masks hide log-mel features, and data.features is waveform")

    @property
    def num_samples(self) -> int:
        """Number of samples of the model's input."""
        return round(self.sample_rate * self.seconds)


@dataclass(kw_only=True)
class AudioClassificationRecipe(ClassificationRecipe):
    """Train a sound classifier: Encoder1D on raw waveforms or log-mel features, or Encoder2D on log-mel images."""

    data: AudioData = field(default_factory=AudioData)
    """The sounds."""

    def __post_init__(self) -> None:
        """Refuse what would take a day: the stem of a spectrogram over a waveform."""
        super().__post_init__()
        strides = self.model.stem_strides
        if strides is None or self.data.features != "waveform" or self.model.options.get("filterbank") is not None:
            return
        samples = math.prod(stride if isinstance(stride, int) else math.prod(stride) for stride in strides)
        if samples < LEAST_SAMPLES:
            raise ValueError(
                f"model.stem_strides {strides} make a token of every {samples} samples of the waveform, "
                f"{self.data.num_samples // max(samples, 1):,} of a clip; give strides such as [4, 4, 4], whose "
                f"product is at least {LEAST_SAMPLES}, a filterbank, or data.features log_mel"
            )
