"""Helpers for benchmarks: interleaved timing, memory added by a call, and a description of the machine."""

from __future__ import annotations

import argparse
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


def output_folder(path: str) -> Path:
    """Return the folder of `--output`, which is made before anything is measured and lost for want of it."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot make the folder {path}: {error.strerror}") from error
    return folder


def interleaved(
    calls: dict[str, Callable[[], object]],
    rounds: int,
    device: str,
    *,
    often: str | None = None,
    seconds: float | None = None,
) -> dict[str, float]:
    """Return the median milliseconds of each call, timed alternately, so that a busy machine affects all alike.

    Args:
        calls: the calls by name.
        rounds: number of timed rounds.
        device: cpu, cuda or mps.
        often: prefix of the names to time in every round; the others are timed in every third one. All by default.
        seconds: no round starts later than this, except for the first three.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for number in range(rounds + 1):
        if seconds is not None and number > 3 and time.perf_counter() - began > seconds:
            break
        for name, call in calls.items():
            if often is None or name.startswith(often) or number % 3 == 0:
                started = time.perf_counter()
                call()
                if device != "cpu":
                    torch.accelerator.synchronize()  # calls return before an accelerator is done
                if number:  # the first round warms up
                    times[name].append(1e3 * (time.perf_counter() - started))
    return {name: round(statistics.median(measured), 3) for name, measured in times.items()}


def added_bytes(call: Callable[[], object], device: str) -> int:
    """Return the peak memory of this process during a call, above its memory before; Linux or CUDA."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets VmHWM, the peak so far
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
