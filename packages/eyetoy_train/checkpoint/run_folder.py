"""The folder of a run, and what lies where in it."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eyetoy_train.checkpoint.atomic import write_text
from eyetoy_train.checkpoint.retention import Kept
from eyetoy_train.checkpoint.run_lock import LOCK, is_held
from eyetoy_train.recipe import Recipe, recipe_text
from eyetoy_train.utils.console import log


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of one run.

    recipe.yaml, metrics.jsonl (a line per epoch), steps.jsonl (a line every `log_steps`), checkpoints/best and
    checkpoints/step-NNN, tensorboard/, curves.png, samples.png and report.html, and results.json once the run is
    finished.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def results(self) -> Path:
        """Scores of the finished run."""
        return self.path / "results.json"

    @property
    def tensorboard(self) -> Path:
        """Where TensorBoard's events lie."""
        return self.path / "tensorboard"

    @property
    def identity(self) -> str:
        """A name that no other run has, for trackers; the same when the run goes on."""
        return (self.path / "id.txt").read_text(encoding="utf-8")

    @property
    def metrics(self) -> Path:
        """Scores of every epoch."""
        return self.path / "metrics.jsonl"

    @property
    def steps(self) -> Path:
        """Loss, learning rate and gradient norm while it runs."""
        return self.path / "steps.jsonl"

    def start(self, recipe: Recipe) -> None:
        """Create the folder, write the recipe, and clear up what an interrupted write left."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "recipe.yaml", recipe_text(recipe))
        if not (self.path / "id.txt").is_file():
            write_text(self.path / "id.txt", uuid.uuid4().hex)
        Kept(self.checkpoints, recipe.checkpoints).recover()

    def forget_after(self, epoch: int, step: int) -> None:
        """Drop lines of what a resumed run is going to repeat."""
        for path, key, last in ((self.metrics, "epoch", epoch), (self.steps, "step", step)):
            kept = [json.dumps(line) + "\n" for line in read_lines(path) if line[key] <= last]
            write_text(path, "".join(kept))


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Add a line to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a file of JSON lines; none if there is no such file."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


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
            f"output_dir={recipe.output_dir} holds a finished run, a run of another recipe or one under way, or other "
            "files; give a new or empty folder"
        )
    return RunFolder(path)


def _candidates(name: str) -> Iterator[Path]:
    yield Path("runs", name)
    yield from (Path("runs", f"{name}-{number}") for number in itertools.count(2))


def _is_usable(path: Path, recipe: Recipe) -> bool:
    if not path.exists() or (path.is_dir() and all(_is_leftover(file) for file in path.iterdir())):
        return not is_held(path)
    written = path / "recipe.yaml"
    if not written.is_file() or (path / "results.json").exists():
        return False
    if is_held(path):
        log(f"{path} holds a run that is being trained; it is left alone")
        return False
    if written.read_text(encoding="utf-8") != recipe_text(recipe):
        log(f"{path} holds an unfinished run of another recipe; it is left alone")
        return False
    return True


def _is_leftover(file: Path) -> bool:
    """Whether a file is all that a run leaves which is killed as it begins."""
    return file.name in (LOCK, "recipe.yaml.partial")
