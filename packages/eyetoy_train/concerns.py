"""What a key of a recipe concerns, and so which commands take it.

Every part of a recipe tells it of its own fields, in a class variable `concerns`. `train` takes all keys. Another
command takes an override that changes what it does, and refuses one that it would have to ignore: a score by other
settings than those that were asked for is a wrong score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Command = Literal["validate", "predict", "embed", "visualize", "export", "check"]


@dataclass(frozen=True)
class Concern:
    """Which commands follow a key, and why the others do not."""

    followed_by: frozenset[Command]
    why_not: str
    """Why the other commands do not take it, to be put after the key's name."""


Concerns = Mapping[Concern, Iterable[str]]
"""Names of a part's fields, by what they concern. A part that is named as a whole need not tell of its fields."""

ANYWHERE = Concern(
    frozenset(["validate", "predict", "embed", "visualize", "export", "check"]),
    "",
)
"""Right for every command: where files lie, how fast and by which library they are read, which frames of a video."""
EVALUATION = Concern(
    frozenset(["validate", "predict", "embed", "visualize", "export"]),
    "is about the model, and a check looks at the data alone",
)
"""How an input is prepared, looked at and judged."""
SIZES = Concern(
    frozenset(["validate", "predict", "embed", "visualize"]),
    "is about pictures of all sizes, and the size of an exported model is --sizes",
)
"""To which size pictures are brought, where an exported model takes one size."""
DATA = Concern(frozenset(["validate", "check"]), "is about a data set, and this command reads none")
"""Which samples there are, and what their labels are."""
READING = Concern(frozenset(["validate"]), "is about how a run reads its data set")
"""What becomes of samples that are missing or bad."""
PRECISION = Concern(frozenset(["validate"]), "is about training and its scores; this command computes in float32")
TRAINING = Concern(frozenset(), "is used by training alone")
MODEL = Concern(frozenset(), "is built into the trained model, and another value takes another training")
CHECKED_MODEL = Concern(frozenset(["check"]), MODEL.why_not)
"""A part of the model that tells a check which annotations are needed."""
EXPORTED_SIZE = Concern(frozenset(["export"]), "is used by training, and as the size of an exported model")

BETTER = {
    "batch_size": "the samples of a forward pass are --eval_batch_size",
    "output_dir": "the folder of what this command writes is --output",
    "model.weights": "the weights are those of the checkpoint, so name another checkpoint",
}
"""What to do about some keys, instead of leaving them out."""


def concern_of(part: type[Any], key: str) -> Concern | None:
    """Return what a key of a recipe, such as `data.root`, concerns; None if the recipe does not tell.

    Args:
        part: the class of the recipe, or of a part of one.
        key: the key in it.
    """
    name, _, rest = key.partition(".")
    for owner in part.__mro__:
        for concern, names in vars(owner).get("concerns", {}).items():
            if name in names:
                found: Concern = concern
                return found
    kinds = {field.name: field.default_factory for field in dataclasses.fields(part)}
    inner: Any = kinds.get(name)
    return concern_of(inner, rest) if rest and isinstance(inner, type) and dataclasses.is_dataclass(inner) else None


def refuse_ignored(recipe: type[Any], keys: Iterable[str], command: Command | None) -> None:
    """Refuse keys that a command would ignore.

    Args:
        recipe: the class of the recipe.
        keys: those that were given, such as `data.root`.
        command: its name; None for a program of one's own, which may follow what any command follows.

    Raises:
        ValueError: there is one; the message names it, and tells why and what to do.
    """
    for key in keys:
        concern = concern_of(recipe, key)
        if concern is None or command in concern.followed_by or (command is None and concern.followed_by):
            continue
        instead = BETTER.get(key, "leave it out")
        raise ValueError(f"--{key} {concern.why_not}; {instead}")
