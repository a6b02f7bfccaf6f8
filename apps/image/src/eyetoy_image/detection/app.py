"""What `train.py`, `validate.py` and `predict.py` do with a recipe of detection."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyetoy_image.configs import CONFIGS
from eyetoy_image.dense.predict import DensePredictApp, Seen, make_picture_folder
from eyetoy_image.detection.recipe import DetectionRecipe
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train.commands.app import Deferred
from eyetoy_train.commands.cli import files_parser
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.utils.console import log
from eyetoy_train.utils.text import shown
from eyetoy_train.utils.untrusted import read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    from eyetoy_image.detection.figures import Objects
    from eyetoy_image.detection.task import Detection

Found = Seen[dict[str, Any]]


@dataclass(frozen=True)
class DetectionApp(DensePredictApp["Detection", dict[str, Any]]):
    """The app of detection and instance segmentation.

    `predict` prints the objects on pictures, draws them, or writes them in COCO's results format.
    """

    def predict_parser(self) -> argparse.ArgumentParser:
        """Return the parser of `predict`."""
        from eyetoy_image.detection.figures import DRAWN_SCORE

        parser = files_parser(
            "Find objects in pictures with a checkpoint. Further options override its recipe.", EXTENSIONS
        )
        parser.add_argument(
            "--output",
            type=Path,
            help="a folder for the pictures with boxes and masks drawn over them, or a .json file for COCO's results; "
            "lines on the terminal if not given",
        )
        parser.add_argument(
            "--threshold",
            type=float,
            default=DRAWN_SCORE,
            help=f"least score of what is drawn or printed (default: {DRAWN_SCORE}); the recipe's for a .json file",
        )
        return parser

    def check(self, options: argparse.Namespace, files: Sequence[Path]) -> None:
        """Refuse another threshold than a score, and another output than a folder or a .json file."""
        if not 0 <= options.threshold <= 1:
            raise ValueError(f"--threshold must be from 0 to 1; got {options.threshold}")
        if options.output and options.output.suffix not in ("", ".json"):
            raise ValueError(f"--output must be a folder or end in .json; got {options.output}")
        if _is_json(options):
            options.output.parent.mkdir(parents=True, exist_ok=True)
        elif options.output:
            make_picture_folder(options.output, files)

    def see(self, task: Detection, model: nn.Module, image: Tensor) -> dict[str, Any]:
        """Return the objects on a picture."""
        (objects,) = task.find(model, [image])
        return objects

    def report(
        self, seen: Iterator[Found], opened: Checkpoint[Any], files: Sequence[Path], options: argparse.Namespace
    ) -> int:
        """Print, draw or write the objects; return on how many pictures."""
        if _is_json(options):
            return _write_results(seen, opened.folder, files, options.output)
        return _show(seen, opened.labels, options)


def _is_json(options: argparse.Namespace) -> bool:
    return options.output is not None and options.output.suffix == ".json"


def _show(found: Iterator[Found], classes: Sequence[str], options: argparse.Namespace) -> int:
    """Print or draw what is found; return on how many pictures."""
    from torchvision.transforms.v2.functional import to_pil_image

    from eyetoy_image.detection.figures import draw_objects
    from eyetoy_image.detection.task import drawable

    done = 0
    for one in found:
        done += 1
        objects = drawable(one.result, classes, one.image, options.threshold)
        if options.output is None:
            _print(one.file, objects)
        else:
            to_pil_image(draw_objects(one.image, objects)).save(options.output / f"{one.file.stem}.png")
    return done


def _print(file: Path, objects: Objects) -> None:
    for caption, box in zip(objects.captions, objects.boxes.tolist(), strict=True):
        log(shown(f"{file}  {caption}  {' '.join(f'{value:.1f}' for value in box)}"))


def _write_results(found: Iterator[Found], folder: Path, files: Sequence[Path], output: Path) -> int:
    """Write what is found in COCO's results format; return on how many pictures."""
    from eyetoy_image.detection.task import CATEGORIES, results

    categories = [entry["id"] for entry in read_json(folder / CATEGORIES)]
    numbers, entries, done = _numbers(files), [], 0
    for one in found:
        done += 1
        entries += [
            entry | {"file_name": str(one.file)} for entry in results(one.result, numbers[one.file], categories)
        ]
    output.write_text(json.dumps(entries), encoding="utf-8")
    return done


def _numbers(files: Sequence[Path]) -> dict[Path, int]:
    """Return ids of pictures: COCO's files are named by theirs; others have their place in the list."""
    named = [int(file.stem) for file in files if file.stem.isdecimal()]
    numbers = named if len(set(named)) == len(files) else range(1, len(files) + 1)
    return dict(zip(files, numbers, strict=True))


def _task() -> type[Detection]:
    from eyetoy_image.detection.task import Detection

    return Detection


APP = DetectionApp(DetectionRecipe, Deferred(_task), EXTENSIONS, default_config=CONFIGS / "composed_detection.yaml")
