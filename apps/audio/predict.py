"""Classify sounds: `python apps/audio/predict.py runs/spoken-keywords data/spoken_keywords/test/left`; see `--help`."""

from eyetoy_audio.app import APP

if __name__ == "__main__":
    APP.predict()
