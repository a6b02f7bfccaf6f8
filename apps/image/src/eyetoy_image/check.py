"""Check the data set of a recipe: pictures in class folders, boxes, or label maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eyetoy_image.app import APP, APPS, app_of
from eyetoy_image.classification.check import check as check_classification
from eyetoy_image.detection.check import check as check_detection
from eyetoy_image.segmentation.check import check as check_segmentation
from eyetoy_train.ending import exit_on_error

CHECKS: dict[str, Callable[[Sequence[str] | None], int]] = {
    "classification": check_classification,
    "detection": check_detection,
    "segmentation": check_segmentation,
}


@exit_on_error()
def check(argv: Sequence[str] | None = None) -> int:
    """Check the data set of the recipe that `--config` names; by default the digits for classification.

    Returns:
        the exit code, see the check of the task.
    """
    app = APP.of_recipe(argv)
    task = next(name for name in APPS if app_of(name) is app)
    return CHECKS[task](argv)
