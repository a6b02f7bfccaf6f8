"""Export a trained video model: `python apps/video/export.py runs/moving-digits [--format pt2]`; see `--help`."""

from eyetoy_train import export_checkpoint
from eyetoy_video.app import APP

if __name__ == "__main__":
    export_checkpoint(APP)
