"""The report of a run: one HTML file that needs no other file, with its figures and sounds inside."""

from __future__ import annotations

import base64
import json
import mimetypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor, nn

from eyetoy_train.checkpoint.run_folder import RunFolder, read_lines
from eyetoy_train.recipe import Recipe, recipe_text
from eyetoy_train.report.figures import PARTS, TRAINED, draw_curves
from eyetoy_train.report.model_card import score_names, scored_splits
from eyetoy_train.task import Listing, Task
from eyetoy_train.types import Split, Table
from eyetoy_train.utils.console import duration, score_text
from eyetoy_train.utils.statistics import SHARES, interval
from eyetoy_train.utils.text import shown

NUMBER = re.compile(r"(-?([\d.,]+(e[-+]\d+)?|inf|nan)%?)?")
"""How numbers are shown; an empty cell is one that is missing."""
MOST_MISTAKES = 24
"""Mistakes that the report names."""


def write_report(
    run: RunFolder,
    task: Task,
    recipe: Recipe,
    model: nn.Module,
    results: Mapping[str, Any],
    sums: dict[str, Tensor],
    split: Split,
) -> None:
    """Write report.html to the folder of a finished run, and its figures (curves.png, samples.png, ...) beside it.

    Args:
        run: the folder.
        task: the task that was trained.
        recipe: its recipe.
        model: the best model.
        results: the contents of results.json.
        sums: the sums of the task's metrics over `split`.
        split: the held-out set that the samples are from.
    """
    lines = read_lines(run.metrics)
    curves, samples = run.path / "curves.png", run.path / "samples.png"
    draw_curves(lines, task.score, curves)
    played = task.write_samples(model, split, samples)
    details = task.metrics().details(sums, run.path)
    mistakes = _mistakes(run, task, model, sums, split) if isinstance(task, Listing) else None
    page = (
        _environment()
        .get_template("template.html.j2")
        .render(
            task=task,
            recipe=recipe,
            results=results,
            split=split,
            scores=_formatted(_scores(results)),
            curves=curves,
            samples=samples,
            played=played,
            mistakes=mistakes,
            sure=_interval(task.score, results[split]),
            tables=[_formatted(table) for table in details.tables],
            figures=details.pictures,
            epochs=_formatted(_epochs(lines)),
            evaluated=sum("val" in line for line in lines),
            recipe_yaml=recipe_text(recipe),
            environment_json=json.dumps(results["environment"], indent=2),
        )
    )
    (run.path / "report.html").write_text(page, encoding="utf-8", errors="backslashreplace")


@dataclass(frozen=True)
class _Mistakes:
    """The mistakes of which a model was surest."""

    count: int
    """Number of all mistakes."""
    table: _FormattedTable
    figure: Path
    played: Sequence[Path]


def _mistakes(
    run: RunFolder, task: Listing, model: nn.Module, sums: dict[str, Tensor], split: Split
) -> _Mistakes | None:
    """Return the mistakes on a split for the report; None if there are none, or samples that have no names."""
    figure = run.path / "mistakes.png"
    played = task.write_mistakes(model, sums, split, figure)
    if played is None:
        return None
    listed = task.predictions(sums, split)
    wrong = [row for row in listed.rows if row[1] != row[2]]
    return _Mistakes(len(wrong), _formatted(replace(listed, rows=wrong[:MOST_MISTAKES])), figure, played)


def _interval(name: str, scores: Mapping[str, float]) -> str:
    """Return the confidence interval of a score that is a share of samples; nothing for any other."""
    if name not in SHARES:
        return ""
    low, high = interval(scores[name], scores["count"])
    return f"{low:.1%} to {high:.1%}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, "."),
        autoescape=True,  # names of classes and files come from other people's data, and must not become markup
        undefined=StrictUndefined,  # a name that the template misspells is an error, not an empty text
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "data_uri": _data_uri,
        "media_type": _media_type,
        "duration": duration,
        "score_text": score_text,
    }
    return environment


def _scores(results: Mapping[str, Any]) -> Table:
    splits = scored_splits(results)
    rows = [
        (name, *(score_text(name, results[split][name]) if name in results[split] else "" for split in splits))
        for name in score_names(results)
    ]
    counts = ("samples", *(round(results[split]["count"]) for split in splits))
    return Table("Scores", ("", *splits), [*rows, counts])


def _epochs(lines: Sequence[Mapping[str, Any]]) -> Table:
    # An epoch without an evaluation has no "val": the names are those of the first that has.
    names = [name for name in next((line["val"] for line in lines if "val" in line), {}) if name != "count"]
    parts = list(dict.fromkeys(key for line in lines for key in line if key.startswith(PARTS)))
    spoken = (f"training {part.removeprefix(TRAINED)}" for part in parts)
    header = ("epoch", "training loss", *spoken, *(f"val {name}" for name in names), "samples/s", "waiting for data")
    rows = [
        (
            line["epoch"],
            f"{line['train_loss']:.4f}",
            *(f"{line[part]:.4f}" if part in line else "" for part in parts),
            *(score_text(name, line["val"][name]) if name in line.get("val", {}) else "" for name in names),
            round(line["speed"]["samples_per_second"]),
            line["speed"]["data_wait"],
        )
        for line in lines
    ]
    return Table("Epochs", header, rows)


@dataclass(frozen=True)
class _FormattedTable:
    """A table whose cells are text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: Sequence[bool]
    """Of each column, whether it holds words, which are aligned to the left, where numbers are to the right."""


def _formatted(table: Table) -> _FormattedTable:
    rows = [[f"{cell:.2%}" if isinstance(cell, float) else shown(cell) for cell in row] for row in table.rows]
    is_text = [not all(NUMBER.fullmatch(row[column]) for row in rows) for column in range(len(table.header))]
    return _FormattedTable(table.title, table.header, rows, is_text)


def _data_uri(path: Path) -> str:
    """Return a file's bytes as an address that a browser shows (RFC 2397)."""
    return f"data:{_media_type(path)};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _media_type(path: Path) -> str:
    kind, _ = mimetypes.guess_type(path.name)
    assert kind is not None, f"nothing is known of files like {path.name}"
    return kind
