"""Export a trained image model: `python apps/image/export.py runs/digits [--format pt2]`."""

from eyetoy_image.app import APP

if __name__ == "__main__":
    APP.export()
