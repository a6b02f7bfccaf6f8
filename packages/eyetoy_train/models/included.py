"""Small trained models that travel with the package, by name: `weights/NAME`."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from eyetoy.kinds import WEIGHTS
from eyetoy_train.utils.untrusted import read_json

FOLDER = Path(__file__).parent / "weights"
SCORE = "score.json"
"""The score of an included model, as `validate` prints it."""


@dataclass(frozen=True)
class Score:
    """The score of an included model on its held-out samples."""

    name: str
    """Of the metric, such as accuracy."""
    value: float
    count: int
    """How many samples it is of."""


def included_models() -> dict[str, Path]:
    """Return the folders of the included models by name: each is a checkpoint, with a card and a score."""
    return {file.parent.name: file.parent for file in sorted(FOLDER.glob(f"*/{WEIGHTS}"))}


def included_model(name: str) -> Path | None:
    """Return the folder of the included model of a name, or None if there is none of it."""
    return included_models().get(name)


def included_score(folder: Path) -> Score | None:
    """Return the score of an included model, or None for any other checkpoint."""
    if not (folder.parent == FOLDER and (folder / SCORE).is_file()):
        return None
    scores = read_json(folder / SCORE)
    return Score(scores["score"], scores[scores["score"]], round(scores["count"]))


def example_files(folder: Path) -> list[Path]:
    """Return the held-out files that are kept beside an included model, to try it; none for any other checkpoint."""
    return sorted(path for path in (folder / "examples").glob("*") if path.is_file()) if folder.parent == FOLDER else []


def names_like(name: str) -> str:
    """Return words for a message: the nearest name of an included model, or all of them."""
    names = list(included_models())
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean the included model {near[0]}?"
    return f"the included models are {', '.join(names)}" if names else "no model is included"
