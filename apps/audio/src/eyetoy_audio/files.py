"""Sound files as tensors: mono, float32, at the sample rate that is asked for."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
import torchaudio
from torch import Tensor

from eyetoy_train import UnreadableFileError

# The suffix decides which library reads a file: soundfile, or PyAV, which carries FFmpeg. Not .au: libsndfile takes
# whatever has that name for sound, text too.
SOUNDFILE_EXTENSIONS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".caf", ".w64")
PYAV_EXTENSIONS = (".m4a", ".mp4", ".aac", ".wma", ".mka", ".webm")
EXTENSIONS = SOUNDFILE_EXTENSIONS + PYAV_EXTENSIONS

# A program that writes a wav file into a pipe does not know its length, and announces one near the largest there is.
UNKNOWN_WAV_BYTES = 0x7FFF_0000
# Where an mp3 file does not tell its length it is guessed, to within a few of its frames of 1152 samples.
LENGTH_TOLERANCE = 4 * 1152

_Samples = npt.NDArray[np.float32]


class UnreadableSoundError(UnreadableFileError):
    """A file is not sound that can be used. The message says which file, what is wrong and what would be right."""

    def __init__(self, path: Path, wrong: str, right: str) -> None:
        super().__init__(f"{path}: {wrong}; {right}")


def read_sound(path: Path, sample_rate: int) -> Tensor:
    """Read a whole sound file.

    A file that was cut short is refused where that can be seen: in wav, flac, m4a and most mp3 files, not in ogg files.

    Args:
        path: a file whose suffix, in lower case, is one of :data:`EXTENSIONS`.
        sample_rate: in Hz; the sound is resampled to it.

    Returns:
        The mean of the channels, float32 ``[1, samples]``. Integer samples are scaled to [-1, 1]; floating point and
        compressed ones may exceed it.

    Raises:
        FileNotFoundError: if there is no such file.
        UnreadableSoundError: if it is no sound of a known kind, is broken or cut short, or holds no samples or samples
            that are not finite.
        ValueError: if ``sample_rate`` is not positive.
        ImportError: if PyAV is needed and not installed.
    """
    if sample_rate <= 0:
        raise ValueError(f"sample_rate is {sample_rate}; it should be positive, such as 16000")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, or not a file; it should be a sound file")
    samples, file_rate = _decode(path)
    _check_samples(path, samples)
    mono = torch.from_numpy(samples).mean(dim=0, keepdim=True)
    resampled: Tensor = torchaudio.functional.resample(mono, file_rate, sample_rate)
    return resampled


def _decode(path: Path) -> tuple[_Samples, int]:
    """Samples ``[channels, samples]``, and their rate in Hz."""
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        raise UnreadableSoundError(path, "the file is empty", "it should hold sound")
    if suffix in SOUNDFILE_EXTENSIONS:
        return _decode_by_soundfile(path)
    if suffix in PYAV_EXTENSIONS:
        return _decode_by_pyav(path)
    raise UnreadableSoundError(path, f"its suffix is {suffix!r}", f"it should be one of {' '.join(EXTENSIONS)}")


def _decode_by_soundfile(path: Path) -> tuple[_Samples, int]:
    try:
        with soundfile.SoundFile(path) as file:
            samples, announced, rate = file.read(dtype="float32", always_2d=True).T, file.frames, file.samplerate
    except soundfile.LibsndfileError as error:
        right = f"it should be the sound that the suffix {path.suffix!r} promises"
        raise UnreadableSoundError(path, f"libsndfile cannot read it ({error.error_string})", right) from error
    if samples.shape[1] < announced - LENGTH_TOLERANCE:
        wrong = f"it is cut short: it announces {announced} samples and holds {samples.shape[1]}"
        raise UnreadableSoundError(path, wrong, "it should hold them all")
    if path.suffix.lower() == ".wav":
        _check_wav_is_whole(path)
    return samples, rate


def _check_wav_is_whole(path: Path) -> None:
    # libsndfile reads what is left of a wav file without a word, and announces only that.
    with path.open("rb") as file:
        if file.read(4) != b"RIFF":
            return
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, announced = struct.unpack("<4sI", head)
            if name == b"data":
                break
            file.seek(announced + announced % 2, 1)
        held = path.stat().st_size - file.tell()
    if held < announced < UNKNOWN_WAV_BYTES:
        wrong = f"it is cut short: it announces {announced} bytes of samples and holds {held}"
        raise UnreadableSoundError(path, wrong, "it should hold them all")


def _decode_by_pyav(path: Path) -> tuple[_Samples, int]:
    try:
        import av
    except ImportError as error:
        raise ImportError(f'reading {path.suffix} files needs PyAV: pip install "eyetoy[audio]"') from error
    to_float = av.AudioResampler(format="fltp")
    try:
        with av.open(path) as container:
            if not container.streams.audio:
                raise UnreadableSoundError(path, "it has no sound track", "it should have one")
            decoded = [frame for coded in container.decode(audio=0) for frame in to_float.resample(coded)]
    except av.FFmpegError as error:
        right = f"it should be the sound that the suffix {path.suffix!r} promises"
        raise UnreadableSoundError(path, f"FFmpeg cannot read it ({error.strerror})", right) from error
    if not decoded:
        raise UnreadableSoundError(path, "it holds no samples", "it should hold at least one")
    return np.concatenate([frame.to_ndarray() for frame in decoded], axis=1), decoded[0].sample_rate


def _check_samples(path: Path, samples: _Samples) -> None:
    if samples.shape[1] == 0:
        raise UnreadableSoundError(path, "it holds no samples", "it should hold at least one")
    broken = int(np.count_nonzero(~np.isfinite(samples)))
    if broken:
        wrong = f"{broken} of its {samples.size} samples are not finite as float32"
        raise UnreadableSoundError(path, wrong, "all should be finite")
