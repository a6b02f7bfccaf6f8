"""Train an audio model: `accelerate launch apps/audio/train.py [--config NAME or FILE] [--epochs 5 ...]`."""

from eyetoy_audio.app import APP
from eyetoy_train.commands.train import train_or_exit

if __name__ == "__main__":
    train_or_exit(APP.parse_args)
