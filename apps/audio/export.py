"""Export a trained audio model: `python apps/audio/export.py runs/spoken-keywords [--format pt2]`; see `--help`."""

from eyetoy_audio.app import APP
from eyetoy_train import export_checkpoint

if __name__ == "__main__":
    export_checkpoint(APP)
