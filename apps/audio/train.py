"""Train an audio model: `accelerate launch apps/audio/train.py [--config NAME or FILE] [--epochs 5 ...]`."""

from eyetoy_audio.app import APP
from eyetoy_train.commands.train import training

if __name__ == "__main__":
    with training(APP.parse_args) as trainer:
        trainer.fit()
