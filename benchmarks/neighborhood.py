"""Time neighborhood attention by its backends, interleaved in one run: `python benchmarks/neighborhood.py`.

Prints the median milliseconds of a forward pass, and of forward and backward together, for each shape and backend, and
how many times faster `tiled` is than `reference`. `--output FILE` also writes them as JSON, with what they ran on.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from eyetoy.neighborhood import BACKENDS, neighborhood_attention

PROBLEMS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1, 4096, 4, 32), (13,)),
    ((1, 56, 56, 2, 32), (7, 7)),
    ((8, 16, 16, 4, 32), (7, 7)),
    ((1, 8, 28, 28, 2, 32), (3, 7, 7)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each backend (default: 7)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = [measure(shape, window, options.rounds, torch.device(options.device)) for shape, window in PROBLEMS]
    print_table(rows)
    if options.output:
        report = {"date": datetime.date.today().isoformat(), "hardware": hardware(options.device), "rows": rows}
        options.output.write_text(json.dumps(report, indent=2), encoding="utf-8")


def measure(shape: tuple[int, ...], window: tuple[int, ...], rounds: int, device: torch.device) -> dict[str, object]:
    tensors = [torch.randn(shape, device=device, requires_grad=True) for _ in range(3)]
    gradient = torch.randn(shape, device=device)

    def forward(backend: str) -> Tensor:
        return neighborhood_attention(*tensors, window=window, backend=backend)

    def forward_only(backend: str) -> None:
        with torch.no_grad():
            forward(backend)

    def both(backend: str) -> None:
        torch.autograd.grad(forward(backend), tensors, gradient)

    return {
        "shape": shape,
        "window": window,
        "forward_ms": interleaved(forward_only, rounds, device),
        "forward_backward_ms": interleaved(both, rounds, device),
    }


def interleaved(call: Callable[[str], None], rounds: int, device: torch.device) -> dict[str, float]:
    """Return the median time of each backend; they take turns, so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    for turn in range(rounds + 1):
        for backend, measured in times.items():
            started = time.perf_counter()
            call(backend)
            if device.type != "cpu":
                torch.accelerator.synchronize()
            if turn:  # the first one warms up
                measured.append(1e3 * (time.perf_counter() - started))
    return {backend: round(statistics.median(measured), 2) for backend, measured in times.items()}


def print_table(rows: list[dict[str, object]]) -> None:
    print(f"{'shape':28} {'window':10} {'pass':18}" + "".join(f"{name:>12}" for name in BACKENDS) + f"{'ratio':>8}")
    for row in rows:
        for key in ("forward_ms", "forward_backward_ms"):
            times = row[key]
            assert isinstance(times, dict)
            ratio = times["reference"] / times["tiled"]
            columns = "".join(f"{times[name]:12.2f}" for name in BACKENDS)
            print(f"{row['shape']!s:28} {row['window']!s:10} {key[:-3]:18}{columns}{ratio:8.1f}")


def hardware(device: str) -> dict[str, object]:
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
