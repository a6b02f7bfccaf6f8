"""Train an image model: `accelerate launch apps/image/train.py [--config NAME or FILE] [--epochs 5 ...]`."""

from eyetoy_image.app import APP

if __name__ == "__main__":
    APP.train()
