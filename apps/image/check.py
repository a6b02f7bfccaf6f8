"""Find bad pictures and annotations: `python apps/image/check.py [--config NAME or FILE]`."""

from eyetoy_image.check import check

if __name__ == "__main__":
    raise SystemExit(check())
