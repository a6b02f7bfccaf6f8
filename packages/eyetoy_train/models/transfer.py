"""Start a model from the weights of another run: what fits is taken, and the run says what, what not, and why."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import Tensor, nn

from eyetoy import Classifier
from eyetoy.kinds import WEIGHTS
from eyetoy.params import EncoderParams
from eyetoy_train.models.included import included_model
from eyetoy_train.models.opened import LABELS, find_checkpoint, read_labels
from eyetoy_train.models.saved import CONFIG, kind_of
from eyetoy_train.utils.console import log
from eyetoy_train.utils.untrusted import read_json

ADAPTED = frozenset({"in_channels", "drop_path", "dropout", "spread_bias", "attention_window", "dilation", "is_causal"})
"""Parameters of an encoder that change no shape of its weights, or to which they are adapted."""
KNOWN = ("detector", "segmenter", "timm")
"""Kinds that a config without the key "kind" may be of, in addition to the core's."""


@dataclass(frozen=True)
class Trained:
    """The weights that `model.weights` names, and what their folder says of them."""

    name: str
    """As the recipe has it."""
    folder: Path
    weights: dict[str, Tensor]
    config: Mapping[str, Any]
    classes: list[str] | None
    """Names of the classes, in the order of the model's outputs, if the folder tells them."""

    @property
    def kind(self) -> str:
        """The kind of model, such as `classifier`; "" if its config does not tell."""
        return kind_of(self.config, KNOWN)

    def __str__(self) -> str:
        """Name the weights and their kind, for messages."""
        return f"{self.name} ({self.kind or 'of no known kind'})"


@dataclass(frozen=True)
class Layout:
    """The parts of a model, and which of their layers have rows for classes."""

    parts: Mapping[str, str]
    """What the names of a part's weights begin with, by the part's name for messages."""
    class_layers: tuple[str, ...]
    """What the names of the layers with a row, or several, for each class begin with."""
    num_background: int = 0
    """Rows before those of the first class, in units of the rows of one class."""


def checkpoint_folder(name: str) -> Path:
    """Return the folder of a run's best checkpoint, of a checkpoint, of an included model or of what the hub holds.

    Raises:
        FileNotFoundError: there is no checkpoint, or the hub's files cannot be fetched.
    """
    if Path(name).exists() or included_model(name):
        return find_checkpoint(Path(name))
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "recipe.yaml", WEIGHTS]))
    except (OSError, ValueError) as error:  # the latter for what can be no name, such as a/b/c
        raise FileNotFoundError(
            f"{name} is no folder here, and cannot be fetched from Hugging Face's hub: {error}"
        ) from error


def read_trained(weights: str) -> Trained:
    """Return the weights of a run, of a checkpoint, or of a name on Hugging Face's hub.

    Raises:
        FileNotFoundError: there is no checkpoint, or the hub's files cannot be fetched.
        ValueError: its list of classes is none.
    """
    folder = checkpoint_folder(weights)
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    classes = read_labels(folder) if (folder / LABELS).is_file() else None
    return Trained(weights, folder, load_file(folder / WEIGHTS), config if isinstance(config, dict) else {}, classes)


def load_encoder(encoder: nn.Module, trained: Trained) -> None:
    """Load the encoder of a classifier, or of any other model of this project.

    Raises:
        ValueError: it is another encoder.
    """
    # "encoder.norm.weight" of a classifier, and "backbone.encoder.norm.weight" of a segmenter.
    found = {name.partition("encoder.")[2]: value for name, value in trained.weights.items() if "encoder." in name}
    try:
        encoder.load_state_dict(found or trained.weights)
    except RuntimeError as error:
        raise ValueError(_other_encoder(trained, encoder, error)) from error


def _other_encoder(trained: Trained, encoder: nn.Module, error: RuntimeError) -> str:
    """Return the message for weights that do not fit: how the encoders differ, or else what torch says.

    Args:
        trained: the weights.
        encoder: the new encoder.
        error: of torch's `load_state_dict`.
    """
    there, here = trained.config.get("params"), getattr(encoder, "params", None)
    if isinstance(there, dict) and isinstance(here, EncoderParams):
        # By way of JSON, as the other ones came: tuples are lists there.
        found = list(_differences(there, json.loads(json.dumps(dataclasses.asdict(here)))))
        if found:
            return (
                f"model.weights {trained} are of another encoder: {_some(found, separator='; ')}. Choose model.name, "
                "model.stem_strides and model.options as they were"
            )
    return f"model.weights {trained} are of another encoder: {str(error)[:500]}"


def _differences(there: Any, here: Any, name: str = "") -> Iterator[str]:
    """Yield where the parameters of two encoders differ in something that decides the shapes of weights."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in here:
            if key not in ADAPTED and key in there:  # one that an older checkpoint lacks has its default
                yield from _differences(there[key], here[key], f"{name}.{key}" if name else key)
    elif isinstance(there, list) and isinstance(here, list) and (here + there) and isinstance((here + there)[0], dict):
        if len(there) != len(here):
            yield f"{name} has {len(there)} entries there and {len(here)} here"
        else:
            for place, pair in enumerate(zip(there, here, strict=True)):
                yield from _differences(*pair, f"{name}[{place}]")
    elif there != here:
        yield f"{name} is {there} there and {here} here"


def load_parts(
    model: nn.Module, trained: Trained, classes: Sequence[str], layout: Layout, refused: Mapping[str, str] | None = None
) -> None:
    """Load the parts of a model that fit whole, and log which ones, and why not the others.

    A layer with rows for classes is taken if the classes have the same names; in another order its rows are permuted.

    Args:
        model: the new model; its encoder is loaded already.
        trained: weights of the same kind of model, or of another one.
        classes: names of the new model's classes, in the order of its outputs.
        layout: the model's parts.
        refused: parts that must not be taken, with the reasons.
    """
    own = {name: value for name, value in model.state_dict().items() if "encoder." not in name}
    taken: dict[str, Tensor] = {}
    loaded, left = [], []
    for part, prefix in layout.parts.items():
        names = [name for name in own if name.startswith(prefix)]
        if not names:
            continue
        rows = [name for name in names if name.startswith(layout.class_layers)]
        why = (refused or {}).get(part) or _misfit(trained.weights, own, [name for name in names if name not in rows])
        if why:
            left.append(f"{part} ({why})")
            continue
        taken |= {name: trained.weights[name] for name in names if name not in rows}
        permuted = _permuted(trained, own, rows, classes, layout.num_background)
        if isinstance(permuted, str):
            left.append(f"the layers of the classes in the {part} ({permuted})")
        else:
            taken |= permuted
        if len(names) > len(rows) or not isinstance(permuted, str):
            loaded.append(part)
    model.load_state_dict(taken, strict=False)
    report(trained, ["encoder", *loaded], left)


def report(trained: Trained, loaded: Sequence[str], left: Sequence[str]) -> None:
    """Log on one process which parts of a model were loaded, and which ones are new."""
    if PartialState().is_main_process:
        log(f"loaded from {trained}: {', '.join(loaded)}")
        if left:
            log(f"not loaded, and new: {'; '.join(left)}")


def class_order(trained: Trained, classes: Sequence[str]) -> list[int] | str:
    """Return the place of each class among the trained ones; or, if the classes are not the same, why."""
    if trained.classes is None:
        return f"no {LABELS} beside the weights names their classes"
    places = {name: place for place, name in enumerate(trained.classes)}
    if len(places) < len(trained.classes):
        return "two of the trained classes have one name"
    gone, new = [name for name in places if name not in classes], [name for name in classes if name not in places]
    if gone or new:
        parts = [f"{_some(gone)} there alone"] * bool(gone) + [f"{_some(new)} here alone"] * bool(new)
        return f"other classes: {', '.join(parts)}"
    return [places[name] for name in classes]


def _permuted(
    trained: Trained, own: Mapping[str, Tensor], names: Sequence[str], classes: Sequence[str], num_background: int
) -> dict[str, Tensor] | str:
    """Return class layers in the order of the new classes; or why they do not fit."""
    if not names:
        return {}
    order = class_order(trained, classes)
    why = order if isinstance(order, str) else _misfit(trained.weights, own, names)
    if why:
        return why
    # For example of the classes (a, b) and the background: [_, b, a] from [_, a, b]; of boxes, four rows for each.
    places = [*range(num_background), *(num_background + place for place in order if isinstance(place, int))]
    found = {}
    for name in names:
        weight = trained.weights[name]
        found[name] = weight.reshape(len(places), -1)[places].reshape(weight.shape)
    return found


def _misfit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Sequence[str]) -> str:
    """Say why weights do not fit; nothing if they do."""
    missing = [name for name in names if name not in weights]
    if missing:
        return "there is none" if len(missing) == len(names) else f"there is no {missing[0]}"
    for name in names:
        if weights[name].shape != own[name].shape:
            return f"of another shape: {name} is {list(weights[name].shape)} there, {list(own[name].shape)} here"
    return ""


def _some(names: Sequence[str], most: int = 4, separator: str = ", ") -> str:
    return separator.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def start_classifier(model: Classifier, trained: Trained, classes: Sequence[str] | None, **options: Any) -> Classifier:
    """Return a classifier with the encoder of trained weights, adapted to its channels, and their head if it fits.

    Args:
        model: the new classifier.
        trained: a classifier, or any model with an encoder of this project.
        classes: names of its classes; by default a head for as many classes is taken.
        options: of `Classifier.from_pretrained`.

    Raises:
        ValueError: it is another encoder.
    """
    if trained.kind not in ("classifier", ""):
        load_encoder(model.encoder, trained)
        report(trained, ["encoder"], [f"head ({trained.name} has none of a classifier)"])
        return model
    params = model.encoder.params
    try:
        started = Classifier.from_pretrained(trained.folder, params=params, num_classes=model.num_classes, **options)
    except RuntimeError as error:
        raise ValueError(_other_encoder(trained, model.encoder, error)) from error
    started.id2label, started.preprocessing = {}, {}  # of the run that it starts from
    if classes is None or not any(name.startswith("head.") for name in trained.weights):
        return started
    order = class_order(trained, classes)
    if isinstance(order, str):
        started.reset_classifier(len(classes))
        report(trained, ["encoder"], [f"head ({order})"])
        return started
    for parameter in started.head.parameters():
        parameter.data = parameter.data[order].contiguous()
    report(trained, ["encoder", "head"], [])
    return started
