"""Export a trained video model: `python apps/video/export.py runs/moving-digits [--format pt2]`; see `--help`."""

from eyetoy_video.app import APP

if __name__ == "__main__":
    APP.export()
