"""Measure the overhead of the engine: the fraction of a training step outside forward, backward and optimizer.

`python benchmarks/engine.py` trains the nano image model on scikit-learn's digits by their recipe, with a batch size of
64, and times every part of every step. `backward` includes the release of its graph, and `optimizer` is its step and
its `zero_grad`. `loading` is reading and stacking samples, or, with `--num_workers`, the wait for worker processes;
`augmentation` changes the batch. `engine` is everything else: seeds, schedules, the gradient's norm, records, trackers,
checks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from measuring import conditions, output_folder

from eyetoy_image.classification import APP
from eyetoy_train import parse_recipe
from eyetoy_train.checkpoint.run_folder import RunFolder
from eyetoy_train.engine.trainer import Trainer
from eyetoy_train.utils.console import Timed
from eyetoy_train.utils.signals import StopSignal

RECIPE = Path(__file__).parents[1] / "apps" / "image" / "src" / "eyetoy_image" / "configs" / "digits.yaml"
WARMUP = 5
PARTS = ("forward", "backward", "optimizer", "loading", "augmentation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="eyetoy2d_nano")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    options = parser.parse_args()
    about = conditions("cpu")
    with tempfile.TemporaryDirectory() as folder:
        times = measure(Path(folder), options)
    steps = times.pop("step")
    medians = {name: statistics.median(values[WARMUP:]) for name, values in times.items()}
    step = statistics.median(steps[WARMUP:])
    fractions = {name: round(value / step, 4) for name, value in medians.items()}
    outside = sum(fractions[name] for name in ("loading", "augmentation", "engine"))
    print(f"{options.model}: a step takes {1e3 * step:.1f} ms in the median of {len(steps) - WARMUP}")
    for name, value in medians.items():
        print(f"{name:10s} {1e3 * value:8.3f} ms  {fractions[name]:7.2%}")
    print(f"all that is not forward, backward or optimizer: {outside:.2%}")
    if options.output:
        report = {"conditions": about, "model": options.model, "step_ms": round(1e3 * step, 3), "shares": fractions}
        path = options.output / f"engine-{options.num_workers}-workers.json"
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of every step, and of its parts."""
    arguments = ["--data.root", str(folder / "digits"), "--model.name", options.model, "--batch_size", "64"]
    arguments += ["--max_steps", str(options.steps), "--num_workers", str(options.num_workers), "--epochs", "1000"]
    recipe = parse_recipe(APP.recipe, RECIPE, arguments)
    task = APP.task(recipe)
    task.prepare()
    accelerator = Accelerator(log_with="tensorboard", project_dir=folder)
    times: dict[str, list[float]] = {name: [] for name in ("step", *PARTS, "engine")}
    with StopSignal(accelerator) as stop:
        trainer = Trainer(task, recipe, run=RunFolder(folder / "run"), accelerator=accelerator, stop=stop)
        accelerator.init_trackers("engine")
        task.augment = timed(task.augment, times["augmentation"])
        task.loss = timed(task.loss, times["forward"])
        # Methods of the trainer and its parts are wrapped, so that the engine itself needs no code for measuring.
        ends: list[float] = []
        accelerator.backward = ending(timed(accelerator.backward, times["backward"]), ends)
        trainer._gradient_norm = releasing(trainer._gradient_norm, times["backward"], ends)
        trainer.optimizer.step = timed(trainer.optimizer.step, times["optimizer"])
        trainer.optimizer.zero_grad = timed(trainer.optimizer.zero_grad, times["optimizer"], add=True)
        train_step = divided(trainer.train_step, times)
        trainer.model.train()
        for batches in epochs(trainer, options.steps):
            train_step(batches)
    return times


def epochs(trainer: Trainer, num_steps: int) -> Iterator[Timed[Any]]:
    """Yield the batches of an epoch once for each of its steps, epoch after epoch."""
    steps_per_epoch = trainer.lengths.steps_per_epoch
    for step in range(num_steps):
        if step % steps_per_epoch == 0:
            batches = Timed(trainer.data.micro_batches(step, skip=0, count=steps_per_epoch))
        yield batches


def timed(call: Callable[..., Any], times: list[float], *, add: bool = False) -> Callable[..., Any]:
    """Return a call that appends its duration to `times`, or adds it to the last one."""

    def wrapped(*arguments: Any, **options: Any) -> Any:
        with noting(times):
            result = call(*arguments, **options)
        if add:
            times.append(times.pop() + times.pop())
        return result

    return wrapped


def ending(call: Callable[..., Any], ends: list[float]) -> Callable[..., Any]:
    """Return a call that appends the time of its end to `ends`."""

    def wrapped(*arguments: Any) -> None:
        call(*arguments)
        ends.append(time.perf_counter())

    return wrapped


def releasing(call: Callable[..., Any], backward: list[float], ends: list[float]) -> Callable[..., Any]:
    """Return a call that adds the time since the end of the backward pass to it: the graph is released in between."""

    def wrapped(*arguments: Any) -> Any:
        backward[-1] += time.perf_counter() - ends.pop()
        return call(*arguments)

    return wrapped


def divided(step: Callable[..., None], times: dict[str, list[float]]) -> Callable[..., None]:
    """Return a step that appends its duration, and the rest of it without its parts, to `times`."""

    def wrapped(batches: Any) -> None:
        waited = batches.seconds
        with noting(times["step"]):
            step(batches)
        times["loading"].append(batches.seconds - waited)
        times["forward"][-1] -= times["augmentation"][-1]  # `loss` augments the batch before the forward pass
        parts = sum(times[name][-1] for name in PARTS)
        times["engine"].append(times["step"][-1] - parts)

    return wrapped


@contextmanager
def noting(times: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times.append(time.perf_counter() - started)


if __name__ == "__main__":
    main()
