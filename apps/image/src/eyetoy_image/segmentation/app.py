"""What `train.py`, `validate.py` and `predict.py` do with a recipe of segmentation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eyetoy_image.configs import CONFIGS
from eyetoy_image.dense.predict import DensePredictApp, Seen, make_picture_folder
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_image.segmentation.recipe import SegmentationRecipe
from eyetoy_train.commands.app import Deferred
from eyetoy_train.commands.cli import files_parser
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.utils.console import log
from eyetoy_train.utils.text import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

    from eyetoy_image.segmentation.task import Segmentation

NAMED_CLASSES = 5


@dataclass(frozen=True)
class SegmentationApp(DensePredictApp["Segmentation", "Tensor"]):
    """The app of semantic segmentation.

    `predict` tells the class of every pixel: it prints shares, draws maps over pictures, or writes maps.
    """

    def predict_parser(self) -> argparse.ArgumentParser:
        """Return the parser of `predict`."""
        parser = files_parser(
            "Tell the class of every pixel of pictures with a checkpoint. Further options override its recipe, such as "
            "--evaluation.flip true.",
            EXTENSIONS,
        )
        parser.add_argument(
            "--output",
            type=Path,
            help="a folder for the pictures with the classes laid over them; lines with the classes' shares of a "
            "picture on the terminal if not given",
        )
        parser.add_argument(
            "--maps",
            action="store_true",
            help="write label maps to --output: PNG files with a palette, whose pixels are places in labels.json, "
            "from 0",
        )
        return parser

    def check(self, options: argparse.Namespace, files: Sequence[Path]) -> None:
        """Refuse maps without a folder to write to."""
        if options.output is not None:
            make_picture_folder(options.output, files)
        elif options.maps:
            raise ValueError("--maps needs --output, the folder to write to")

    def see(self, task: Segmentation, model: nn.Module, image: Tensor) -> Tensor:
        """Return the class of every pixel, uint8 `[height, width]`."""
        return task.segment(model, image).cpu()

    def report(
        self, seen: Iterator[Seen[Tensor]], opened: Checkpoint[Any], files: Sequence[Path], options: argparse.Namespace
    ) -> int:
        """Print, draw or write the classes; return on how many pictures."""
        from torchvision.transforms.v2.functional import to_pil_image

        from eyetoy_image.segmentation.figures import draw_named_labels, to_map_picture

        done = 0
        for file, image, labels in seen:
            done += 1
            if options.output is None:
                log(shown(_line(file, labels, opened.labels)))
            else:
                overlay = draw_named_labels(image, labels, opened.labels)
                picture = to_map_picture(labels) if options.maps else to_pil_image(overlay)
                picture.save(options.output / f"{file.stem}.png")
        return done


def _line(file: Path, labels: Tensor, classes: Sequence[str]) -> str:
    import torch

    shares = torch.bincount(labels.flatten().long(), minlength=len(classes)) / labels.numel()
    best = shares.topk(min(NAMED_CLASSES, len(classes)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return "  ".join([str(file), *(f"{classes[label]} {share:.1%}" for label, share in pairs if share)])


def _task() -> type[Segmentation]:
    from eyetoy_image.segmentation.task import Segmentation

    return Segmentation


APP = SegmentationApp(
    SegmentationRecipe, Deferred(_task), EXTENSIONS, default_config=CONFIGS / "composed_segmentation.yaml"
)
