"""What a run ran on, for its results."""

from __future__ import annotations

import platform
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
