"""Export a trained image model: `python apps/image/export.py runs/digits [--format pt2]`."""

from eyetoy_image.app import APP
from eyetoy_train import export_checkpoint

if __name__ == "__main__":
    export_checkpoint(APP)
