"""Draw attention maps of the image app's models over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from eyetoy_image.app import APP
from eyetoy_image.classification.task import ImageClassification
from eyetoy_image.dense.views import AXES, DetectionView, SegmentationView
from eyetoy_image.detection.task import Detection
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_image.segmentation.task import Segmentation
from eyetoy_train.commands.visualize import View, Viewer, check_place, visualize
from eyetoy_train.visualize.classifier import ClassifierView
from eyetoy_train.visualize.figures import Picture, draw_picture_maps
from eyetoy_train.visualize.legend import put_title


def open_viewer(checkpoint: Path, overrides: Sequence[str] = ()) -> Viewer:
    """Return the view of a classifier's, a detector's or a segmenter's run; see `App.open` for errors."""
    opened = APP.open(checkpoint, overrides, command="visualize")
    if isinstance(opened.task, Detection):
        return DetectionView(opened)
    if isinstance(opened.task, Segmentation):
        return SegmentationView(opened)
    if isinstance(opened.task, ImageClassification):
        return ClassificationView(opened)
    raise ValueError(
        f"there is no view of a {type(opened.task).__name__}; see open_viewer in eyetoy_image/visualize.py"
    )


class ClassificationView(ClassifierView[ImageClassification]):
    """The predictions and maps of a classifier of images; see `ClassifierView`."""

    axes = AXES

    def __call__(self, file: Path, at: Sequence[float] | None = None) -> View:
        """Return the prediction and the maps of a file."""
        place, example = check_place(at, AXES), self.example(file)
        classes, picture = self.top(example), as_picture(example["input"])
        figure = draw_picture_maps(picture, self.maps(example, place, "pixels"))
        put_title(figure, file, classes)
        return View(classes, figure)


def as_picture(pixels: Tensor) -> Picture:
    """Turn uint8 `[1 or 3, height, width]` into `[height, width, 3]` from 0 to 1."""
    picture: Picture = pixels.expand(3, -1, -1).movedim(0, -1).float().div(255).numpy()
    return picture


def main(argv: Sequence[str] | None = None) -> None:
    """Draw maps, as the command line says."""
    visualize(open_viewer, EXTENSIONS, argv=argv)
