"""Classify videos: `python apps/video/predict.py runs/moving-digits data/moving_digits/test/left`; see `--help`."""

from eyetoy_video.app import APP

if __name__ == "__main__":
    APP.predict()
