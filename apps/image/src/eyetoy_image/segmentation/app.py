"""The app of segmentation: the recipe and the task behind its commands, and `predict.py`."""

from __future__ import annotations

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
from eyetoy_train.commands.app import App, Checkpoint
from eyetoy_train.commands.cli import exit_on_error, expand, files_parser
from eyetoy_train.models.build import best_device

NAMED_CLASSES = 5


@dataclass(frozen=True)
class SegmentationApp(App[Segmentation]):
    """The app of semantic segmentation."""

    def predict(self, argv: Sequence[str] | None = None) -> None:
        """Predict the class of every pixel of image files: print fractions, draw maps over images, or write maps."""
        parser = files_parser(
            "Predict the class of every pixel of images with a checkpoint. Further options override its recipe, such "
            "as --evaluation.flip true.",
            EXTENSIONS,
        )
        parser.add_argument(
            "--output",
            type=Path,
            help="a folder for the images with the classes drawn over them; if not given, lines on the terminal with "
            "each class's fraction of an image",
        )
        parser.add_argument(
            "--maps",
            action="store_true",
            help="write label maps to --output: PNG files with a palette, whose pixels are indices of labels.json",
        )
        options, overrides = parser.parse_known_args(argv)
        with exit_on_error():
            opened = self.open(options.checkpoint, overrides)
            files = list(expand(options.inputs, self.extensions))
            if options.maps and options.output is None:
                raise ValueError("--maps needs --output, the folder to write to")
            if options.output is not None:
                make_output_folder(options.output, files)
            done = 0
            for file, image, labels in _segment(opened, files):
                done += 1
                if options.output is None:
                    print(_line(file, labels, opened.labels), flush=True)
                else:
                    figure = to_map_picture(labels) if options.maps else to_pil_image(draw_labels(image, labels))
                    figure.save(options.output / f"{file.stem}.png")
        if done < len(files):
            raise SystemExit(1)  # the files were named on stderr


@torch.inference_mode()
def _segment(opened: Checkpoint[Segmentation], files: Sequence[Path]) -> Iterator[tuple[Path, Tensor, Tensor]]:
    """Yield the files that can be read, their pixels, and labels."""
    device = best_device()
    model = opened.load_model(device)
    for file, image in readable_pictures(files):
        yield file, image, opened.task.segment(model, image.to(device)).cpu()


def _line(file: Path, labels: Tensor, classes: Sequence[str]) -> str:
    fractions = torch.bincount(labels.flatten().long(), minlength=len(classes)) / labels.numel()
    best = fractions.topk(min(NAMED_CLASSES, len(classes)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return "  ".join([str(file), *(f"{classes[label]} {fraction:.1%}" for label, fraction in pairs if fraction)])


APP = SegmentationApp(
    SegmentationRecipe, Segmentation, EXTENSIONS, default_config=CONFIGS / "composed_segmentation.yaml"
)
