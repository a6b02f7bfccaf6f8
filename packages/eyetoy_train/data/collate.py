"""Batches on their way from loading workers, through shared memory, of which a machine may have little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

from eyetoy_train.types import Batch

NO_ROOM = (
    "a loading worker has no room for a batch in shared memory, which is /dev/shm on Linux: {error}. Give the machine "
    "more of it, as by `docker run --shm-size=8g`, or take a smaller batch_size or fewer num_workers"
)


@dataclass(frozen=True)
class SharedCollate:
    """Makes a batch by `collate` and, in a loading worker, moves it to shared memory.

    PyTorch would move it later, in a thread that loses the batch if there is no room: the run would wait for ever.
    """

    collate: Callable[[list[Batch]], Batch]

    def __call__(self, samples: list[Batch]) -> Batch:
        """Return the batch.

        Raises:
            RuntimeError: there is no room for it; the message says how to get more.
        """
        if get_worker_info() is None:
            return self.collate(samples)
        try:
            batch = self.collate(samples)
            _share(batch)
        except RuntimeError as error:
            if "</torch_" not in str(error):  # the name of a piece of shared memory
                raise
            raise RuntimeError(NO_ROOM.format(error=error)) from error
        return batch


def _share(value: Any) -> None:
    if isinstance(value, Tensor):
        share: Callable[[], object] = value.share_memory_
        share()
    elif isinstance(value, dict):
        _share(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            _share(item)
