"""Score a trained image model: `python apps/image/validate.py runs/digits [--split val]`; see `--help`."""

from eyetoy_image.app import app_of_checkpoint

if __name__ == "__main__":
    app_of_checkpoint().validate()
