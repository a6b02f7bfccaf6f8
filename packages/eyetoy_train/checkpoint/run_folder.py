"""The folder of a run: its files, its lock, and which folder a recipe gets."""

from __future__ import annotations

import itertools
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from eyetoy_train.checkpoint.retention import CheckpointStore
from eyetoy_train.recipe import Recipe, is_written_as, recipe_text
from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import write_text
from eyetoy_train.utils.untrusted import read_yaml

LOCK = "run.lock"


@dataclass(frozen=True)
class _Place:
    """A property of `RunFolder`: a file or folder in it."""

    name: str

    def __get__(self, run: RunFolder, owner: type[RunFolder]) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """Paths and small files of one run.

    recipe.yaml, data.json, metrics.jsonl (a line per epoch), steps.jsonl (a line every `log_steps`), checkpoints/best
    and checkpoints/step-NNN, tensorboard/, curves.png, samples.png and report.html, and results.json once the run is
    finished.
    """

    path: Path

    checkpoints = _Place("checkpoints")
    """Folder of the checkpoints."""
    results = _Place("results.json")
    """Scores of the finished run."""
    tensorboard = _Place("tensorboard")
    """Folder of TensorBoard's events."""
    metrics = _Place("metrics.jsonl")
    """Scores of every epoch."""
    data = _Place("data.json")
    """What it is trained on; see `eyetoy_train.engine.data_record`."""
    batch = _Place("batch.png")
    """The first batch, as `--dry_run` draws it."""
    steps = _Place("steps.jsonl")
    """Loss, learning rate and gradient norm, every `log_steps` steps."""

    @property
    def identity(self) -> str:
        """A unique name for trackers; the same after the run was interrupted."""
        return (self.path / "id.txt").read_text(encoding="utf-8")

    def start(self, recipe: Recipe) -> None:
        """Create the folder, write the recipe, and clean up after an interrupted write."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.path / "recipe.yaml", recipe_text(recipe))
        if not (self.path / "id.txt").is_file():
            write_text(self.path / "id.txt", uuid.uuid4().hex)
        CheckpointStore(self.checkpoints, recipe.checkpoints).recover()

    def forget_after(self, epoch: int, step: int) -> None:
        """Drop the lines of epochs and steps that a resumed run is about to repeat."""
        for path, key, last in ((self.metrics, "epoch", epoch), (self.steps, "step", step)):
            kept = [json.dumps(line) + "\n" for line in read_lines(path) if line[key] <= last]
            write_text(path, "".join(kept))


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Add a line to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a file of JSON lines; none if the file does not exist."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    # A run that was killed may have left half a line at the end.
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock the folder of a run for this process; remove the folder afterwards if it is empty.

    The system drops the lock however the process ends.

    Raises:
        FileExistsError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = _file_lock(folder)
    if not _acquire(lock):
        raise FileExistsError(f"another process is training in {folder}; wait for it, or choose another folder")
    try:
        yield
    finally:
        # Removed while the lock is held: removed later, it might be the file that the next process has just locked.
        # Windows removes no open file; there filelock does so when it releases the lock.
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()
        with suppress(OSError):  # a folder with files in it stays
            folder.rmdir()


def is_locked(folder: Path) -> bool:
    """Whether a process is training in a folder."""
    if not (folder / LOCK).exists():
        return False
    lock = _file_lock(folder)
    is_free = _acquire(lock)
    lock.release()
    return not is_free


def _file_lock(folder: Path) -> FileLock:
    # Without `fallback_to_soft`, which marks a folder by a file: a run that was killed on another machine would block
    # its folder for good.
    return FileLock(folder / LOCK, blocking=False, fallback_to_soft=False)


def _acquire(lock: FileLock) -> bool:
    """Return False if another process holds the lock. A disk without locks grants every request."""
    try:
        lock.acquire()
    except Timeout:
        return False
    except (OSError, NotImplementedError):
        return True
    return True


def choose_run_folder(recipe: Recipe) -> RunFolder:
    """Return the folder for a run of `recipe`: the one of its unfinished run if there is one, otherwise a new one.

    Raises:
        FileExistsError: `output_dir` is given and holds something other than an unfinished run of this recipe.
    """
    if recipe.output_dir is None:
        names = itertools.chain([recipe.name], (f"{recipe.name}-{number}" for number in itertools.count(2)))
        return RunFolder(next(path for name in names if _is_usable(path := Path("runs", name), recipe)))
    path = Path(recipe.output_dir).expanduser()  # `parse_recipe` does so too, but a recipe may be made in Python
    if not _is_usable(path, recipe):
        raise FileExistsError(
            f"output_dir={recipe.output_dir} holds a finished run, a run of another recipe or one under way, or other "
            "files; give a new or empty folder"
        )
    return RunFolder(path)


def read_recipe(path: Path) -> Any:
    """Return the content of a recipe file, or None if it is not YAML."""
    try:
        return read_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError):
        return None


def _is_usable(path: Path, recipe: Recipe) -> bool:
    # A run that was killed as it began leaves the first two at most, and a dry run the picture.
    leftovers = (LOCK, "recipe.yaml.partial", "batch.png")
    if not path.exists() or (path.is_dir() and all(file.name in leftovers for file in path.iterdir())):
        return not is_locked(path)
    written = path / "recipe.yaml"
    if not written.is_file() or (path / "results.json").exists():
        return False
    if is_locked(path):
        log(f"{path} holds a run that is being trained; it is left alone")
        return False
    # Not the text: a run of an earlier version goes on, whose file lacks the keys that came since.
    if not is_written_as(recipe, read_recipe(written)):
        log(f"{path} holds an unfinished run of another recipe; it is left alone")
        return False
    return True
