"""How far a run has come: everything a checkpoint holds besides tensors."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WINDOW = 100
"""How many earlier steps a loss is compared with."""
FEWEST = 20
"""Losses are not called spikes before there are this many to compare with."""
SPIKE = 6.0
"""A loss is a spike if it lies more than this many standard deviations above the mean of the window."""

BY_EPOCH = ("ranking", "losses")
"""Fields of `TrainState` that have a number for each of several epochs."""


@dataclass
class EpochStats:
    """Sums over the optimizer steps of an epoch. The names of the fields are keys in trainer.json."""

    losses: int = 0
    loss_sum: float = 0.0
    norm_sum: float = 0.0
    norm_max: float = 0.0
    spikes: int = 0
    seconds: float = 0.0
    """Duration of the steps, including the wait for data."""
    seconds_waited: float = 0.0
    """Part of it that was spent waiting for data."""
    window: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    """Losses of the latest steps, including those of earlier epochs."""
    parts: dict[str, float] = field(default_factory=dict)
    """Sums of the parts of the loss, by name."""

    def add(self, loss: float, norm: float, parts: Mapping[str, float] | None = None) -> None:
        """Add one step, with the parts of its loss if it has some."""
        if len(self.window) >= FEWEST:
            # fsum rounds once, so the count of spikes does not depend on the order of the window.
            mean = math.fsum(self.window) / len(self.window)
            deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in self.window) / len(self.window))
            self.spikes += loss > mean + SPIKE * deviation
        self.window.append(loss)
        self.losses += 1
        self.loss_sum += loss
        self.norm_sum += norm
        self.norm_max = max(self.norm_max, norm)
        for name, value in (parts or {}).items():
            self.parts[name] = self.parts.get(name, 0.0) + value

    def scores(self) -> dict[str, float]:
        """Return the training scores of a line of metrics.jsonl."""
        count = max(self.losses, 1)
        return {
            "train_loss": self.loss_sum / count,
            "grad_norm": self.norm_sum / count,
            "grad_norm_max": self.norm_max,
            "loss_spikes": self.spikes,
            **{f"train_{name}": total / count for name, total in self.parts.items()},
        }

    def speed(self, batch_size: int) -> dict[str, float]:
        """Return duration, throughput, and the share of time spent waiting for data."""
        seconds = max(self.seconds, 1e-9)
        return {
            "seconds": self.seconds,
            "samples_per_second": self.losses * batch_size / seconds,
            "data_wait": self.seconds_waited / seconds,
        }

    def next_epoch(self) -> EpochStats:
        """Return empty sums for the next epoch. The window goes on, so spikes are found from its first step."""
        return EpochStats(window=self.window)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self) | {"window": list(self.window)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EpochStats:
        """Undo `to_json`."""
        return cls(**values | {"window": deque(values["window"], maxlen=WINDOW)})


@dataclass
class TrainState:
    """How far a run has come. The trainer changes it, and every checkpoint holds a copy."""

    epoch: int = 0
    """Completed epochs."""
    step: int = 0
    """Optimizer steps taken."""
    ranking: dict[int, float] = field(default_factory=dict)
    """Validation scores of the best epochs, the best first."""
    losses: dict[int, float] = field(default_factory=dict)
    """Validation losses of the same epochs, as far as they have one."""
    last_rise: int = 0
    """The latest epoch with a score above all earlier ones."""
    has_stalled: bool = False
    """Whether early stopping has ended the run."""
    seconds: float = 0.0
    """Time spent in training and validation."""
    processes: int = 0
    """Processes that trained last; 0 where the checkpoint does not tell."""
    threads: int = 0
    """Threads of each of them on a CPU; 0 on other devices."""
    stream: list[list[tuple[int, int, int]]] | None = None
    """How far each loading worker of each process has come, if the training set is a stream; see `Progress`."""
    stats: EpochStats = field(default_factory=EpochStats)
    """Sums over the steps of the current epoch; `record` in trainer.json."""

    @property
    def best_epoch(self) -> int:
        """The epoch with the best score; 0 if none was scored."""
        return next(iter(self.ranking), 0)

    def rank(self, score: float, keep: int, loss: float | None = None) -> bool:
        """Add the latest epoch to the ranking; return whether it is among the best `keep`.

        Args:
            score: its validation score; higher is better.
            keep: how many epochs the ranking holds.
            loss: its validation loss, which decides between equal scores: small sets often have some.
        """
        if not self.ranking or score > self.ranking[self.best_epoch]:
            self.last_rise = self.epoch
        scores = self.ranking | {self.epoch: score}
        losses = self.losses if loss is None or math.isnan(loss) else self.losses | {self.epoch: loss}
        # Of equal scores and losses the later epoch wins, because it has seen more data.
        best = sorted(scores, key=lambda epoch: (scores[epoch], -losses.get(epoch, math.inf), epoch), reverse=True)
        self.ranking = {epoch: scores[epoch] for epoch in best[:keep]}
        self.losses = {epoch: losses[epoch] for epoch in self.ranking if epoch in losses}
        return self.epoch in self.ranking

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        values = {name: value for name, value in vars(self).items() if name != "stats"}
        # JSON's keys are strings, so what is kept by epoch is written as lists of pairs.
        pairs = {name: [[*pair] for pair in getattr(self, name).items()] for name in BY_EPOCH}
        return values | pairs | {"record": self.stats.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainState:
        """Undo `to_json`.

        Raises:
            KeyError, TypeError, ValueError: `values` are not from `to_json`.
        """
        for name in ("epoch", "step", "last_rise"):
            if type(values[name]) is not int or values[name] < 0:
                raise ValueError(f"{name} must be a whole number from 0 on; got {values[name]!r}")
        if not math.isfinite(values["seconds"]):
            raise ValueError(f"seconds must be finite; got {values['seconds']!r}")
        others = {name: value for name, value in values.items() if name != "record"}
        # Checkpoints of earlier versions have no losses.
        by_epoch = {
            name: {int(epoch): float(value) for epoch, value in values[name]} for name in BY_EPOCH if name in values
        }
        if "ranking" not in by_epoch:
            raise KeyError("ranking")
        # Checkpoints of earlier versions, and of sets that are no streams, have none.
        others["stream"] = _stream_progress(values.get("stream"))
        return cls(**others | by_epoch | {"stats": EpochStats.from_json(values["record"])})


def _stream_progress(values: Any) -> list[list[tuple[int, int, int]]] | None:
    """Check and return what a checkpoint says of a stream."""
    if values is None:
        return None
    numbers = [number for workers in values for worker in workers for number in worker]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"stream must hold whole numbers from 0 on; got {values!r}")
    return [[(rank, pass_, drawn) for rank, pass_, drawn in workers] for workers in values]
