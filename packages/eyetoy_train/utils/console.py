"""Output on the terminal: a bar during an epoch, a line after it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TextIO, TypeVar

from tqdm import tqdm

from eyetoy_train.utils.text import shown, shown_lines

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class EpochBar:
    """A bar with loss, samples per second, time left and the share of time spent waiting for data.

    Shown on a terminal only: in a log, the line after each epoch is enough.

    Args:
        epoch: counted from 1.
        num_epochs: of the run.
        num_samples: of the epoch.
        initial: samples that were seen before the run was interrupted.
        visible: false on all processes but one.
    """

    def __init__(self, epoch: int, num_epochs: int, num_samples: int, *, initial: int, visible: bool) -> None:
        self.bar = tqdm(
            total=num_samples,
            initial=initial,
            desc=f"epoch {epoch}/{num_epochs}",
            unit=" samples",
            unit_scale=True,
            leave=False,
            disable=not (visible and sys.stderr.isatty()),
        )

    def update(self, num_samples: int, values: Callable[[], dict[str, str]]) -> None:
        """Advance by `num_samples`; `values` is called only when the bar is drawn."""
        if self.bar.update(num_samples):
            self.bar.set_postfix(values(), refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()


class Timed(Generic[T], Iterator[T]):
    """An iterator that adds up the time spent waiting for its items, in `seconds`."""

    def __init__(self, items: Iterator[T]) -> None:
        self.items = items
        self.seconds = 0.0

    def __next__(self) -> T:
        started = time.perf_counter()
        try:
            return next(self.items)
        finally:
            self.seconds += time.perf_counter() - started


def peak_memory_bytes(device: torch.device) -> int | None:
    """Return the peak memory of this process, on its GPU if it has one; None where the system does not tell."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ModuleNotFoundError:  # Windows has none
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def duration(seconds: float) -> str:
    """Return a duration such as `1 h 5 min`, `2 min 3 s` or `4.5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def score_text(name: str, value: float) -> str:
    """Return a score as text: a share in percent, a loss or any other number as it is."""
    return f"{value:.2%}" if "loss" not in name and 0 <= value <= 1 else f"{value:.4g}"


def named(names: Sequence[str], most: int = 10) -> str:
    """Return names in a line, `a, b and 3 more`, as `shown` shows them."""
    return ", ".join(map(shown, names[:most])) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def log(line: str, *, file: TextIO | None = None) -> None:
    """Print a line without breaking a bar, on stdout or another stream, with names as `shown_lines` shows them."""
    file = file or sys.stdout  # looked up now: tests and notebooks replace it
    tqdm.write(shown_lines(line, file.encoding), file=file)
    file.flush()
