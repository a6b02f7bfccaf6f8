"""Train an audio model: `accelerate launch apps/audio/train.py [--config FILE] [--epochs 5 ...]`; see `--help`."""

from pathlib import Path

from eyetoy_audio.app import APP

if __name__ == "__main__":
    APP.train(Path(__file__).parent / "src" / "eyetoy_audio" / "configs" / "spoken_keywords.yaml")
