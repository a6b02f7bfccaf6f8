"""The folder of a run, and what lies where in it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eyetoy_train.checkpoint import recover_folder
from eyetoy_train.cli import recipe_text
from eyetoy_train.recipe import Recipe


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of one run.

    recipe.yaml, metrics.jsonl (a line per epoch), checkpoints/best and checkpoints/last, tensorboard/, curves.png,
    samples.png, and results.json once the run is finished.
    """

    path: Path

    @property
    def best(self) -> Path:
        """Checkpoint of the epoch with the best validation score."""
        return self.path / "checkpoints" / "best"

    @property
    def last(self) -> Path:
        """Checkpoint of the last complete epoch, with all that a resume needs."""
        return self.path / "checkpoints" / "last"

    @property
    def results(self) -> Path:
        """Scores of the finished run."""
        return self.path / "results.json"

    def start(self, recipe: Recipe) -> None:
        """Create the folder, write the recipe, and bring back what an interrupted write left."""
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "recipe.yaml").write_text(recipe_text(recipe), encoding="utf-8")
        recover_folder(self.last)
        recover_folder(self.best)

    def append_metrics(self, values: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl; none if there is no such file."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def forget_metrics_after(self, epoch: int) -> None:
        """Drop lines of epochs that a resumed run is going to repeat."""
        kept = [json.dumps(line) + "\n" for line in self.read_metrics() if line["epoch"] <= epoch]
        (self.path / "metrics.jsonl").write_text("".join(kept), encoding="utf-8")


def choose_run_folder(recipe: Recipe) -> RunFolder:
    """Return the folder for a run of `recipe`: its unfinished run if there is one, or a new folder.

    Raises:
        FileExistsError: `output_dir` was given, and holds something other than an unfinished run of this recipe.
    """
    if recipe.output_dir is None:
        return RunFolder(next(path for path in _candidates(recipe.name) if _is_usable(path, recipe)))
    path = Path(recipe.output_dir)
    if not _is_usable(path, recipe):
        raise FileExistsError(
            f"output_dir={recipe.output_dir} holds a finished run, a run of another recipe or other files; "
            "give a new or empty folder"
        )
    return RunFolder(path)


def _candidates(name: str) -> Iterator[Path]:
    yield Path("runs", name)
    yield from (Path("runs", f"{name}-{number}") for number in itertools.count(2))


def _is_usable(path: Path, recipe: Recipe) -> bool:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return True
    written = path / "recipe.yaml"
    unfinished = written.is_file() and not (path / "results.json").exists()
    return unfinished and written.read_text(encoding="utf-8") == recipe_text(recipe)
