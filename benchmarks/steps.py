"""Time training steps of a grid's variants alternately: `python benchmarks/steps.py GRID.yaml`.

`compare.py` trains the variants one after another, so that other programs may affect one of them only; here they affect
all alike. A step is that of the variant's recipe, forward, backward and optimizer, in the recipe's precision, on one
batch in memory. The default is one thread, like a run of `compare.py --jobs 2` on two cores; see `--threads`.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from compare import Grid, as_arguments
from measuring import conditions, interleaved, output_folder

from eyetoy_train.data.loading import SeededDataset
from eyetoy_train.optim.build import build_optimizer

APPS = {"image": "eyetoy_image.app", "audio": "eyetoy_audio.app", "video": "eyetoy_video.app"}
"""The module with the app of a recipe, by the app's folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    grid = Grid.read(options.grid)
    steps = {name: step_of(grid, grid.options | changes, options.device) for name, changes in grid.variants.items()}
    times = interleaved(steps, options.rounds, options.device)
    for name, milliseconds in times.items():
        print(f"{name:40s} {milliseconds:8.1f} ms")
    if options.output:
        report = {"title": grid.title, "conditions": conditions(options.device), "step_ms": times}
        path = options.output / f"steps-{options.grid.stem}.json"
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def step_of(grid: Grid, options: dict[str, Any], device: str) -> Callable[[], object]:
    """Return a call of a training step of a grid's recipe with `options`."""
    app = importlib.import_module(APPS[grid.script.parent.name]).APP
    task, recipe = app.parse_args(["--config", str(grid.config), *as_arguments(options)])
    task.prepare()
    dataset = SeededDataset(task.dataset("train"), recipe.seed)
    # An index of `SeededDataset` is (epoch, sample, repetition).
    batch = dataset.collate([dataset[0, index, 0] for index in range(recipe.batch_size)])
    batch = send_to_device(batch, torch.device(device))
    model = task.build_model().to(device).train()
    optimizer = build_optimizer(model, recipe)
    autocast = torch.autocast(device, torch.bfloat16, enabled=recipe.mixed_precision == "bf16")

    def step() -> None:
        optimizer.zero_grad()
        with autocast:
            loss = task.loss(model, batch)
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
