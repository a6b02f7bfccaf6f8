"""Find bad annotations: `python apps/image/check.py [--config FILE]`; see `--help`, whose options are the task's."""

from pathlib import Path

from eyetoy_image.app import check_of_recipe

DEFAULT = Path(__file__).parent / "src" / "eyetoy_image" / "configs" / "composed_detection.yaml"

if __name__ == "__main__":
    raise SystemExit(check_of_recipe(DEFAULT)(DEFAULT))
