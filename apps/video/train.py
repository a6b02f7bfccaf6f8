"""Train a video model: `accelerate launch apps/video/train.py [--config NAME or FILE] [--epochs 5 ...]`."""

from eyetoy_video.app import APP

if __name__ == "__main__":
    APP.train()
