"""Train an image model: `accelerate launch apps/image/train.py [--config FILE] [--epochs 5 ...]`; see `--help`."""

from pathlib import Path

from eyetoy_image.classification import APP

if __name__ == "__main__":
    APP.train(Path(__file__).parent / "configs" / "digits.yaml")
