"""Train an audio model: `accelerate launch apps/audio/train.py [--config NAME or FILE] [--epochs 5 ...]`."""

from eyetoy_audio.app import APP
from eyetoy_train import train

if __name__ == "__main__":
    train(*APP.parse_args())
