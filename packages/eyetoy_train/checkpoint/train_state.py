"""How far a run has come."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from eyetoy_train.engine.step_recorder import EpochRecord


@dataclass
class Progress:
    """How far a run has come: all of its state that is no tensor."""

    epoch: int = 0
    """Completed epochs."""
    step: int = 0
    """Optimizer steps taken."""
    ranking: dict[int, float] = field(default_factory=dict)
    """Validation scores of the best epochs, the best first."""
    last_rise: int = 0
    """The last epoch whose score was above all before it."""
    has_stalled: bool = False
    """Whether the score has not risen for as long as the recipe allows."""
    seconds: float = 0.0
    """Time spent in training and validation."""
    record: EpochRecord = field(default_factory=EpochRecord)
    """Losses of the epoch that is under way."""

    @property
    def best_epoch(self) -> int:
        """The epoch with the best score; 0 if none was scored."""
        return next(iter(self.ranking), 0)

    def rank(self, score: float, keep: int) -> bool:
        """Take the score of the latest epoch into the ranking; return whether it is one of the best `keep`."""
        if not self.ranking or score > self.ranking[self.best_epoch]:
            self.last_rise = self.epoch
        scores = self.ranking | {self.epoch: score}
        # Of equals the later one is better, which has seen more.
        best = sorted(scores, key=lambda epoch: (scores[epoch], epoch), reverse=True)[:keep]
        self.ranking = {epoch: scores[epoch] for epoch in best}
        return self.epoch in self.ranking

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON knows it."""
        ranking = [[epoch, score] for epoch, score in self.ranking.items()]
        return vars(self) | {"ranking": ranking, "record": self.record.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Progress:
        """Undo `to_json`.

        Raises:
            KeyError, TypeError, ValueError: `to_json` has not given this.
        """
        for name in ("epoch", "step", "last_rise"):
            if type(values[name]) is not int or values[name] < 0:
                raise ValueError(f"{name} must be a whole number from 0 on; got {values[name]!r}")
        if not math.isfinite(values["seconds"]):
            raise ValueError(f"seconds must be finite; got {values['seconds']!r}")
        ranking = {int(epoch): float(score) for epoch, score in values["ranking"]}
        return cls(**values | {"ranking": ranking, "record": EpochRecord.from_json(values["record"])})
