"""Find missing, broken and short videos: `python apps/video/check.py [--config NAME or FILE]`."""

from eyetoy_video.check import check

if __name__ == "__main__":
    raise SystemExit(check())
