"""From a video file to those of its frames that are asked for, by whichever library is there."""

from eyetoy_train.media.clip.choice import Decoder, choose_decoder, describe_decoders
from eyetoy_train.media.clip.decoders import decode
from eyetoy_train.media.clip.errors import KINDS, NotVideoError
from eyetoy_train.media.clip.packets import FrameIndex, Source, Video, open_video
from eyetoy_train.media.decoders import MissingDecoderError

__all__ = [
    "KINDS",
    "Decoder",
    "FrameIndex",
    "MissingDecoderError",
    "NotVideoError",
    "Source",
    "Video",
    "choose_decoder",
    "decode",
    "describe_decoders",
    "open_video",
]
