"""Export a trained image model: `python apps/image/export.py runs/digits [--format pt2]`; see `--help`."""

from eyetoy_image.app import app_of_checkpoint
from eyetoy_train import export_checkpoint

if __name__ == "__main__":
    export_checkpoint(app_of_checkpoint())
