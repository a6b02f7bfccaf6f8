"""Train a video model: `accelerate launch apps/video/train.py [--config NAME or FILE] [--epochs 5 ...]`."""

from eyetoy_train.commands.train import train_or_exit
from eyetoy_video.app import APP

if __name__ == "__main__":
    train_or_exit(APP.parse_args)
