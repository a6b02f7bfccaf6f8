"""Time neighborhood attention by its backends and rivals, interleaved in one run: `python benchmarks/neighborhood.py`.

For each shape: milliseconds of a forward pass, and of forward and backward together, and how many times faster `tiled`
is than a gather; how much of the machine's matrix-product rate the useful arithmetic reaches; and, with `--scaling`,
how time and memory grow with the number of tokens. `--output DIR` keeps it all, with a plot.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eyetoy.neighborhood import available_backends, neighborhood_attention
from eyetoy.neighborhood.window import AxisRule

PROBLEMS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [  # [batch, *grid, heads, head_dim] and window
    ((1, 4096, 4, 32), (13,)),
    ((1, 56, 56, 2, 32), (7, 7)),
    ((8, 16, 16, 4, 32), (7, 7)),
    ((1, 8, 28, 28, 2, 32), (3, 7, 7)),
]
GRIDS: dict[int, tuple[tuple[int, ...], ...]] = {  # about 10^3 to 10^6 tokens
    1: ((1000,), (10_000,), (100_000,), (1_000_000,)),
    2: ((32, 32), (100, 100), (316, 316), (1000, 1000)),
    3: ((10, 10, 10), (22, 22, 22), (46, 46, 46), (100, 100, 100)),
}
WINDOWS = {1: (13,), 2: (7, 7), 3: (3, 5, 5)}
Attend = Callable[..., Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timed calls of each backend (default: 15)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scaling", action="store_true", help="also time 10^3 to 10^6 tokens")
    parser.add_argument("--output", type=Path, help="folder for results as JSON and a plot")
    parser.add_argument("--point", type=int, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure_point(tuple(options.point), options.device)))
        return
    report: dict[str, Any] = {"command": " ".join(sys.argv), "date": datetime.date.today().isoformat()}
    report |= hardware(options.device) | {"matrix_product_gflops": matrix_product_rate(options.device)}
    report["rows"] = []
    for shape, window in PROBLEMS:
        for dtype in (torch.float32, torch.bfloat16):
            report["rows"].append(measure(shape, window, dtype, options.rounds, options.device))
            print_row(report["rows"][-1], report["matrix_product_gflops"])
    if options.scaling:
        report["scaling"] = {dim: scaling(dim, options.device) for dim in GRIDS}
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "neighborhood.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        if options.scaling:
            plot(report["scaling"], options.output / "neighborhood.png")


def rivals(shape: tuple[int, ...], window: tuple[int, ...], dtype: torch.dtype, device: str) -> dict[str, Attend]:
    """Return what can be timed on this device, "gather" being the reference backend; only some of it trains."""
    reasons = available_backends(device, dtype, head_dim=shape[-1])

    def by(backend: str) -> Attend:
        return lambda q, k, v: neighborhood_attention(q, k, v, window=window, backend=backend)

    names = {"tiled": "tiled", "gather": "reference", "flex": "flex", "natten": "natten"}
    found = {name: by(backend) for name, backend in names.items() if reasons[backend] is None}
    return found | {"dense": dense(shape[1:-2], window, device)}


def dense(grid: tuple[int, ...], window: tuple[int, ...], device: str) -> Attend:
    """Attention among all tokens under a mask."""
    mask = torch.ones(1, 1, dtype=torch.bool)
    for length, width in zip(grid, window, strict=True):
        first, past = map(torch.from_numpy, AxisRule(length=length, window=width).bounds())
        place = torch.arange(length)
        mask = torch.kron(mask, (place >= first[:, None]) & (place < past[:, None]))
    mask = mask.to(device)

    def attend(*tokens: Tensor) -> Tensor:
        q, k, v = (x.flatten(1, -3).transpose(1, 2) for x in tokens)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(tokens[0].shape)

    return attend


def measure(
    shape: tuple[int, ...], window: tuple[int, ...], dtype: torch.dtype, rounds: int, device: str
) -> dict[str, Any]:
    tokens = [torch.randn(shape, device=device, dtype=dtype) for _ in range(3)]
    leaves = [x.clone().requires_grad_() for x in tokens]
    gradient = torch.randn(shape, device=device, dtype=dtype)
    found = rivals(shape, window, dtype, device)
    trains = {name: attend for name, attend in found.items() if device != "cpu" or name not in ("flex", "natten")}
    flops = 4 * math.prod(shape[:-1]) * shape[-1] * math.prod(window)
    return {
        "shape": shape,
        "window": window,
        "dtype": str(dtype).removeprefix("torch."),
        "useful_gflop": {"forward": flops / 1e9, "forward_backward": 3 * flops / 1e9},
        "forward_ms": interleaved({k: lambda a=a: a(*tokens) for k, a in found.items()}, rounds, device),
        "forward_backward_ms": interleaved(
            {k: lambda a=a: torch.autograd.grad(a(*leaves), leaves, gradient) for k, a in trains.items()},
            rounds,
            device,
        ),
    }


def interleaved(calls: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """Return the median time of each call; they take turns, so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            if name == "tiled" or turn < max(rounds // 3, 2):  # the slow ones less often
                started = time.perf_counter()
                call()
                if device != "cpu":
                    torch.accelerator.synchronize()
                if turn:  # the first one warms up
                    times[name].append(1e3 * (time.perf_counter() - started))
    return {name: round(statistics.median(measured), 3) for name, measured in times.items()}


def matrix_product_rate(device: str) -> float:
    """Return GFLOP/s of a large float32 matrix product."""
    a = torch.randn(1024, 1024, device=device)
    return round(2 * 1024**3 / interleaved({"tiled": lambda: a @ a}, 20, device)["tiled"] / 1e6, 1)


def print_row(row: dict[str, Any], rate: float) -> None:
    print(f"\n{row['shape']} window {row['window']} {row['dtype']}")
    for name in ("forward", "forward_backward"):
        times = row[f"{name}_ms"]
        reached = row["useful_gflop"][name] / times["tiled"] * 1e3
        line = "  ".join(f"{backend} {milliseconds:.2f}" for backend, milliseconds in times.items())
        ratio = times["gather"] / times["tiled"]
        print(
            f"  {name:17} {line}   gather/tiled {ratio:.1f}, {reached / rate:.0%} of the matrix-product rate",
            flush=True,
        )


def scaling(dim: int, device: str) -> dict[str, Any]:
    """Time each grid in a process of its own, whose peak memory is that of the call, and fit exponents."""
    points = []
    for grid in GRIDS[dim]:
        command = [sys.executable, __file__, "--device", device, "--point", *map(str, grid)]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this very script
        points.append(json.loads(ended.stdout))
    exponents = {}
    for name in ("seconds", "bytes"):
        logs = np.log([[point["tokens"], point[name]] for point in points]).T
        exponents[name] = round(float(np.polyfit(*logs, 1)[0]), 3)
    print(f"\n{dim}-D window {WINDOWS[dim]}: exponents {exponents}")
    for point in points:
        print(f"  {point['tokens']:9,} tokens {point['seconds']:9.4f} s {point['bytes'] / 2**20:9.1f} MiB", flush=True)
    return {"window": WINDOWS[dim], "points": points, "exponents": exponents}


def measure_point(grid: tuple[int, ...], device: str) -> dict[str, Any]:
    """Time forward and backward of `tiled` on one grid, 2 heads of 32, and how much memory they add."""
    leaves = [torch.randn(1, *grid, 2, 32, device=device, requires_grad=True) for _ in range(3)]
    gradient = torch.randn_like(leaves[0])

    def call() -> None:
        out = neighborhood_attention(*leaves, window=WINDOWS[len(grid)], backend="tiled")
        torch.autograd.grad(out, leaves, gradient)

    added = added_bytes(call, device)
    seconds = interleaved({"tiled": call}, 5, device)["tiled"] / 1e3
    return {"tokens": math.prod(grid), "seconds": seconds, "bytes": max(added, 1)}


def added_bytes(call: Callable[[], None], device: str) -> int:
    """Return by how much a call raises the peak memory of this process above what it held before; Linux or CUDA."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak so far
    before = _status_bytes("VmRSS")
    call()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def plot(scales: dict[int, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, unit in ((axes[0], "seconds", 1), (axes[1], "bytes", 2**20)):
        for dim, scale in scales.items():
            tokens, values = zip(*((point["tokens"], point[key] / unit) for point in scale["points"]), strict=True)
            label = f"{dim}-D, window {'x'.join(map(str, scale['window']))}: exponent {scale['exponents'][key]:.2f}"
            axis.loglog(tokens, values, marker="o", label=label)
        axis.set(xlabel="tokens", ylabel={"seconds": "seconds, forward and backward", "bytes": "MiB added"}[key])
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=130)


def hardware(device: str) -> dict[str, object]:
    model = next((line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")), "unknown")
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else f"{model}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
