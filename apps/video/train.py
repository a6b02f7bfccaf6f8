"""Train a video model: `accelerate launch apps/video/train.py [--config NAME or FILE] [--epochs 5 ...]`."""

from eyetoy_train.commands.train import training
from eyetoy_video.app import APP

if __name__ == "__main__":
    with training(APP.parse_args) as trainer:
        trainer.fit()
