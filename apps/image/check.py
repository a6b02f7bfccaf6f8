"""Find bad annotations: `python apps/image/check.py [--config FILE] [--output FOLDER]`; see `--help`."""

from pathlib import Path

from eyetoy_image.detection.checking import check

if __name__ == "__main__":
    raise SystemExit(check(Path(__file__).parent / "configs" / "composed_detection.yaml"))
