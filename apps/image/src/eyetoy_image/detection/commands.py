"""What `train.py`, `validate.py` and `predict.py` do with a recipe of detection."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from eyetoy_image.detection.drawing import draw_objects
from eyetoy_image.detection.recipe import DetectionRecipe
from eyetoy_image.detection.task import CATEGORIES, DRAWN_SCORE, Detection, drawable, results
from eyetoy_image.files import EXTENSIONS, read_image
from eyetoy_train import LabelledApp, UnreadableFileError, parse_recipe
from eyetoy_train.commands import exit_on_error, expand, read_labels
from eyetoy_train.foreign import read_json
from eyetoy_train.models import best_device, find_checkpoint


@dataclass(frozen=True)
class DetectionApp(LabelledApp[DetectionRecipe]):
    """The app of detection and instance segmentation."""

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Find objects in picture files, and print them, draw them, or write them in COCO's results format."""
        parser = _parser()
        options, overrides = parser.parse_known_args(argv)
        with exit_on_error(parser):
            _check(options)
            folder = find_checkpoint(options.checkpoint)
            task = Detection(parse_recipe(self.recipe, folder / "recipe.yaml", overrides))
            files = list(expand(options.inputs, EXTENSIONS))
            found = list(_find(task, folder, files))
            _write(found, folder, options)
        if len(found) < len(files):
            raise SystemExit(1)  # what could not be read was named


@dataclass(frozen=True)
class Found:
    """What is on a picture file."""

    file: Path
    image: Tensor
    objects: dict[str, Any]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Find objects in pictures with a checkpoint. Further options override its recipe."
    )
    parser.add_argument("checkpoint", type=Path, help="a run folder, whose best checkpoint is used, or a checkpoint")
    parser.add_argument("inputs", type=Path, nargs="+", help=f"files, folders or patterns ({', '.join(EXTENSIONS)})")
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


def _check(options: argparse.Namespace) -> None:
    if not 0 <= options.threshold <= 1:
        raise ValueError(f"--threshold must be from 0 to 1; got {options.threshold}")
    if options.output and options.output.suffix not in ("", ".json"):
        raise ValueError(f"--output must be a folder or end in .json; got {options.output}")


@torch.inference_mode()
def _find(task: Detection, folder: Path, files: Sequence[Path]) -> Iterator[Found]:
    """Look at files; one that cannot be read is named on stderr and left out."""
    device = best_device()
    model = task.load(folder).to(device)
    for file in files:
        try:
            image = read_image(file, grayscale=False)
        except (UnreadableFileError, OSError) as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        (objects,) = task.find(model, [image.to(device)])
        yield Found(file, image, objects)


def _write(found: Sequence[Found], folder: Path, options: argparse.Namespace) -> None:
    classes = read_labels(folder)
    if options.output is None:
        for one in found:
            objects = drawable(one.objects, classes, one.image, options.threshold)
            for caption, box in zip(objects.captions, objects.boxes.tolist(), strict=True):
                print(f"{one.file}  {caption}  {' '.join(f'{value:.1f}' for value in box)}")
    elif options.output.suffix == ".json":
        categories = [entry["id"] for entry in read_json(folder / CATEGORIES)]
        entries = [
            entry | {"file_name": str(one.file)}
            for place, one in enumerate(found, 1)
            for entry in results(one.objects, _number(one.file, place), categories)
        ]
        options.output.write_text(json.dumps(entries), encoding="utf-8")
    else:
        _draw(found, classes, options)


def _number(file: Path, place: int) -> int:
    """Return a picture's id: COCO's files are named by it; of others it is their place in the list."""
    return int(file.stem) if file.stem.isdecimal() else place


def _draw(found: Sequence[Found], classes: Sequence[str], options: argparse.Namespace) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    for one in found:
        drawn = draw_objects(one.image, drawable(one.objects, classes, one.image, options.threshold))
        to_pil_image(drawn).save(options.output / f"{one.file.stem}.png")


APP = DetectionApp(DetectionRecipe, Detection)
