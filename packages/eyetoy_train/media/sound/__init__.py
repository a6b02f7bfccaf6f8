"""From what a sound file holds to its samples, checked, by whichever library is there."""

from eyetoy_train.media.decoders import MissingDecoderError
from eyetoy_train.media.sound.checked import decode_checked
from eyetoy_train.media.sound.choice import Decoder, choose_decoder, describe_decoders
from eyetoy_train.media.sound.decoders import Decoded, DecoderName
from eyetoy_train.media.sound.errors import NotSoundError
from eyetoy_train.media.sound.kinds import KINDS, Kind

__all__ = [
    "KINDS",
    "Decoded",
    "Decoder",
    "DecoderName",
    "Kind",
    "MissingDecoderError",
    "NotSoundError",
    "choose_decoder",
    "decode_checked",
    "describe_decoders",
]
