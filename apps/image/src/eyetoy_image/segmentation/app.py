"""What `train.py`, `validate.py` and `predict.py` do with a recipe of segmentation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from eyetoy_image.configs import CONFIGS
from eyetoy_image.dense.predict import make_output_folder, readable_pictures
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_image.segmentation.figures import draw_labels, to_map_picture
from eyetoy_image.segmentation.recipe import SegmentationRecipe
from eyetoy_image.segmentation.task import Segmentation
from eyetoy_train.commands.app import App
from eyetoy_train.commands.cli import exit_on_error, expand, files_parser
from eyetoy_train.models.build import best_device
from eyetoy_train.models.opened import Checkpoint

NAMED_CLASSES = 5


@dataclass(frozen=True)
class SegmentationApp(App[Segmentation]):
    """The app of semantic segmentation."""

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Tell the class of every pixel of picture files: print shares, draw maps over pictures, or write maps."""
        parser = _parser()
        options, overrides = parser.parse_known_args(argv)
        with exit_on_error():
            opened = self.open(options.checkpoint, overrides)
            files = list(expand(options.inputs, self.extensions))
            _check(options, files)
            done = 0
            for file, image, labels in _segment(opened, files):
                done += 1
                if options.output is None:
                    print(_line(file, labels, opened.labels), flush=True)
                else:
                    _write(options.output / f"{file.stem}.png", image, labels, as_map=options.maps)
        if done < len(files):
            raise SystemExit(1)  # what could not be read was named


def _parser() -> argparse.ArgumentParser:
    parser = files_parser(
        "Tell the class of every pixel of pictures with a checkpoint. Further options override its recipe, such as "
        "--evaluation.flip true.",
        EXTENSIONS,
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="a folder for the pictures with the classes laid over them; lines with the classes' shares of a picture "
        "on the terminal if not given",
    )
    parser.add_argument(
        "--maps",
        action="store_true",
        help="write label maps to --output: PNG files with a palette, whose pixels are places in labels.json, from 0",
    )
    return parser


def _check(options: argparse.Namespace, files: Sequence[Path]) -> None:
    if options.output is None:
        if options.maps:
            raise ValueError("--maps needs --output, the folder to write to")
        return
    make_output_folder(options.output, files)


@torch.inference_mode()
def _segment(opened: Checkpoint[Segmentation], files: Sequence[Path]) -> Iterator[tuple[Path, Tensor, Tensor]]:
    """Give files that can be read, their pixels, and labels."""
    device = best_device()
    model = opened.load_model(device)
    for file, image in readable_pictures(files):
        yield file, image, opened.task.segment(model, image.to(device)).cpu()


def _line(file: Path, labels: Tensor, classes: Sequence[str]) -> str:
    shares = torch.bincount(labels.flatten().long(), minlength=len(classes)) / labels.numel()
    best = shares.topk(min(NAMED_CLASSES, len(classes)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return "  ".join([str(file), *(f"{classes[label]} {share:.1%}" for label, share in pairs if share)])


def _write(path: Path, image: Tensor, labels: Tensor, *, as_map: bool) -> None:
    picture = to_map_picture(labels) if as_map else to_pil_image(draw_labels(image, labels))
    picture.save(path)


APP = SegmentationApp(
    SegmentationRecipe, Segmentation, EXTENSIONS, default_config=CONFIGS / "composed_segmentation.yaml"
)
