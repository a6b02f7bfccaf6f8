"""Build a classifier by name, this project's or another's, and load one from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eyetoy import Classifier, create_model
from eyetoy_train.models.external import TIMM, Families, split_name

# By these names others import them from here.
from eyetoy_train.models.opened import best_device as best_device
from eyetoy_train.models.opened import find_checkpoint as find_checkpoint
from eyetoy_train.models.saved import ExternalModel, load_model
from eyetoy_train.models.transfer import Trained, class_order, read_trained, report, start_classifier
from eyetoy_train.recipe import ModelRecipe


def build_classifier(
    recipe: ModelRecipe,
    *,
    num_classes: int,
    in_channels: int | None = None,
    grid: Sequence[int] | None = None,
    families: Families = TIMM,
    classes: Sequence[str] | None = None,
) -> nn.Module:
    """Return the classifier that a recipe names, with new weights.

    Args:
        recipe: the model's part of a recipe.
        num_classes: how many logits.
        in_channels: channels of the input; by default the usual number of the modality.
        grid: spatial size of the input, for models that are built for one.
        families: other projects' models, for names with a slash.
        classes: names of the classes; the recipe's weights then give their head only if theirs are the same. By default
            they give it for as many classes.

    Raises:
        ValueError: there is no such model, or it does not take one of the recipe's options.
    """
    model: nn.Module
    external = split_name(recipe.name, families)
    if external is None:
        try:
            model = create_model(
                recipe.name,
                num_classes=num_classes,
                in_channels=in_channels,
                stem_strides=recipe.stem_strides,
                drop_path=recipe.drop_path,
                dropout=recipe.dropout,
                **recipe.options,
            )
        except TypeError as error:  # an option that `create_model` does not have
            raise ValueError(f"model.options {recipe.options} do not fit {recipe.name}: {error}") from error
    else:
        if recipe.stem_strides is not None:
            raise ValueError(
                f"model.stem_strides is for this project's models, and {recipe.name} has a stem of its own; give "
                "--model.stem_strides null"
            )
        arguments: dict[str, Any] = {
            "num_classes": num_classes,
            "in_channels": 3 if in_channels is None else in_channels,
            "drop_path": recipe.drop_path,
            "dropout": recipe.dropout,
        }
        model = ExternalModel(*external, arguments | recipe.options, grid, families)
    if recipe.weights is not None:
        model = _with_weights(model, recipe.weights, classes, families)
    return prepare_model(model, recipe)


def _with_weights(model: nn.Module, weights: str, classes: Sequence[str] | None, families: Families) -> nn.Module:
    """Return the model with trained weights, in training mode; the core's models adapt them to classes and channels."""
    trained = read_trained(weights)
    try:
        if isinstance(model, Classifier):
            return _started(model, trained, classes)
        assert isinstance(model, ExternalModel)
        inner = getattr(model.model, "model", None)
        if isinstance(inner, Classifier) and trained.kind == "classifier":
            # One of this project's inside another, as in framewise/eyetoy2d_nano, starts as it would by itself.
            model.model.model = _started(inner, trained, classes)
        else:
            _start_external(model, trained, classes, families)
    except RuntimeError as error:
        raise ValueError(f"model.weights {trained} are of another model: {str(error)[:500]}") from error
    return model.train()


def _started(model: Classifier, trained: Trained, classes: Sequence[str] | None) -> Classifier:
    return start_classifier(model, trained, classes, dropout=model.dropout, dtype=torch.float32).train()


def _start_external(model: ExternalModel, trained: Trained, classes: Sequence[str] | None, families: Families) -> None:
    """Load a trained model of another project; all of it, or without its head if that is for other classes."""
    family, name = model.kind, model.config[model.kind]
    found = trained.config.get(family)
    if found != name:
        held = f"{family}/{found}" if found else f"a {trained.kind or 'model of no known kind'}"
        raise ValueError(f"model.weights {trained.name} hold {held}, and model.name is {family}/{name}")
    arguments = model.config["arguments"]
    same = list(range(arguments["num_classes"]))
    order = same if classes is None else class_order(trained, classes)
    if order == same:
        model.load_state_dict(trained.weights)
        return
    # Which weights are the head's, no model says in the same way: those whose shape depends on the number of classes.
    with torch.random.fork_rng():
        wider = arguments | {"num_classes": arguments["num_classes"] + 1}
        other = ExternalModel(family, name, wider, model.config["grid"], families).state_dict()
    own = model.state_dict()
    head = [name for name, value in own.items() if value.shape != other[name].shape]
    weights = {name: own[name] if name in head else value for name, value in trained.weights.items()}
    if not isinstance(order, str):
        weights |= {name: trained.weights[name][order].contiguous() for name in head}
    model.load_state_dict(weights)
    left = [f"head ({order})"] if isinstance(order, str) else []
    report(trained, ["encoder"] if left else ["encoder", "head"], left)


def prepare_model(model: nn.Module, recipe: ModelRecipe) -> nn.Module:
    """Apply a recipe's settings for a model's computation, and return the model."""
    if recipe.grad_checkpointing:
        checkpointing: Any = model.set_grad_checkpointing
        checkpointing()
    if recipe.channels_last:
        for parameter in model.parameters():
            parameter.data = _channels_last(parameter.data)
        # Inputs must have the weights' layout, or every convolution copies them.
        model.register_forward_pre_hook(lambda module, inputs: tuple(_channels_last(x) for x in inputs))
    return model


def _channels_last(x: Tensor) -> Tensor:
    """Return `[batch, channels, ...]` with the channels innermost in memory; PyTorch knows how in 2-D and 3-D."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.to(memory_format=formats[x.ndim]) if x.ndim in formats else x


def load_classifier(folder: Path, families: Families = TIMM, *, warns_of_raw_input: bool = True) -> nn.Module:
    """Return a saved classifier, of this project or of `families`, in evaluation mode; errors as in `load_model`.

    With `warns_of_raw_input`, one of this project warns of an input that was not prepared; see `Classifier`.
    """
    model = load_model(folder, kinds={Classifier.kind: Classifier.from_pretrained}, families=families)
    if isinstance(model, Classifier):
        model.warns_of_raw_input = warns_of_raw_input
    return model
