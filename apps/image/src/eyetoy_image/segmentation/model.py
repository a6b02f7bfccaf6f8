"""Segmenters: a head over the feature pyramid of any encoder, with logits for every pixel of the image."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

from torch import Tensor, nn

from eyetoy_image.dense.pyramids import build_pyramid
from eyetoy_image.segmentation.heads import LinearHead, UperNet, fcn_head, resized
from eyetoy_image.segmentation.recipe import SegmenterRecipe
from eyetoy_train import ModelRecipe, SavedModel, load_model
from eyetoy_train.models.transfer import Layout

LAYOUT = Layout(
    parts={"norms of the stages": "backbone.norms.", "head": "head.", "auxiliary head": "auxiliary."},
    class_layers=("head.classify.", "auxiliary.2."),
)
OVER_STAGES = tuple(LAYOUT.parts)
"""The parts that depend on which stages of the encoder are used."""


class Segmenter(SavedModel):
    """A segmenter that saves itself as weights (safetensors) and a JSON config.

    Args:
        model: the encoder's part of a recipe.
        recipe: the head's part.
        num_classes: number of classes.

    Raises:
        ValueError: there is no such encoder, or it has one stage and the recipe an auxiliary head, which needs two.
    """

    kind = "segmenter"

    def __init__(self, model: ModelRecipe, recipe: SegmenterRecipe, num_classes: int) -> None:
        super().__init__()
        self.config = {
            "model": asdict(model) | {"weights": None},  # a saved segmenter has its weights
            "segmenter": asdict(recipe),
            "num_classes": num_classes,
        }
        self.backbone, channels = build_pyramid(model, recipe.out_indices)
        self.head = (
            UperNet(channels, num_classes, recipe)
            if recipe.kind == "upernet"
            else LinearHead(channels, num_classes, recipe.dropout)
        )
        self.auxiliary: nn.Module | None = None
        if recipe.auxiliary_weight:
            if len(channels) < 2:
                raise ValueError(
                    "segmenter.auxiliary_weight must be 0 for an encoder of one stage, because the auxiliary head is "
                    f"on the last but one; got {recipe.auxiliary_weight}"
                )
            self.auxiliary = fcn_head(channels[-2], num_classes, recipe)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the segmenter of a config, with new weights."""
        model, recipe = ModelRecipe(**config["model"]), SegmenterRecipe(**config["segmenter"])
        return cls(model, recipe, config["num_classes"])

    def forward(self, x: Tensor) -> Any:
        """Predict the class of every pixel.

        Args:
            x: normalized images, `[batch, 3, height, width]`, of any size.

        Returns:
            logits `[batch, classes, height, width]`; in training a list of them, with those of the auxiliary head if
            there is one.
        """
        maps = self.backbone(x)
        logits = resized(self.head(maps), x)
        if not self.training:
            return logits
        return [logits] if self.auxiliary is None else [logits, resized(self.auxiliary(maps[-2]), x)]


def load_segmenter(folder: Path) -> Segmenter:
    """Return a saved segmenter in evaluation mode; see `eyetoy_train.load_model` for errors."""
    return cast("Segmenter", load_model(folder, kinds={Segmenter.kind: Segmenter.from_pretrained}, families={}))
