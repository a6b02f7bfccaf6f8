"""A toy task for the engine, to classify rising and falling sequences, as a module and as a script to launch.

`python toy.py '{"output_dir": "run", "epochs": 2}'` trains it; `--kill NUMBER` does so in processes that are killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import DistributedType
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eyetoy_train import (
    CheckpointRecipe,
    ClassificationRecipe,
    ClassificationTask,
    EmaRecipe,
    ModelRecipe,
    SampleStream,
    train,
)
from eyetoy_train.data.source import ClassificationSource

MODEL = {"name": "eyetoy1d_pico", "stem_strides": [8], "drop_path": 0.1, "dropout": 0.1}


class SlopeSource(ClassificationSource):
    classes = ("falling", "rising", "flat")

    def __init__(self, sizes):
        self.sizes = sizes

    def split(self, split):
        return [((split, i), i % 3) for i in range(self.sizes[split])]


class Slopes(ClassificationTask):
    source_class = SlopeSource
    sizes = {"train": 40, "val": 11, "test": 13}

    def __init__(self, recipe):
        super().__init__(recipe, self.source_class(self.sizes))

    def load_sample(self, source, *, training):
        split, index = source
        generator = torch.Generator().manual_seed(index + 1000 * len(split))
        slope = (index % 3 + 1) % 3 - 1
        return slope * torch.linspace(-1, 1, 64)[None] + 0.3 * torch.randn(1, 64, generator=generator)

    def example(self, raw, *, training):
        return {"input": raw + 0.1 * torch.randn_like(raw) if training else raw}

    def plot(self, axes, x):
        axes.plot(x[0])

    def write_samples(self, model, split, path, *, count=6):
        return super().write_samples(model, split, path, count=count)


class SlopeStream(SampleStream):
    """The training set in four shards of unequal size."""

    shuffle_buffer = 7
    num_shards = 4

    def __init__(self, task: Slopes) -> None:
        self.task = task

    def read(self, shard):
        return iter([("train", i) for i in range(40) if i % 7 % 4 == shard])

    def decode(self, raw):
        return self.task.example(self.task.load_sample(raw, training=True), training=True) | {"label": raw[1] % 3}


class Streamed(Slopes):
    """The toy task with a stream to train on."""

    def dataset(self, split):
        return SlopeStream(self) if split == "train" else super().dataset(split)


class Normed(Slopes):
    """The toy task with a model whose batch norm collects statistics of frozen features in each process."""

    def build_model(self):
        return nn.Sequential(
            nn.Conv1d(1, 8, 9).requires_grad_(False),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(4),
            nn.Flatten(),
            nn.Linear(32, 3),
        )

    def save(self, model, folder):
        save_file(model.state_dict(), folder / "model.safetensors")

    def load(self, folder):
        model = self.build_model()
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model


class Sparse(Slopes):
    """The toy task with a loss over the samples that are not flat: some micro batches have more of them than others."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        total = F.cross_entropy(model(batch["input"]), batch["label"], ignore_index=2, reduction="sum")
        return total / max(self.num_averaged(batch), 1)

    def num_averaged(self, batch: dict[str, Tensor]) -> int:
        return int((batch["label"] != 2).sum())


class Interrupted(BaseException):
    """A kill, simulated by an exception."""


class Killed(Slopes):
    """The toy task in a process that dies after some micro batches."""

    micro_batches_left = 7

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        if not self.micro_batches_left:
            raise Interrupted
        self.micro_batches_left -= 1
        return super().loss(model, batch)


class Slow(Slopes):
    """The toy task with steps long enough to be interrupted."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        time.sleep(0.05)
        return super().loss(model, batch)


class Failing(Slopes):
    """The toy task with an unreadable sample in the validation set."""

    def load_sample(self, source, *, training):
        if source == ("val", 9):
            raise ValueError("cannot read val 9")
        return super().load_sample(source, training=training)


TASKS = {"failing": Failing, "normed": Normed, "slopes": Slopes, "sparse": Sparse, "streamed": Streamed, "slow": Slow}


def build_recipe(**changes: Any) -> ClassificationRecipe:
    values = {"name": "toy", "epochs": 4, "batch_size": 8, "warmup_epochs": 1, "lr": 3e-3, "model": MODEL} | changes
    groups = {"model": ModelRecipe, "ema": EmaRecipe, "checkpoints": CheckpointRecipe}
    for key, kind in groups.items():
        if isinstance(values.get(key), dict):
            values[key] = kind(**values[key])
    return ClassificationRecipe(**values)


def shard_on_cpu() -> None:
    """Make Accelerate shard over CPU processes as over GPUs; by default it uses data parallelism on CPUs."""
    start = AcceleratorState.__init__

    def sharding(self, *arguments: Any, **options: Any) -> None:
        plugin = options.get("fsdp_plugin")
        start(self, *arguments, **options)
        if plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.FSDP
            self.fsdp_plugin = plugin

    AcceleratorState.__init__ = sharding


def train_until_done(values: dict[str, Any], task: type[Slopes], kills: int, seed: int) -> dict[str, int]:
    """Train in forked processes; the first `kills` are killed, every second one while it writes a checkpoint."""
    checkpoints = Path(values["output_dir"]) / "checkpoints"
    generator = random.Random(seed)
    found = {"kills": 0, "while_writing": 0}
    while True:
        process = os.fork()
        if not process:
            recipe = build_recipe(**values)
            train(task(recipe), recipe)
            os._exit(0)
        if found["kills"] < kills:
            _wait(checkpoints, generator, for_a_write=bool(found["kills"] % 2))
            found["while_writing"] += any(checkpoints.glob("*.partial"))
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return found
        found["kills"] += 1


def _wait(checkpoints: Path, generator: random.Random, *, for_a_write: bool) -> None:
    """Wait for none, one or two new checkpoints and a little longer, or for the next write to begin."""
    before, news, until = _latest(checkpoints), generator.randrange(3), time.monotonic() + 30
    if not news:
        time.sleep(generator.uniform(0, 0.6))  # the start of a process, too, can be interrupted
    for _ in range(news):
        while _latest(checkpoints) == before and time.monotonic() < until:
            time.sleep(0.001)
        before = _latest(checkpoints)
    time.sleep(generator.uniform(0, 0.06))
    while for_a_write and not any(checkpoints.glob("*.partial")) and time.monotonic() < until:
        time.sleep(0.0002)


def _latest(checkpoints: Path) -> Path | None:
    return max((path for path in checkpoints.glob("step-*") if not path.suffix), default=None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", type=json.loads)
    parser.add_argument("--task", choices=TASKS, default="slopes")
    parser.add_argument("--kill", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard", action="store_true")
    options = parser.parse_args()
    if options.shard:
        shard_on_cpu()
    if options.kill is not None:
        print(json.dumps(train_until_done(options.recipe, TASKS[options.task], options.kill, options.seed)))
        return
    recipe = build_recipe(**options.recipe)
    train(TASKS[options.task](recipe), recipe)


if __name__ == "__main__":
    main()
