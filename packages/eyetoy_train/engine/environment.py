"""What a run ran on, for its results, and how strictly it repeats."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

import torch
from accelerate import Accelerator


def describe_environment(accelerator: Accelerator) -> dict[str, str | int]:
    """Return versions and hardware by name."""
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "eyetoy": metadata.version("eyetoy"),
        "torch": torch.__version__,
        "accelerate": metadata.version("accelerate"),
        "python": platform.python_version(),
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
    }


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Use deterministic algorithms alone for a while, if `enabled`; an operation that has none then raises."""
    if not enabled:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS reads when it is first used
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
