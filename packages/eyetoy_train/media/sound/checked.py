"""Decoding with every check of what is decoded."""

from __future__ import annotations

from pathlib import PurePath

from torch import Tensor

from eyetoy_train.media.mp4 import excess_of_samples
from eyetoy_train.media.sound.choice import Decoder, can_read, choose_decoder
from eyetoy_train.media.sound.decoders import Decoded, decode
from eyetoy_train.media.sound.errors import NotSoundError
from eyetoy_train.media.sound.kinds import KINDS, kind_of
from eyetoy_train.media.sound.wholeness import check_length, check_whole

HIGHEST_RATE = 10_000_000
LOUDEST = 1e15
"""Squares of more, summed up over a file, would be infinite as float32."""


def decode_checked(content: bytes, name: str, decoder: Decoder) -> Decoded:
    """Decode what a file of some name holds.

    Raises:
        NotSoundError: the name or the content is not that of a sound file, or it is damaged.
        MissingDecoderError: the decoder that is asked for, or any that reads this kind, is not there.
    """
    suffix = PurePath(name).suffix.lower()
    if suffix not in KINDS:
        raise NotSoundError(f"its suffix is {suffix!r}", f"it should be one of {' '.join(KINDS)}")
    if not content:
        raise NotSoundError("the file is empty", "it should hold sound")
    kind = kind_of(content, suffix)
    chosen = choose_decoder(kind, decoder)
    if not can_read(chosen, kind):
        raise NotSoundError(f"{chosen} does not read {kind} files", "the decoder should be auto, torchcodec or pyav")
    check_whole(content, kind)
    wrong = excess_of_samples(content)
    if wrong:
        raise NotSoundError(wrong)
    decoded = decode(content, chosen)
    check_length(decoded, content, kind)
    _check_rate(decoded.rate)
    _check_samples(decoded.samples)
    return decoded


def _check_rate(rate: int) -> None:
    if not 1 <= rate <= HIGHEST_RATE:
        raise NotSoundError(f"it has {rate} samples per second", f"it should have from 1 to {HIGHEST_RATE}")


def _check_samples(samples: Tensor) -> None:
    broken = samples.numel() - int((samples.abs() <= LOUDEST).sum())
    if broken:
        wrong = f"{broken} of its {samples.numel()} samples are not finite, or beyond {LOUDEST:g}"
        raise NotSoundError(wrong, "sound is mostly within 1")
