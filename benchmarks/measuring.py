"""What the benchmarks share: times of calls that take turns, memory that a call adds, and the machine's description."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch


def interleaved(
    calls: dict[str, Callable[[], object]],
    rounds: int,
    device: str,
    *,
    often: str | None = None,
    seconds: float | None = None,
) -> dict[str, float]:
    """Return the median milliseconds of each call; they take turns, so that a busy machine slows all alike.

    With `often`, calls whose names start so are timed in every round and the others in every third one. With `seconds`
    no round begins after so long, except for the first three.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for turn in range(rounds + 1):
        if seconds is not None and turn > 3 and time.perf_counter() - began > seconds:
            break
        for name, call in calls.items():
            if often is None or name.startswith(often) or turn % 3 == 0:
                started = time.perf_counter()
                call()
                if device != "cpu":
                    torch.accelerator.synchronize()
                if turn:  # the first one warms up
                    times[name].append(1e3 * (time.perf_counter() - started))
    return {name: round(statistics.median(measured), 3) for name, measured in times.items()}


def added_bytes(call: Callable[[], object], device: str) -> int:
    """Return by how much a call raises the peak memory of this process above what it held before; Linux or CUDA."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far
    before = _status_bytes("VmRSS")
    call()
    return max(_status_bytes("VmHWM") - before, 1)


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def memory_bytes(device: str) -> int:
    """Return the memory of the device."""
    if device == "cuda":
        return torch.cuda.get_device_properties().total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def matrix_product_rate(device: str) -> float:
    """Return GFLOP/s of a large float32 matrix product."""
    a = torch.randn(1024, 1024, device=device)
    return round(2 * 1024**3 / interleaved({"product": lambda: a @ a}, 20, device)["product"] / 1e6, 1)


def conditions(device: str) -> dict[str, object]:
    """Describe the run: command, date, hardware and versions."""
    model = next((line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), "unknown")
    return {
        "command": " ".join(["python", *sys.argv]),
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{model}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **{name: version(name) for name in ("natten", "natten-mps", "timm") if find_spec(name.replace("-", "_"))},
        "python": platform.python_version(),
        "matrix_product_gflops": matrix_product_rate(device),
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
