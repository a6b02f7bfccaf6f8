"""Train an image model: `accelerate launch apps/image/train.py [--config FILE] [--epochs 5 ...]`; see `--help`."""

from pathlib import Path

from eyetoy_image.app import app_of_recipe

DEFAULT = Path(__file__).parent / "src" / "eyetoy_image" / "configs" / "digits.yaml"

if __name__ == "__main__":
    app_of_recipe(DEFAULT).train(DEFAULT)
