"""Train an audio model: `accelerate launch apps/audio/train.py [--config NAME or FILE] [--epochs 5 ...]`."""

from eyetoy_audio.app import APP

if __name__ == "__main__":
    APP.train()
