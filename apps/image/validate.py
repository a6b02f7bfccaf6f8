"""Score a trained image model: `python apps/image/validate.py runs/digits [--split val]`; see `--help`."""

from eyetoy_image.classification import APP

if __name__ == "__main__":
    APP.validate()
