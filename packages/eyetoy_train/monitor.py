"""What a person at the terminal sees: a bar for each epoch, and a line after it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tqdm import tqdm


class EpochBar:
    """A bar with loss, samples per second and time left; shown on one process, and only on a terminal."""

    def __init__(self, epoch: int, num_epochs: int, num_samples: int, *, visible: bool) -> None:
        self.bar = tqdm(
            total=num_samples,
            desc=f"epoch {epoch}/{num_epochs}",
            unit=" samples",
            unit_scale=True,
            leave=False,
            disable=not (visible and sys.stderr.isatty()),
        )

    def update(self, num_samples: int, loss: Callable[[], float]) -> None:
        """Advance by `num_samples`; `loss` is asked for only where the bar is drawn."""
        if self.bar.update(num_samples):
            self.bar.set_postfix(loss=f"{loss():.4f}", refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()


def say(line: str) -> None:
    """Print a line without breaking a bar."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()
