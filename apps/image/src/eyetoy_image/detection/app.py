"""The app of detection: the recipe and the task behind its commands, and `predict.py`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from eyetoy_image.configs import CONFIGS
from eyetoy_image.dense.predict import make_output_folder, readable_pictures
from eyetoy_image.detection.figures import draw_objects
from eyetoy_image.detection.recipe import DetectionRecipe
from eyetoy_image.detection.task import CATEGORIES, DRAWN_SCORE, Detection, drawable, results
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train.commands.app import App, Checkpoint
from eyetoy_train.commands.cli import exit_on_error, expand, files_parser
from eyetoy_train.models.build import best_device
from eyetoy_train.utils.untrusted import read_json


@dataclass(frozen=True)
class DetectionApp(App[Detection]):
    """The app of detection and instance segmentation."""

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Find objects in image files, and print them, draw them, or write them in COCO's results format."""
        parser = files_parser(
            "Find objects in images with a checkpoint. Further options override its recipe.", EXTENSIONS
        )
        parser.add_argument(
            "--output",
            type=Path,
            help="a folder for the images with boxes and masks drawn over them, or a .json file for COCO's results; "
            "lines on the terminal if not given",
        )
        parser.add_argument(
            "--threshold",
            type=float,
            default=DRAWN_SCORE,
            help=f"least score of objects drawn or printed (default: {DRAWN_SCORE}); the recipe's for a .json file",
        )
        options, overrides = parser.parse_known_args(argv)
        with exit_on_error():
            opened = self.open(options.checkpoint, overrides)
            files = list(expand(options.inputs, self.extensions))
            if not 0 <= options.threshold <= 1:
                raise ValueError(f"--threshold must be from 0 to 1; got {options.threshold}")
            if options.output and options.output.suffix not in ("", ".json"):
                raise ValueError(f"--output must be a folder or end in .json; got {options.output}")
            is_json = options.output is not None and options.output.suffix == ".json"
            if options.output and not is_json:
                make_output_folder(options.output, files)
            found = _find(opened, files)
            if is_json:
                done = _write_results(found, opened.folder, files, options.output)
            else:
                done = _show(found, opened.labels, options)
        if done < len(files):
            raise SystemExit(1)  # the files were named on stderr


@dataclass(frozen=True)
class Found:
    """The objects of an image file."""

    file: Path
    image: Tensor
    objects: dict[str, Any]


@torch.inference_mode()
def _find(opened: Checkpoint[Detection], files: Sequence[Path]) -> Iterator[Found]:
    """Yield the objects of the files that can be read."""
    device = best_device()
    model = opened.load_model(device)

    for file, image in readable_pictures(files):
        (objects,) = opened.task.find(model, [image.to(device)])
        yield Found(file, image, objects)


def _show(found: Iterator[Found], classes: Sequence[str], options: argparse.Namespace) -> int:
    """Print or draw objects; return the number of images."""
    done = 0
    for one in found:
        done += 1
        objects = drawable(one.objects, classes, one.image, options.threshold)
        if options.output is not None:
            to_pil_image(draw_objects(one.image, objects)).save(options.output / f"{one.file.stem}.png")
            continue
        for caption, box in zip(objects.captions, objects.boxes.tolist(), strict=True):
            print(f"{one.file}  {caption}  {' '.join(f'{value:.1f}' for value in box)}", flush=True)
    return done


def _write_results(found: Iterator[Found], folder: Path, files: Sequence[Path], output: Path) -> int:
    """Write objects in COCO's results format; return the number of images."""
    categories = [entry["id"] for entry in read_json(folder / CATEGORIES)]
    numbers, entries, done = _numbers(files), [], 0
    for one in found:
        done += 1
        entries += [
            entry | {"file_name": str(one.file)} for entry in results(one.objects, numbers[one.file], categories)
        ]
    output.write_text(json.dumps(entries), encoding="utf-8")
    return done


def _numbers(files: Sequence[Path]) -> dict[Path, int]:
    """Return ids of images: the numbers in the names of COCO's files, or positions in the list for others."""
    # For example 000000000139.jpg has the id 139, by which COCO's server knows the image.
    named = [int(file.stem) for file in files if file.stem.isdecimal()]
    numbers = named if len(set(named)) == len(files) else range(1, len(files) + 1)
    return dict(zip(files, numbers, strict=True))


APP = DetectionApp(DetectionRecipe, Detection, EXTENSIONS, default_config=CONFIGS / "composed_detection.yaml")
