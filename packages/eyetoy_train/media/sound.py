"""Decode the content of sound files, by soundfile, PyAV or torchcodec, and check the result.

What is installed changes the speed, hardly the sound: of a whole file all three give the same samples, to the last bit
where the coding lost nothing and within a few millionths elsewhere.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from eyetoy_train.media.decoders import Decoder, DecoderName, Decoders, torchcodec_reason
from eyetoy_train.media.errors import NotSoundError, UnknownToDecoderError
from eyetoy_train.media.joined import split_sounds, without_title
from eyetoy_train.media.kinds import SOUND_KINDS, SoundKind, sound_kind
from eyetoy_train.media.mp4 import excess_of_samples
from eyetoy_train.media.sound_integrity import check_length, check_whole, with_known_length

# The order goes around what was found with soundfile 0.14, PyAV 18.1 and torchcodec 0.17:
# - FFmpeg, which is behind PyAV and torchcodec, passes over damage in flac unless it is told not to, which only PyAV
#   can; and it ends an ogg file some milliseconds early or late.
# - soundfile writes its opinion of a damaged MP3 file to the terminal, reads a part of one whose bit rate varies if the
#   file does not announce its length, and is slow for Opus.
# - torchcodec reads a part of a wav file of ADPCM, and loses the last frame of a wma file.
DECODERS = Decoders(
    subject="sound is",
    extra="audio",
    best_first={
        **dict.fromkeys(
            ("wav", "flac", "ogg", "aiff", "caf", "w64", "au", "voc", "nist"), ("soundfile", "pyav", "torchcodec")
        ),
        **dict.fromkeys(("mp3", "opus"), ("torchcodec", "pyav", "soundfile")),
        **dict.fromkeys(("m4a", "aac", "mka", "streamed flac"), ("torchcodec", "pyav")),
        **dict.fromkeys(
            ("wma", "ac3", "amr", "ape", "dsf", "dts", "mpc", "rm", "tak", "tta", "wv"), ("pyav", "torchcodec")
        ),
    },
    # They pass over damage: what the others refuse, they would read a part of.
    only_first={"mp3": ("soundfile",), "flac": ("torchcodec",)},
)
describe_decoders = DECODERS.describe

MOST_SAMPLES = 2**29
"""Of a file, all channels together: 2 GiB as float32."""
HIGHEST_RATE = 10_000_000
LOUDEST = 1e15
"""The square of a larger sample, summed over a file, would overflow float32."""

# Files are read in blocks, because the announced length may be false: memory grows with the samples that are there, and
# a file that unpacks to far too many is left at the first block beyond MOST_SAMPLES.
_BLOCK = 2**20


class Decoded(NamedTuple):
    """A decoded file."""

    samples: Tensor
    """``[channels, samples]``, float32, at least one sample."""
    rate: int
    """Samples per second."""
    announced: int | None
    """How many samples of a channel the header announces, if it does and the library tells."""


def decode_checked(content: bytes, name: str, decoder: Decoder = "auto") -> Decoded:
    """Decode the content of a sound file, and refuse it if anything about it is wrong.

    A file may hold several sounds, one after the other, which are joined.

    Args:
        content: of the file.
        name: its path or name, whose suffix must be one of `SOUND_KINDS`.
        decoder: the library that decodes; "auto" takes the best that is there, and the next one if that one does not
            know the file. Damage that a library finds on the way is no reason to ask another one.

    Raises:
        NotSoundError: the name or the content is not that of a sound file, or it is damaged.
        MissingDecoderError: the decoder that is asked for, or any that reads this kind, is not there.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix not in SOUND_KINDS:
        raise NotSoundError(
            f"its suffix is {suffix!r}", "it should be that of a sound, such as .wav .flac .mp3 or .m4a"
        )
    if not content:
        raise NotSoundError("the file is empty", "it should hold sound")
    content = without_title(content)
    kind = sound_kind(content, suffix)
    candidates = DECODERS.candidates(kind, decoder)
    if not DECODERS.reads(candidates[0], kind):
        raise NotSoundError(
            f"{candidates[0]} does not read {kind} files", "the decoder should be auto, torchcodec or pyav"
        )
    sounds = _whole_sounds(content, kind)
    errors: dict[DecoderName, NotSoundError] = {}
    for candidate in candidates:
        try:
            return _checked(_joined([_of_its_length(sound, kind, candidate) for sound in sounds]))
        except UnknownToDecoderError as error:
            errors[candidate] = error
        except NotSoundError as error:  # damage: the next library might read a part of the sound
            errors[candidate] = error
            break
    if len({error.wrong for error in errors.values()}) == 1:
        raise next(iter(errors.values()))
    reasons = ", ".join(f"{tried}: {error.wrong}" for tried, error in errors.items())
    raise NotSoundError(f"no decoder that is there reads it ({reasons})")


def _whole_sounds(content: bytes, kind: SoundKind) -> list[bytes]:
    """Return the sounds of a file, checked before they are decoded.

    Libraries read the rest of a cut file without a word, and allocate what a header announces.
    """
    if kind == "wav":
        content = with_known_length(content)
    check_whole(content, kind)
    sounds = split_sounds(content, kind)
    for sound in sounds:
        check_whole(sound, kind)
        if wrong := excess_of_samples(sound):
            raise NotSoundError(wrong)
    return sounds


def _of_its_length(content: bytes, kind: SoundKind, decoder: DecoderName) -> Decoded:
    decoded = decode(content, decoder)
    check_length(content, kind, num_samples=decoded.samples.shape[1], announced=decoded.announced)
    return decoded


def _joined(sounds: Sequence[Decoded]) -> Decoded:
    if len(sounds) == 1:
        return sounds[0]
    if len({(sound.rate, sound.samples.shape[0]) for sound in sounds}) > 1:
        raise _changes_midway()
    if sum(sound.samples.numel() for sound in sounds) > MOST_SAMPLES:
        raise _too_long()
    return Decoded(torch.cat([sound.samples for sound in sounds], dim=1), sounds[0].rate, None)


def _checked(decoded: Decoded) -> Decoded:
    """Refuse rates and samples that no sound has."""
    if not 1 <= decoded.rate <= HIGHEST_RATE:
        raise NotSoundError(f"it has {decoded.rate} samples per second", f"it should have from 1 to {HIGHEST_RATE}")
    # Counted by what is right, since a comparison with NaN is false.
    total = decoded.samples.numel()
    if broken := total - int((decoded.samples.abs() <= LOUDEST).sum()):
        wrong = f"{broken} of its {total} samples are not finite, or beyond {LOUDEST:g}"
        raise NotSoundError(wrong, "sound is mostly within 1")
    return decoded


def decode(content: bytes, decoder: DecoderName) -> Decoded:
    """Decode the content of a file with one sound by one library.

    Raises:
        UnknownToDecoderError: the library gets no sample out of it.
        NotSoundError: it is damaged, or it holds more than `MOST_SAMPLES`.
    """
    decoded = _DECODE[decoder](content)
    if decoded.samples.numel() > MOST_SAMPLES:  # torchcodec does not read in blocks
        raise _too_long()
    return decoded


class _File(io.BytesIO):
    """A file in memory for libsndfile, which may seek to before its start.

    `BytesIO` raises ValueError then, which would be printed from within the C callback. A file on disk stays where it
    is and reports an error, and libsndfile refuses the content.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place, and return where that is."""
        with suppress(ValueError):
            super().seek(offset, whence)
        return self.tell()


def _by_soundfile(content: bytes) -> Decoded:
    import soundfile

    try:
        opened = soundfile.SoundFile(_File(content))
    except soundfile.LibsndfileError as error:
        raise UnknownToDecoderError(f"libsndfile cannot read it ({error.error_string})") from error
    try:
        with opened as file:
            return Decoded(_join(_soundfile_blocks(file), axis=0).T, file.samplerate, file.frames)
    except soundfile.LibsndfileError as error:
        raise NotSoundError(f"libsndfile cannot read it ({error.error_string})") from error


def _soundfile_blocks(file: Any) -> Iterator[np.ndarray[Any, Any]]:
    """Yield blocks ``[samples, channels]``."""
    while len(block := file.read(max(_BLOCK // file.channels, 1), dtype="float32", always_2d=True)):
        yield block


def _by_pyav(content: bytes) -> Decoded:
    import av

    try:
        # Titles in an unknown encoding are no damage to the sound, hence "ignore".
        opened = av.open(io.BytesIO(content), metadata_errors="ignore")
    except av.FFmpegError as error:
        raise UnknownToDecoderError(f"FFmpeg cannot read it ({error.strerror})") from error
    try:
        with opened as container:
            if not container.streams.audio:
                raise NotSoundError("it has no sound track", "it should have one")
            stream: Any = container.streams.audio[0]
            if stream.codec_context is None:
                raise UnknownToDecoderError("its sound is coded in a way that FFmpeg does not know")
            if stream.codec_context.name == "flac":  # or else FFmpeg passes over damaged frames
                stream.codec_context.options = {"err_detect": "crccheck+explode"}
            samples = _join(_pyav_blocks(container, av.AudioResampler(format="fltp")), axis=1)
            # Asked after decoding, which may correct the rate that a header gives.
            seconds = None if stream.duration is None else stream.duration * stream.time_base
            return Decoded(samples, stream.rate, None if seconds is None else round(seconds * stream.rate))
    except av.FFmpegError as error:
        raise NotSoundError(f"FFmpeg cannot read it ({error.strerror})") from error


def _pyav_blocks(container: Any, to_float: Any) -> Iterator[np.ndarray[Any, Any]]:
    """Yield blocks ``[channels, samples]``."""
    forms = set()
    for coded in container.decode(audio=0):
        for frame in to_float.resample(coded):
            # Two files one after the other, as streams may be, can differ: blocks of both could not be joined.
            forms.add((frame.sample_rate, frame.layout.nb_channels))
            if len(forms) > 1:
                raise _changes_midway()
            yield frame.to_ndarray()


def _by_torchcodec(content: bytes) -> Decoded:
    from torchcodec.decoders import AudioDecoder

    decoder = None
    try:
        decoder = AudioDecoder(content)
        decoded = decoder.get_all_samples()
    except (RuntimeError, ValueError) as error:
        kind = NotSoundError if decoder else UnknownToDecoderError
        raise kind(f"torchcodec cannot read it ({torchcodec_reason(error)})") from error
    seconds = decoder.metadata.duration_seconds_from_header
    return Decoded(decoded.data, decoded.sample_rate, None if seconds is None else round(seconds * decoded.sample_rate))


_DECODE: dict[DecoderName, Callable[[bytes], Decoded]] = {
    "soundfile": _by_soundfile,
    "pyav": _by_pyav,
    "torchcodec": _by_torchcodec,
}


def _join(blocks: Iterable[np.ndarray[Any, Any]], axis: int) -> Tensor:
    """Join blocks along their axis of samples, and stop at the first one that is too much."""
    kept, total = [], 0
    for block in blocks:
        kept.append(block)
        total += block.size
        if total > MOST_SAMPLES:
            raise _too_long()
    if not total:
        raise UnknownToDecoderError("it holds no samples", "it should hold at least one")
    return torch.from_numpy(np.concatenate(kept, axis))


def _changes_midway() -> NotSoundError:
    return NotSoundError("its sample rate or number of channels changes midway", "both should stay")


def _too_long() -> NotSoundError:
    return NotSoundError(f"it holds more than {MOST_SAMPLES} samples", "it should be cut into shorter ones")
