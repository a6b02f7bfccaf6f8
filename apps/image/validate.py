"""Score an image checkpoint: `python apps/image/validate.py runs/digits [--split test]`."""

from eyetoy_image.app import APP

if __name__ == "__main__":
    APP.validate()
