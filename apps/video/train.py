"""Train a video model: `accelerate launch apps/video/train.py [--config FILE] [--epochs 5 ...]`; see `--help`."""

from pathlib import Path

from eyetoy_video.app import APP

if __name__ == "__main__":
    APP.train(Path(__file__).parent / "src" / "eyetoy_video" / "configs" / "moving_digits.yaml")
