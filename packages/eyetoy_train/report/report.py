"""The report of a run: one HTML file that holds everything, pictures included."""

from __future__ import annotations

import base64
import html
import json
import mimetypes
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from eyetoy_train.checkpoint.run_folder import RunFolder, read_lines
from eyetoy_train.recipe import Recipe, recipe_text
from eyetoy_train.report.figures import draw_curves
from eyetoy_train.task import Task
from eyetoy_train.types import Split, Table
from eyetoy_train.utils.console import duration, score_text

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2328; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.7em; margin-bottom: 0.1em; } h2 { font-size: 1.2em; margin: 2em 0 0.5em; }
p.lead { color: #59636e; margin-top: 0; } p.score { font-size: 2.2em; font-weight: 600; margin: 0.4em 0 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25em 0.9em; border-bottom: 1px solid #d1d9e0; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
figure.player { display: inline-block; width: 14.8%; margin: 0.5em 1.2% 0.5em 0;
  vertical-align: top; font-size: 0.8em; }
figure.player > * { width: 100%; }
img { max-width: 100%; } pre { background: #f6f8fa; padding: 1em; border-radius: 6px; overflow-x: auto; }
details summary { cursor: pointer; color: #0969da; }
"""


def write_report(
    run: RunFolder,
    task: Task,
    recipe: Recipe,
    model: nn.Module,
    results: Mapping[str, Any],
    sums: dict[str, Tensor],
    split: Split,
) -> None:
    """Write curves.png, samples.png, the pictures of the metrics, and report.html to the folder of a finished run.

    Args:
        run: the folder.
        task: what was trained.
        recipe: how.
        model: the best model.
        results: what results.json holds.
        sums: what the metrics added up over `split`.
        split: the held-out set that the samples are from.
    """
    lines = read_lines(run.metrics)
    curves, samples = run.path / "curves.png", run.path / "samples.png"
    draw_curves(lines, task.score, curves)
    played = task.write_samples(model, split, samples)
    details = task.metrics().details(sums, run.path)
    body = [
        _head(task, recipe, results, split),
        _section("Scores", _table(_scores(results))),
        _section("Training", _picture(curves) + _stability(recipe, results)),
        _section(f"Samples of the {split} set", _picture(samples) + "".join(map(_player, played))),
        *(_section(table.title, _table(table)) for table in details.tables),
        *(_section(path.stem.capitalize(), _picture(path)) for path in details.pictures),
        _section("Epochs", _folded("every epoch", _table(_epochs(lines)))),
        _section("Recipe", _folded("recipe.yaml", f"<pre>{html.escape(recipe_text(recipe))}</pre>")),
        _section("Environment", f"<pre>{html.escape(json.dumps(results['environment'], indent=2))}</pre>"),
    ]
    title = html.escape(recipe.name)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )
    (run.path / "report.html").write_text(page, encoding="utf-8")


def _head(task: Task, recipe: Recipe, results: Mapping[str, Any], split: Split) -> str:
    scores = results[split]
    lead = (
        f"{recipe.model.name}, {results['parameters'] / 1e6:.2f} M parameters, trained in "
        f"{duration(results['training_seconds'])} on {results['environment']['device']}"
    )
    return (
        f'<h1>{html.escape(recipe.name)}</h1><p class="lead">{html.escape(lead)}</p>'
        f'<p class="score">{score_text(task.score, scores[task.score])} {html.escape(task.score)}</p>'
        f'<p class="lead">of the best epoch, {results["best_epoch"]}, on the {scores["count"]:.0f} samples of the '
        f"{split} set{_by(task)}</p>"
    )


def _by(task: Task) -> str:
    return html.escape(f", by {task.protocol}") if task.protocol else ""


def _scores(results: Mapping[str, Any]) -> Table:
    splits = [split for split in ("val", "test") if results[split]]
    names = list(results[splits[0]])
    rows = [(name, *(score_text(name, results[split][name]) for split in splits)) for name in names if name != "count"]
    counts = ("samples", *(round(results[split]["count"]) for split in splits))
    return Table("Scores", ("", *splits), [*rows, counts])


def _stability(recipe: Recipe, results: Mapping[str, Any]) -> str:
    found = results["stability"]
    clipping = "none" if recipe.clip_grad_norm is None else f"to a norm of {recipe.clip_grad_norm:g}"
    return (
        f"<p>{found['steps']} optimizer steps; gradient clipping: {clipping}; largest gradient norm "
        f"{found['grad_norm_max']:.3g}; loss spikes: {found['loss_spikes']}.</p>"
    )


def _epochs(lines: Sequence[Mapping[str, Any]]) -> Table:
    names = list(next((line["val"] for line in lines if "val" in line), {}))
    names = [name for name in names if name != "count"]
    header = ("epoch", "training loss", *(f"val {name}" for name in names), "samples/s", "waiting for data")
    rows = [
        (
            line["epoch"],
            f"{line['train_loss']:.4f}",
            *(score_text(name, line["val"][name]) if "val" in line else "" for name in names),
            round(line["speed"]["samples_per_second"]),
            line["speed"]["data_wait"],
        )
        for line in lines
    ]
    return Table("Epochs", header, rows)


def _section(title: str, content: str) -> str:
    return f"<h2>{html.escape(title)}</h2>\n{content}"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
    rows = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>\n" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>"


def _cell(value: str | int | float) -> str:
    return f"{value:.2%}" if isinstance(value, float) else html.escape(str(value))


def _picture(path: Path) -> str:
    return f'<img alt="{html.escape(path.stem)}" src="{_inside(path)}">'


def _player(path: Path) -> str:
    """Return what plays a sound on demand, or shows a picture or a clip, over and over, with its name."""
    kind, name = _media_type(path).partition("/")[0], html.escape(path.stem)
    source = _inside(path)
    shown = {
        "image": f'<img alt="{name}" src="{source}">',
        "audio": f'<audio controls src="{source}"></audio>',
        "video": f'<video controls autoplay loop muted playsinline src="{source}"></video>',
    }[kind]
    return f'<figure class="player">{shown}<figcaption>{name}</figcaption></figure>\n'


def _inside(path: Path) -> str:
    """Return the whole file as an address, so that the report needs no other file."""
    return f"data:{_media_type(path)};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _media_type(path: Path) -> str:
    kind, _ = mimetypes.guess_type(path.name)
    assert kind is not None
    return kind
