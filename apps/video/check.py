"""Find missing, broken and short files: `python apps/video/check.py [--config FILE] [--output FOLDER]`."""

from pathlib import Path

from eyetoy_video.check import check

if __name__ == "__main__":
    raise SystemExit(check(Path(__file__).parent / "src" / "eyetoy_video" / "configs" / "moving_digits.yaml"))
