"""Train an image model: `accelerate launch apps/image/train.py [--config NAME or FILE] [--epochs 5 ...]`."""

from eyetoy_image.app import APP
from eyetoy_train.commands.train import training

if __name__ == "__main__":
    with training(APP.parse_args) as trainer:
        trainer.fit()
