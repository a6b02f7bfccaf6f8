"""What detection and segmentation share: data with checked annotations, checkpoints and pictures of samples."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, get_args

import torch
from accelerate import PartialState
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import to_pil_image

from eyetoy_image.classification.transforms import MEAN, STD
from eyetoy_image.dense.dataset import PictureDataset
from eyetoy_image.figures import Panel, draw_sheet, shrunk
from eyetoy_image.io.background import described
from eyetoy_train import Batch, SavedModel, Split, save_model
from eyetoy_train.data.inventory import Inventory
from eyetoy_train.data.source import DatasetRegistry, DatasetSource
from eyetoy_train.models.transfer import Layout, load_parts, read_trained
from eyetoy_train.recipe import recipe_text
from eyetoy_train.types import About
from eyetoy_train.utils.statistics import even_places

LABELS = "labels.json"

S = TypeVar("S")


class DenseTask(ABC, Generic[S]):
    """The part of `eyetoy_train.Task` that detection and segmentation share; `S` is the type of a split.

    Args:
        recipe: a `Recipe` with a part `data`.
        datasets: those that `data.source` names.
    """

    recipe: Any
    data: Any
    source: DatasetSource[S]
    pipeline_tag: str
    """What the Hugging Face hub calls the task."""
    columns: int
    """How many pictures lie side by side in the file of `write_samples`."""
    first_label = 0
    """The label of the first class."""

    def __init__(self, recipe: Any, datasets: DatasetRegistry) -> None:
        self.recipe, self.data = recipe, recipe.data
        self.source = datasets.open(recipe.data, recipe.seed)
        self._checked: dict[Split, S | None] = {}
        self.seen: dict[Split, set[int]] = {}
        """By split, the numbers from 0 of the classes that are in it; `without_bad` fills it."""
        self.left_out: Counter[str] = Counter()
        """Numbers of pictures and annotations that `without_bad` left out, by the reason."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their labels."""
        return self.source.classes

    @property
    def about(self) -> About:
        """What a card says of the data and the task."""
        return About.of_data("pictures", self.data, pipeline_tag=self.pipeline_tag, predict="eyetoy predict")

    def prepare(self) -> None:
        """Compose the digits if need be, and look at all annotations.

        Raises:
            FileNotFoundError: something is not there.
            BadAnnotationsError: something is wrong with an annotation, and the recipe does not say to leave it out.
        """
        self.source.prepare()
        for split in get_args(Split):
            self.checked(split)
        if PartialState().is_main_process:  # what is left out takes a look at every file of COCO's folders
            self._inventory().tell()

    def _inventory(self) -> Inventory:
        """Return what was read: the classes and the pictures of every split, without bad ones."""
        sizes: dict[Split, int | str] = {}
        listed: dict[Split, list[tuple[Any, None]]] = {}
        for split, found in self._checked.items():
            if found is not None:
                pictures = cast("PictureDataset[Any]", self.dataset(split)).pictures
                sizes[split] = len(pictures)
                listed[split] = [(picture.path, None) for picture in pictures]
        return self.source.inventory(sizes, self.seen, self.left_out, listed)

    def checked(self, split: Split) -> S | None:
        """Return a split without bad annotations, which are looked for the first time; errors as in `prepare`."""
        if split not in self._checked:
            found = self.source.split(split)
            self._checked[split] = None if found is None else self.without_bad(split, found)
        return self._checked[split]

    @abstractmethod
    def without_bad(self, split: Split, found: S) -> S:
        """Return a split without its bad annotations; or raise if the recipe says to refuse them.

        What is left out is counted in `left_out`, and the classes of the rest are put into `seen`.
        """

    @property
    def saved_recipe(self) -> Any:
        """The recipe that is written beside a model."""
        return self.recipe

    def dataset(self, split: Split) -> Dataset[Batch] | None:
        """Return a split, or None if there is no such split."""
        return self.read(split, training=split == "train")

    def evaluation_set(self, split: Split) -> Dataset[Batch] | None:
        """Return a split without augmentation, also that of training."""
        return self.read(split, training=False)

    @abstractmethod
    def read(self, split: Split, *, training: bool) -> Dataset[Batch] | None:
        """Return a split, augmented or not; or None if there is no such split."""

    def start(self, model: SavedModel, layout: Layout, over_stages: Sequence[str]) -> SavedModel:
        """Load what fits of the recipe's trained weights, if it names any, beyond the encoder; and log what it is.

        Args:
            model: the new model, whose encoder is loaded.
            layout: its parts.
            over_stages: those that depend on which stages of the encoder are used.
        """
        if self.recipe.model.weights is None:
            return model
        trained = read_trained(self.recipe.model.weights)
        kind = trained.kind or "model of no known kind"
        if kind != model.kind:
            refused = dict.fromkeys(layout.parts, f"the weights are those of a {kind}")
        else:
            there, here = (config[model.kind].get("out_indices") for config in (trained.config, model.config))
            why = f"over the stages {there or 'all'} there, {here or 'all'} here"
            refused = {} if there == here else dict.fromkeys(over_stages, why)
        load_parts(model, trained, self.classes, layout, refused)
        return model

    def preprocessing(self) -> dict[str, Any]:
        """Return how pictures become the model's input; see `ClassificationTask.preprocessing`."""
        return {
            "modality": "image",
            "channels": 3,
            "background": described(self.data.background),
            "mean": MEAN,
            "std": STD,
        }

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the model, the classes and the recipe."""
        save_model(
            model, folder, id2label=dict(enumerate(self.classes, self.first_label)), preprocessing=self.preprocessing()
        )
        (folder / LABELS).write_text(json.dumps(list(self.classes), indent=2), encoding="utf-8")
        (folder / "recipe.yaml").write_text(recipe_text(self.saved_recipe), encoding="utf-8")

    @torch.inference_mode()
    def write_samples(self, model: nn.Module, split: Split, path: Path, *, count: int = 12) -> list[Path]:
        """Draw samples of a split, spread evenly over it, and a legend to a PNG file; see `draw_sample`."""
        dataset = cast("PictureDataset[Any]", self.dataset(split))
        model.eval()
        device = next(model.parameters()).device
        drawn: list[Panel] = []
        for index in even_places(len(dataset), count):
            drawn += map(shrunk, self.draw_sample(model, dataset[index], device))
        to_pil_image(draw_sheet(drawn, self.columns, self.classes, first_label=self.first_label)).save(path)
        return []

    @abstractmethod
    def draw_sample(self, model: nn.Module, sample: Batch, device: torch.device) -> Sequence[Panel]:
        """Return pictures of a sample and of what the model sees in it."""
