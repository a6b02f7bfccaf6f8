"""Score a trained video model: `python apps/video/validate.py runs/moving-digits [--split val]`; see `--help`."""

from eyetoy_video.app import APP

if __name__ == "__main__":
    APP.validate()
