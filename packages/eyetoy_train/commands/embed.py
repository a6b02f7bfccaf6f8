"""Write the vectors of the files of a folder: the command `embed.py` of every app."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eyetoy_train.commands.cli import checkpoint_parser, expand, parse_with_overrides
from eyetoy_train.embedding.vectors import SUFFIXES, Output, Row, files_of, written
from eyetoy_train.ending import exit_on_error
from eyetoy_train.models.opened import Checkpoint
from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import beside, list_folders

# What needs torch is imported after the options were read.
if TYPE_CHECKING:
    from eyetoy_train.classification.predict import LoadedClassifier, Piece
    from eyetoy_train.classification.task import ClassificationTask

DESCRIPTION = (
    "Write a vector for every file of a folder: what the checkpoint's head sees of it, the encoder's context. For "
    "class folders, print as JSON how well nearest neighbours and a linear probe tell the classes. Further options "
    "override the checkpoint's recipe."
)


@exit_on_error()
def embed_folder(
    open_checkpoint: Callable[[Path, Sequence[str]], Checkpoint[Any]],
    extensions: Collection[str],
    argv: Sequence[str] | None = None,
) -> None:
    """Write vectors as the command line says, and print what they are worth.

    Args:
        open_checkpoint: opens a checkpoint with overrides of its recipe.
        extensions: suffixes of the files to find in the folder.
        argv: the command line; `sys.argv[1:]` by default.
    """
    parser = checkpoint_parser(DESCRIPTION)
    parser.add_argument("folder", type=Path, help="a folder of files, with or without class folders and splits in it")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="a .parquet file with the columns file, label, split and vector; or a .npy file, float32 [files, "
        "channels], with a .csv file of the names beside it",
    )
    parser.add_argument("--batch_size", type=int, default=32, help="number of files read at a time (default: 32)")
    parser.add_argument(
        "--neighbours",
        type=int,
        metavar="K",
        help="write the K nearest files of each, by cosine similarity, to NAME.neighbours.csv beside the output",
    )
    parser.add_argument(
        "--knn", type=int, default=5, metavar="K", help="number of neighbours that vote for a class (default: 5)"
    )
    options, overrides = parse_with_overrides(parser, argv)
    for name in ("batch_size", "neighbours", "knn"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1; got {value}")
    if options.output.suffix not in SUFFIXES:
        raise ValueError(f"--output must end in {' or '.join(SUFFIXES)}; got {options.output}")
    for path in files_of(options.output)[1:]:
        if path.exists() and not options.output.exists():  # so that no embedding has written it
            raise ValueError(f"--output would overwrite {path}, which it writes beside {options.output}; choose a name")
    if not options.folder.is_dir():
        raise ValueError(f"{options.folder} is no folder; embed takes a folder of files")
    from eyetoy_train.classification.predict import LoadedClassifier
    from eyetoy_train.embedding.scores import scores

    opened = open_checkpoint(options.checkpoint, overrides)
    classifier = LoadedClassifier(opened.task, opened.load_model(), opened.labels)
    files = list(expand([options.folder], extensions))
    rows, has_splits = _rows(options.folder, files, extensions, opened.task)
    with written(options.output) as output:
        for some, vectors in _embedded(classifier, files, rows, options.batch_size):
            output.append(some, vectors)
        if not output.rows:
            raise ValueError(f"none of the {len(files):,} files in {options.folder} can be read")
        others = _write_neighbours(output, options.neighbours, options.output) if options.neighbours else []
        worth = scores(output.vectors, output.rows, options.knn, has_splits=has_splits)
    report = {
        "checkpoint": str(opened.folder),
        "files": len(output.rows),
        "skipped": len(classifier.skipped),
        "channels": output.vectors.num_channels,
        "output": [str(path) for path in (*files_of(options.output), *others)],
        **worth,
    }
    print(json.dumps(report, indent=2))  # noqa: T201
    if classifier.skipped:
        raise SystemExit(1)  # what could not be read was named


def _rows(
    folder: Path, files: Sequence[Path], extensions: Collection[str], task: ClassificationTask
) -> tuple[list[Row], bool]:
    """Return the rows of files, and whether the folder has splits; labels and splits are those of a training on it."""
    from eyetoy_train.data.folder import read_class_folder
    from eyetoy_train.data.groups import Grouping

    data = getattr(task.recipe, "data", None)
    # In the run's own folder, the parts that it has held out; another folder may have no such groups.
    is_own = folder.resolve() == Path(getattr(data, "root", "")).expanduser().resolve()
    fold, grouping = (getattr(data, "test_fold", None), Grouping.of(data)) if is_own else (None, None)
    names = [file.relative_to(folder).as_posix() for file in files]
    if not list_folders(folder):
        return [Row(name) for name in names], False
    try:
        read = read_class_folder(folder, extensions, seed=task.recipe.seed, fold=fold, grouping=grouping)
    except (ValueError, OSError) as error:
        log(f"the vectors have no labels, and no score: {error}", file=sys.stderr)
        return [Row(name) for name in names], False
    known = {path: (read.classes[label], split) for split, samples in read.splits.items() for path, label in samples}
    return [
        Row(name, *known.get(file, ("", ""))) for name, file in zip(names, files, strict=True)
    ], read.has_split_folders


def _embedded(
    classifier: LoadedClassifier, files: Sequence[Path], rows: Sequence[Row], batch_size: int
) -> Iterator[tuple[list[Row], Any]]:
    """Yield the rows of files that can be read with their vectors, a batch at a time."""
    pieces: Iterator[tuple[Row, Piece]] = (
        (row, piece) for file, row in zip(files, rows, strict=True) for piece in classifier.read(file)
    )
    while batch := list(itertools.islice(pieces, batch_size)):
        vectors = classifier.embed([piece.example for _, piece in batch])
        yield [row for row, _ in batch], vectors.numpy()


def _write_neighbours(output: Output, k: int, path: Path) -> list[Path]:
    """Write the nearest files of each to a CSV file, and return it."""
    from eyetoy_train.embedding.neighbours import nearest

    everywhere = np.ones(len(output.rows), bool)
    written_to = path.with_suffix(".neighbours.csv")
    partial = beside(written_to, "partial")
    with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "rank", "neighbour", "similarity"])
        for chunk in nearest(output.vectors, k, asking=everywhere, asked=everywhere):
            for place, others, similar in zip(chunk.asking, chunk.places, chunk.similarity, strict=True):
                for rank, (other, value) in enumerate(zip(others, similar, strict=True), 1):
                    names = output.rows[place].file, output.rows[other].file
                    writer.writerow([names[0], rank, names[1], f"{value:.6f}"])
    partial.replace(written_to)
    return [written_to]
