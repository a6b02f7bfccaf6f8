"""From what a sound file holds to its samples, checked, by whichever library is there."""

from eyetoy_audio.decoding.checked import decode_checked
from eyetoy_audio.decoding.choice import Decoder, choose_decoder, describe_decoders
from eyetoy_audio.decoding.decoders import Decoded, DecoderName
from eyetoy_audio.decoding.errors import NotSoundError
from eyetoy_audio.decoding.kinds import KINDS, Kind
from eyetoy_train.libraries import MissingDecoderError

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
