"""The format of a saved model: `model.safetensors`, and `config.json`, whose "kind" tells how it is built.

`load_model` finds the reader of that kind in a mapping. An app adds its own kinds there:
`load_model(folder, kinds={**KINDS, "detector": Detector.from_pretrained})`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eyetoy import Classifier, Encoder, FeaturePyramid
from eyetoy.kinds import WEIGHTS
from eyetoy_train.models.external import TIMM, Families
from eyetoy_train.types import CheckpointError
from eyetoy_train.utils.untrusted import read_json

T = TypeVar("T", bound=nn.Module)

CONFIG = "config.json"

Kinds = Mapping[str, Callable[[Path], nn.Module]]
"""Readers of a folder by the kind of model that it holds; each returns the model in evaluation mode."""
KINDS: Kinds = {model.kind: model.from_pretrained for model in (Classifier, Encoder, FeaturePyramid)}
"""The core's own kinds."""


class SavedModel(nn.Module):
    """A model outside of the core that saves itself; a subclass sets `kind` and `config`, and builds from the latter.

    The config holds no key "kind" of its own: `save_pretrained` adds it.
    """

    kind: str
    config: dict[str, Any]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the model that `config` describes, with new weights."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Return the model of a folder, in evaluation mode; `load_model` says more clearly what is wrong with one."""
        return _with_weights(cls.from_config(read_json(folder / CONFIG)), folder)

    def save_pretrained(self, folder: Path) -> None:
        """Write weights and config."""
        folder.mkdir(parents=True, exist_ok=True)
        # Channels-last weights are strided, and safetensors refuses those.
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps({"kind": self.kind, **self.config}, indent=2), encoding="utf-8")


class ExternalModel(SavedModel):
    """A classifier of another project, saved in this project's format; its kind is its family.

    Args:
        family: the key of `families` that it belongs to.
        name: its name there.
        arguments: the arguments to build it from.
        grid: spatial size of the input, for models that are built for one.
        families: how the models of every family are built.

    Raises:
        ValueError: there is no such model, or it takes no such argument.
    """

    def __init__(
        self, family: str, name: str, arguments: dict[str, Any], grid: Sequence[int] | None, families: Families
    ) -> None:
        super().__init__()
        self.kind = family
        self.config = {family: name, "arguments": arguments, "grid": None if grid is None else list(grid)}
        try:
            self.model = families[family](name, dict(arguments), grid)
        except TypeError as error:
            raise ValueError(f"model.options do not fit {family}'s {name}: {error}") from error

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`."""
        logits: Tensor = self.model(x)
        return logits

    @property
    def _no_split_modules(self) -> list[str]:
        """Tell Accelerate's FSDP which modules to wrap as one unit: the classes in a list of blocks."""
        lists = (module for module in self.model.modules() if isinstance(module, nn.ModuleList | nn.Sequential))
        return sorted({type(block).__name__ for blocks in lists for block in blocks if "Block" in type(block).__name__})

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the inside of blocks in the backward pass.

        Raises:
            ValueError: the model cannot.
        """
        checkpointing: Any = getattr(self.model, "set_grad_checkpointing", None)
        if checkpointing is None:
            raise ValueError(f"model.grad_checkpointing is on, and a model of {self.kind} does not know it")
        checkpointing(enable)


def save_model(
    model: nn.Module,
    folder: Path,
    *,
    id2label: Mapping[int, str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
) -> None:
    """Write a model so that `load_model` reads it: one of the core, a `SavedModel`, or any with `save_pretrained`.

    Args:
        model: the model.
        folder: the folder of its files.
        id2label: names of its classes by the number of their output, for config.json.
        preprocessing: how samples become its input, for config.json; see `ClassificationTask.preprocessing`.

    Raises:
        TypeError: the model has no method `save_pretrained`.
    """
    save: Any = getattr(model, "save_pretrained", None)
    if save is None:
        raise TypeError(f"a model must have save_pretrained(folder) to be saved; {type(model).__name__} has not")
    save(folder)
    labels = {str(place): name for place, name in (id2label or {}).items()}
    said = {key: value for key, value in (("id2label", labels), ("preprocessing", preprocessing)) if value}
    if said:
        config = read_json(folder / CONFIG)
        (folder / CONFIG).write_text(json.dumps({**config, **said}, indent=2), encoding="utf-8")


def load_model(folder: Path, *, kinds: Kinds = KINDS, families: Families = TIMM) -> nn.Module:
    """Return the model that `save_model` wrote, in evaluation mode.

    Args:
        folder: the folder of its files.
        kinds: which kinds to read, and how.
        families: other projects' models to read, which are kinds, too.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: its config is no JSON, or of none of these kinds.
        CheckpointError: config and weights do not make a model; the message says why.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} holds no model: there is no {CONFIG}")
    config = read_json(folder / CONFIG)
    known = [*kinds, *families]
    kind = kind_of(config, known)
    if kind not in known:
        found = f"is of the kind {kind!r}" if kind else "names no kind"
        raise ValueError(f"{folder} holds no {' or '.join(known)}: its {CONFIG} {found}")
    with named(folder):
        if kind in kinds:
            # Inputs are float32, whatever the weights were saved in.
            return kinds[kind](folder).float()
        model = ExternalModel(kind, config[kind], config["arguments"], config["grid"], families)
        return _with_weights(model, folder)


def kind_of(config: Any, known: Iterable[str]) -> str:
    """Return the kind of model that a config describes, or "" if it tells none."""
    if not isinstance(config, dict):
        return ""
    if "kind" in config:
        return str(config["kind"])
    # Configs without a "kind" are older. A detector's and a segmenter's have a part of that name, and those of other
    # projects' models a key with the family's; the core's hold the arguments of a constructor.
    named_after = next((name for name in known if name in config), None)
    if named_after is not None or "params" not in config:
        return named_after or ""
    return "classifier" if "num_classes" in config else "pyramid" if "out_indices" in config else "encoder"


def _with_weights(model: T, folder: Path) -> T:
    """Return the model with the weights of a folder, in evaluation mode."""
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


@contextmanager
def named(folder: Path) -> Iterator[None]:
    """Add the name of a folder to errors while its model is built and loaded.

    Raises:
        OSError: a file is missing.
        CheckpointError: anything else.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # a config is somebody else's, and its values may lead a constructor anywhere
        raise CheckpointError(f"cannot load the model in {folder}: {type(error).__name__}: {error}") from error
