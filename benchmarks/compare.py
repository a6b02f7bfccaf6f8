"""Train variants of a recipe with several seeds, and compare them: `python benchmarks/compare.py GRID.yaml`.

A grid has a recipe, options for all runs, and variants with further options; `grids/` has those of the proposal's
ablations. Each run is the app's `train.py` in a separate folder. Finished runs are not repeated, and interrupted ones
are resumed, so the same command can be repeated at any time. The results are a table of the score on the test set, or
on the validation set where there is no other, with a 95 % confidence interval over seeds, parameters, training time and
speed, and the largest memory of a process, including its data; and a plot.

The same variants on other data: `--recipe apps/image/src/eyetoy_image/configs/preliminary_cifar10.yaml`, whose options
then replace those of the grid for all runs. On a machine that other programs use, measure times by
`steps.py GRID.yaml --output FOLDER`, which alternates between the variants, and pass `--steps FOLDER/steps-GRID.json`;
these are times of the grid's own recipe.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from measuring import conditions, output_folder
from scipy import stats

LEAST_ERROR = 0.05
"""Error in percent that is drawn for 0, which a logarithmic scale cannot show."""
REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Variants of a recipe to train."""

    title: str
    recipe: str
    """Recipe file, from the repository's root."""
    seeds: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    """Options for all runs, such as `epochs: 5`."""
    metrics: list[str] = field(default_factory=lambda: ["accuracy"])
    """Scores of the table, such as box_AP or mIoU; the first one orders and is drawn."""
    variants: dict[str, dict[str, Any]]
    """Options of each variant, by its name in the table."""
    other: Path | None = None
    """Recipe of the same app that replaces the grid's."""

    @classmethod
    def read(cls, path: Path) -> Grid:
        """Return the grid of a YAML file."""
        return cls(**yaml.safe_load(path.read_text(encoding="utf-8")))

    @property
    def config(self) -> Path:
        """The recipe that is trained."""
        return self.other or REPOSITORY / self.recipe

    @property
    def script(self) -> Path:
        """The `train.py` of the recipe's app."""
        return REPOSITORY / Path(self.recipe).parents[3] / "train.py"


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: str
    seed: int
    folder: Path

    @property
    def log(self) -> Path:
        """File with the run's output."""
        return self.folder.with_suffix(".log")

    @property
    def options(self) -> Path:
        """File with the run's recipe and options."""
        return self.folder.with_suffix(".json")

    @property
    def cpu_seconds(self) -> Path:
        """File with the processor time of each of its processes, all of it: start, data, evaluations and report."""
        return self.folder.with_suffix(".cpu")

    @property
    def results(self) -> dict[str, Any] | None:
        """The results of a finished run, or None."""
        path = self.folder / "results.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The record of each epoch."""
        lines = (self.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--seeds", type=int, help="number of seeds instead of the grid's")
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"), help="folder of the runs")
    parser.add_argument("--output", type=output_folder, default="runs/compare", help="folder of table and plot")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; they share the processor's cores")
    parser.add_argument("--recipe", type=Path, help="recipe file instead of the grid's and its options for all runs")
    parser.add_argument("--steps", type=Path, help="output of steps.py, to take times from instead of the runs")
    options = parser.parse_args()
    grid = Grid.read(options.grid)
    grid = replace(grid, seeds=options.seeds or grid.seeds)
    name = options.grid.stem
    if options.recipe:
        if not options.recipe.is_file():
            parser.error(f"there is no recipe {options.recipe}")
        name += f"-{options.recipe.stem}"
        grid = replace(grid, title=f"Variants of {options.grid.stem}.yaml", other=options.recipe, options={})
    folder = options.runs / name
    if len({_slug(variant) for variant in grid.variants}) < len(grid.variants):
        parser.error("the names of two variants differ in signs alone; their runs would share a folder")
    if options.recipe and options.steps:
        parser.error("--steps has the times of the grid's own recipe; leave out one of --recipe and --steps")
    step_ms = json.loads(options.steps.read_text(encoding="utf-8"))["step_ms"] if options.steps else None
    if step_ms is not None and (missing := sorted(grid.variants.keys() - step_ms.keys())):
        parser.error(f"{options.steps} has no time of {', '.join(missing)}; write it with steps.py {options.grid}")
    # By seed first: a slow phase of the machine then affects all variants alike.
    runs = [
        Run(variant, seed, folder / _slug(variant) / f"seed-{seed}")
        for seed in range(grid.seeds)
        for variant in grid.variants
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        codes = list(pool.map(lambda run: train(grid, run, max((os.cpu_count() or 1) // options.jobs, 1)), runs))
    failed = [str(run.log) for run, code in zip(runs, codes, strict=True) if code]
    if failed:
        sys.exit(f"some runs did not end well; see {', '.join(failed)}")
    rows = {
        variant: summary([run for run in runs if run.variant == variant], grid.metrics) for variant in grid.variants
    }
    if step_ms is not None:
        rows = timed(rows, grid.seeds, step_ms)
    device = (runs[0].results or {})["environment"]["device"].split(":")[0]
    report = {"title": grid.title, "conditions": conditions(device) | {"jobs": options.jobs}, "variants": rows}
    path = options.output / f"compare-{name}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(grid, rows), encoding="utf-8")
    plot(grid, rows, path.with_suffix(".png"))
    print(table(grid, rows))


def train(grid: Grid, run: Run, threads: int) -> int:
    """Train a run, or resume it, and return the exit code."""
    options = grid.options | grid.variants[run.variant] | {"seed": run.seed, "output_dir": str(run.folder)}
    recipe = yaml.safe_load(grid.config.read_text(encoding="utf-8"))
    asked = json.dumps({"recipe": recipe, "options": options}, indent=1)
    if run.options.is_file() and run.options.read_text(encoding="utf-8") != asked:
        print(
            f"{run.folder} was started with another recipe or other options, in {run.options}; remove it, or choose "
            "another --runs"
        )
        return 2
    if run.results:
        return 0
    command = [sys.executable, str(grid.script), "--config", str(grid.config)]
    command += as_arguments(options)
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    run.options.write_text(asked, encoding="utf-8")
    with run.log.open("a", encoding="utf-8") as log:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603
        _, status, usage = os.wait4(process.pid, 0)
        code = process.returncode = os.waitstatus_to_exitcode(status)
    # A resumed run adds to what it took before. Unlike the time on a clock, it does not count what ran beside it.
    with run.cpu_seconds.open("a", encoding="utf-8") as times:
        times.write(f"{usage.ru_utime + usage.ru_stime:.1f}\n")
    print(f"{run.variant}, seed {run.seed}: {'done' if not code else f'ended with code {code}'}", flush=True)
    return code


def as_arguments(options: dict[str, Any]) -> list[str]:
    """Return options as arguments of a `train.py`."""
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items()]


def summary(runs: list[Run], metrics: list[str]) -> dict[str, Any]:
    """Return a row of the table for a variant's runs."""
    results = [run.results or {} for run in runs]
    epochs = [epoch for run in runs for epoch in run.epochs]
    return {
        "scores": {metric: _score([100 * result[_split(result)][metric] for result in results]) for metric in metrics},
        "parameters": results[0]["parameters"],
        "epochs": len(runs[0].epochs),
        "validation": _validation([run.epochs for run in runs], metrics[0]),
        "cpu_seconds": _cpu_seconds(runs),
        "seconds_per_epoch": round(statistics.median(epoch["speed"]["seconds"] for epoch in epochs), 3),
        "samples_per_second": round(statistics.median(epoch["speed"]["samples_per_second"] for epoch in epochs), 1),
        "peak_memory_gb": round(max(epoch["speed"]["peak_memory_gb"] for epoch in epochs), 2),
        "grad_norm_max": round(max(result["stability"]["grad_norm_max"] for result in results), 3),
        "loss_spikes": sum(result["stability"]["loss_spikes"] for result in results),
        "steps": sum(result["stability"]["steps"] for result in results),
    }


def _score(values: list[float]) -> dict[str, Any]:
    """Return the mean of a score in percent, half of its 95 % confidence interval, and the score of each seed."""
    half = None
    if len(values) > 1:
        # Student's t: with 3 seeds the normal distribution's interval would be less than half as wide.
        half = float(stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values)))
    return {
        "mean": round(statistics.mean(values), 3),
        "interval": None if half is None else round(half, 3),
        "seeds": [round(value, 3) for value in values],
    }


def _cpu_seconds(runs: list[Run]) -> int | None:
    """Return the mean processor time of a run; None if one was made before this was measured."""
    if not all(run.cpu_seconds.is_file() for run in runs):
        return None
    return round(statistics.mean(sum(map(float, run.cpu_seconds.read_text("utf-8").split())) for run in runs))


def timed(rows: dict[str, dict[str, Any]], seeds: int, step_ms: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Return the rows with an epoch's time computed from steps that were timed alternately."""
    new = {}
    for name, row in rows.items():
        seconds = row["steps"] / (row["epochs"] * seeds) * step_ms[name] / 1e3
        speed = row["samples_per_second"] * row["seconds_per_epoch"] / seconds
        new[name] = row | {"seconds_per_epoch": round(seconds, 3), "samples_per_second": round(speed, 1)}
    return new


def _validation(runs: list[list[dict[str, Any]]], metric: str) -> dict[int, float]:
    """Return the mean score after each epoch that ended with an evaluation on the validation set."""
    epochs = [epochs for epochs in zip(*runs, strict=False) if all("val" in epoch for epoch in epochs)]
    return {same[0]["epoch"]: round(100 * statistics.mean(e["val"][metric] for e in same), 3) for same in epochs}


def table(grid: Grid, rows: dict[str, dict[str, Any]]) -> str:
    """Return the table as Markdown, the best first."""
    columns = ["variant", *(metric.replace("_", " ") for metric in grid.metrics), "parameters", "epochs", "CPU time"]
    columns += ["s per epoch", "training time", "samples/s", "memory", "largest grad norm", "loss spikes"]
    lines = [
        f"{grid.title} ({grid.other or grid.recipe}, {grid.seeds} seed(s))",
        "",
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
    ]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["scores"][grid.metrics[0]]["mean"]):
        scores = [
            f"{score['mean']:.2f} %" + ("" if score["interval"] is None else f" ± {score['interval']:.2f}")
            for score in row["scores"].values()
        ]
        seconds = row["seconds_per_epoch"]
        lines.append(
            f"| {name} | {' | '.join(scores)} | {row['parameters'] / 1e6:.2f} M | {row['epochs']} | "
            f"{row['cpu_seconds'] or '?'} s | {seconds:.1f} | "
            f"{row['epochs'] * seconds / 60:.1f} min | {row['samples_per_second']:.0f} | "
            f"{row['peak_memory_gb']:.2f} GB | {row['grad_norm_max']:.1f} | {row['loss_spikes']} of "
            f"{row['steps']} steps |"
        )
    return "\n".join(lines) + "\n"


def plot(grid: Grid, rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the error over training time, on a logarithmic scale, so that variants near the best are distinguishable."""
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(8, 4.5 + 0.1 * len(rows)), layout="constrained")
        metric = grid.metrics[0].replace("_", " ")
        error_name = "error" if metric == "accuracy" else f"100 - {metric}"
        label = f"{error_name}, %: lines on validation, points on test"
        axes = figure.add_subplot(xlabel="training time, minutes", ylabel=label, title=grid.title)
        for number, (name, row) in enumerate(rows.items()):
            minutes = {epoch: epoch * row["seconds_per_epoch"] / 60 for epoch in [*row["validation"], row["epochs"]]}
            score = row["scores"][grid.metrics[0]]
            error, half = max(100 - score["mean"], LEAST_ERROR), score["interval"] or 0
            bar = [[min(half, error - LEAST_ERROR)], [half]]
            color = f"C{number % 10}"
            axes.errorbar(minutes[row["epochs"]], error, yerr=bar, fmt="o", capsize=3, color=color, label=name)
            if len(row["validation"]) > 1:
                errors = [max(100 - score, LEAST_ERROR) for score in row["validation"].values()]
                axes.plot([minutes[epoch] for epoch in row["validation"]], errors, color=color, linewidth=1)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        lowest, highest = axes.get_ylim()  # over several decades, numbers between their powers would not fit
        axes.yaxis.set_minor_formatter("{x:g}" if highest < 10 * lowest else NullFormatter())
        axes.grid(alpha=0.3, which="both")
        figure.legend(loc="outside lower center", ncols=2)
        figure.savefig(path, dpi=150)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).strip("-").lower()


def _split(results: dict[str, Any]) -> str:
    return "test" if results["test"] else "val"


if __name__ == "__main__":
    main()
