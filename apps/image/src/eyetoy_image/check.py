"""Check the annotations of a recipe's data set, for detection and segmentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eyetoy_image.app import APPS, ImageApp, app_of
from eyetoy_image.detection.check import check as check_detection
from eyetoy_image.segmentation.check import check as check_segmentation
from eyetoy_train.ending import exit_on_error

CHECKS: dict[str, Callable[[Sequence[str] | None], int]] = {
    "detection": check_detection,
    "segmentation": check_segmentation,
}


@exit_on_error()
def check(argv: Sequence[str] | None = None) -> int:
    """Check the data set of the recipe that `--config` names; by default composed digits for detection.

    Returns:
        the exit code, see the check of the task. On a task without annotations the program exits with a message and
        code 2.
    """
    app = ImageApp(default="detection").of_recipe(argv)
    task = next(name for name in APPS if app_of(name) is app)
    if task not in CHECKS:
        raise ValueError(f"only {' and '.join(CHECKS)} have annotations to check; got {task}")
    return CHECKS[task](argv)
