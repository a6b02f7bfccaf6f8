"""The model card that Hugging Face's hub shows: score, data, recipe, hardware, use, limits.

The front matter follows the hub's model-card metadata (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from torch import nn

from eyetoy.hub import HubModel
from eyetoy_train.recipe import Recipe
from eyetoy_train.task import Task
from eyetoy_train.utils.console import duration, score_text
from eyetoy_train.utils.statistics import SHARES, interval
from eyetoy_train.utils.text import shown

CARD = "README.md"


@dataclass(frozen=True)
class FinishedRun:
    """A finished run."""

    task: Task
    recipe: Recipe
    model: nn.Module
    results: Mapping[str, Any]
    """The contents of results.json."""
    num_samples: int | None
    """Size of the training set; None for a stream."""


def card_text(run: FinishedRun, *, licence: str | None = None) -> str:
    """Return the card of a run's best model; its licence, such as `mit`, is the choice of whoever publishes it."""
    size = run.results["parameters"] / 1e6
    parts = [
        f"---\n{_metadata(run, licence)}\n---",
        f"# {shown(run.recipe.name)}",
        f"`{run.recipe.model.name}`, {size:.2f} M parameters, trained on {shown(run.task.about.data)}.",
        "## Score\n\n" + _scores(run),
        "## Data\n\n" + _data(run),
        "## Recipe\n\n" + _recipe(run),
        "## Hardware and versions\n\n" + _environment(run),
        "## Use\n\n" + _use(run),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(run)),
    ]
    return "\n\n".join(parts) + "\n"


def scored_splits(results: Mapping[str, Any]) -> list[str]:
    """Return the splits of which results.json has scores."""
    return [split for split in ("val", "test") if results[split]]


def score_names(results: Mapping[str, Any]) -> list[str]:
    """Return the scores that any split has: one without an object has no loss of a detector."""
    names = dict.fromkeys(name for split in scored_splits(results) for name in results[split])
    return [name for name in names if name != "count"]


def _metadata(run: FinishedRun, licence: str | None) -> str:
    """Return the YAML of the front matter; its model index holds the scores of the test set, or of val without one."""
    about, split = run.task.about, scored_splits(run.results)[-1]
    scores = run.results[split]
    results = [
        EvalResult(
            task_type=about.pipeline_tag or "other",
            dataset_type=about.hub_dataset or shown(about.data),
            dataset_name=shown(about.data),
            dataset_split=split,
            metric_type=name,
            metric_value=round(value, 6),
        )
        for name, value in scores.items()
        if name != "count"
    ]
    data = ModelCardData(
        model_name=shown(run.recipe.name),
        license=licence,
        library_name="eyetoy",
        pipeline_tag=about.pipeline_tag or None,
        tags=["eyetoy", "neighborhood-attention", run.recipe.model.name.replace("/", "-")],
        datasets=[about.hub_dataset] if about.hub_dataset else None,
        metrics=[run.task.score],
        eval_results=results,
    )
    return str(data.to_yaml())


def _scores(run: FinishedRun) -> str:
    how = f" by {run.task.protocol}" if run.task.protocol else ""
    splits = scored_splits(run.results)
    rows = [(name, *(_score(name, run.results[split]) for split in splits)) for name in score_names(run.results)]
    counts = ("samples", *(f"{run.results[split]['count']:,.0f}" for split in splits))
    return (
        f"Of the best epoch, {run.results['best_epoch']}, which the validation set chose{how}; in brackets the 95 % "
        f"confidence interval.\n\n" + _table(("", *splits), [*rows, counts])
    )


def _score(name: str, scores: Mapping[str, float]) -> str:
    if name not in scores:
        return ""
    text = score_text(name, scores[name])
    if name not in SHARES or not scores["count"]:
        return text
    low, high = interval(scores[name], scores["count"])
    return f"{text} ({low:.1%} to {high:.1%})"


def _data(run: FinishedRun) -> str:
    trained = "a stream" if run.num_samples is None else f"{run.num_samples:,}"
    counts = {"train": trained} | {split: f"{run.results[split]['count']:,.0f}" for split in scored_splits(run.results)}
    rows = [(split, count) for split, count in counts.items()]
    data = shown(run.task.about.data)
    return f"{data[0].upper()}{data[1:]}.\n\n" + _table(("split", "samples"), rows)


def _recipe(run: FinishedRun) -> str:
    recipe, stability = run.recipe, run.results["stability"]
    clipping = "none" if recipe.clip_grad_norm is None else f"to a norm of {recipe.clip_grad_norm:g}"
    rows = [
        ("epochs", recipe.epochs),
        ("optimizer steps", f"{stability['steps']:,}"),
        ("batch size", recipe.batch_size),
        ("optimizer", f"{recipe.optimizer}, learning rate {recipe.lr:g}, {recipe.schedule}"),
        ("gradient clipping", f"{clipping}; largest norm {stability['grad_norm_max']:.3g}"),
        ("seed", recipe.seed),
        ("training time", duration(run.results["training_seconds"])),
    ]
    return "All of it is in `recipe.yaml`, which `--config` of training takes.\n\n" + _table(("", ""), rows)


def _environment(run: FinishedRun) -> str:
    return _table(("", ""), list(run.results["environment"].items()))


def _use(run: FinishedRun) -> str:
    prepared: dict[str, Any] = getattr(run.task, "preprocessing", dict)()
    if "modality" in prepared:
        code = 'import eyetoy\n\nmodel = eyetoy.load("OWNER/NAME")  # or this folder\nprint(model.predict("FILE"))'
        install = f'pip install "eyetoy[{prepared["modality"]}]"'
        return (
            f"```python\n{code}\n```\n\nIt needs `{install}`. `{run.task.about.predict} FOLDER FILE ...` does the same."
        )
    predict = f"`{run.task.about.predict} FOLDER FILE ...` reads files; `labels.json` names the classes."
    if not isinstance(run.model, HubModel):
        return predict
    kind = type(run.model).__name__
    code = f'from eyetoy import {kind}\n\nmodel = {kind}.from_pretrained("OWNER/NAME")  # or this folder'
    return f"```python\n{code}\n```\n\n{predict}"


def _limits(run: FinishedRun) -> Iterator[str]:
    split = scored_splits(run.results)[-1]
    yield (
        f"The score is that of {run.results[split]['count']:,.0f} held-out samples of the same data; on other data it "
        "was not measured."
    )
    yield f"One run with seed {run.recipe.seed}: another seed gives another score."
    yield from run.task.about.limits
    yield "A licence, if this card names one, is that of the weights; that of the data may ask for more."


def _table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
