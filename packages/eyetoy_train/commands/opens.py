"""The part of an `App` that its commands need, so that their modules need not import it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from eyetoy_train.concerns import Command
from eyetoy_train.models.opened import Checkpoint


class Opens(Protocol):
    """What opens checkpoints: an `App`, or the app of a modality with several tasks."""

    def open(
        self, checkpoint: Path, overrides: Sequence[str] = (), *, command: Command | None = None
    ) -> Checkpoint[Any]:
        """Open a run folder or a checkpoint; see `App.open`."""
