"""Time neighborhood attention with all backends, interleaved in one run: `python benchmarks/neighborhood.py`.

For each shape: milliseconds of a forward pass, and of forward and backward together, and the speedup of `tiled` over a
gather; the useful arithmetic as a fraction of the machine's matrix-product rate; the memory that a forward and backward
pass adds; and, with `--scaling`, the growth of time and memory with the number of tokens. `--output` writes the results
to a folder, with a plot. Libraries that are not installed are left out: `pip install natten natten-mps`.

`--kernel` instead compares the two paths of `tiled` on one core of a CPU, in about two minutes: the kernel, and one
call of `scaled_dot_product_attention` for all tiles.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measuring import added_bytes, conditions, interleaved, output_folder
from torch import Tensor

from eyetoy.neighborhood import available_backends, neighborhood_attention
from eyetoy.neighborhood.backends.tiled.sdpa import attend_tiles
from eyetoy.neighborhood.problem import check_problem
from eyetoy.neighborhood.window import AxisRule

Shape = tuple[int, ...]
PROBLEMS: list[tuple[Shape, Shape]] = [  # [batch, *grid, heads, head_dim] and window
    ((1, 4096, 4, 32), (13,)),
    ((1, 56, 56, 2, 32), (7, 7)),
    ((8, 16, 16, 4, 32), (7, 7)),
    ((1, 8, 28, 28, 2, 32), (3, 7, 7)),
]
KERNEL_PROBLEMS: list[tuple[Shape, Shape]] = [
    *PROBLEMS,
    ((8, 2000, 2, 16), (31,)),
    ((1, 128, 128, 2, 32), (7, 7)),
    ((2, 8, 14, 14, 4, 32), (3, 5, 5)),
]
GRIDS: dict[int, tuple[Shape, ...]] = {  # about 10^3 to 10^6 tokens
    1: ((1000,), (10_000,), (100_000,), (1_000_000,)),
    2: ((32, 32), (100, 100), (316, 316), (1000, 1000)),
    3: ((10, 10, 10), (22, 22, 22), (46, 46, 46), (100, 100, 100)),
}
WINDOWS = {1: (13,), 2: (7, 7), 3: (3, 5, 5)}
BACKENDS = {"tiled": "tiled", "gather": "reference", "triton": "triton", "flex": "flex", "natten": "natten"}
FORWARD_ONLY = ("flex", "natten")  # on a CPU
MOST_DENSE = 10_000  # tokens up to which a mask among all of them is affordable
Attend = Callable[..., Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timed calls of tiled, a third of others (default: 15)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scaling", action="store_true", help="also time 10^3 to 10^6 tokens")
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON and a plot")
    parser.add_argument("--kernel", action="store_true", help="only compare the CPU kernel with the plain SDPA path")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure_point(**options.point, device=options.device)))
        return
    if options.kernel:
        compare_kernel(options.rounds)
        return
    report: dict[str, Any] = {"conditions": conditions(options.device), "rows": [], "scaling": {}}

    def write() -> None:
        if options.output:
            path = options.output / f"neighborhood-{options.device}.json"
            path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")

    for shape, window in PROBLEMS:
        for dtype in (torch.float32, torch.bfloat16):
            report["rows"].append(measure(shape, window, dtype, options.rounds, options.device))
            print_row(report["rows"][-1], report["conditions"]["matrix_product_gflops"])
            write()
    for dim in GRIDS if options.scaling else ():
        report["scaling"][dim] = scaling(dim, options.device)
        write()
    if options.scaling and options.output:
        plot(report["scaling"], options.output / f"neighborhood-{options.device}.png")


def compare_kernel(rounds: int) -> None:
    """Print a table of the CPU kernel against the plain SDPA path, forward and forward with backward, on one core."""
    torch.set_num_threads(1)
    print(json.dumps(conditions("cpu")), "\n")
    print("| shape; window | kernel | plain | plain / kernel | kernel | plain | plain / kernel |")
    print("|---|---|---|---|---|---|---|")
    for shape, window in KERNEL_PROBLEMS:
        leaves = [torch.randn(shape, requires_grad=True) for _ in range(3)]
        gradient = torch.randn(shape)
        query, key, value = leaves
        problem = check_problem(
            *leaves, kernel_size=window, dilation=1, stride=1, is_causal=False, key_mask=None, scale=None
        )
        ways: dict[str, Attend] = {
            "kernel": lambda q, k, v, w=window: neighborhood_attention(q, k, v, w, backend="tiled"),
            "plain": lambda q, k, v, p=problem: attend_tiles((q, k, v), p),
        }
        torch.testing.assert_close(*(attend(query, key, value) for attend in ways.values()), rtol=1e-4, atol=2e-5)
        cells = []
        for backward in (False, True):
            times: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds + 2):
                for name, attend in ways.items():
                    started = time.perf_counter()
                    with torch.set_grad_enabled(backward):
                        out = attend(query, key, value)
                        if backward:
                            torch.autograd.grad(out, leaves, gradient)
                    times[name].append(1e3 * (time.perf_counter() - started))
            kernel, plain = (np.array(times[name][2:]) for name in ("kernel", "plain"))  # two rounds to warm up
            # The median of ratios within a round: a slow phase of the machine affects both calls of a round.
            cells += [f"{np.median(kernel):.1f}", f"{np.median(plain):.1f}", f"**{np.median(plain / kernel):.2f}**"]
        name = f"{', '.join(map(str, shape))}; {' x '.join(map(str, window))}"
        print("| " + " | ".join([name, *cells]) + " |", flush=True)


def candidates(shape: Shape, window: Shape, dtype: torch.dtype, device: str) -> dict[str, Attend]:
    """Return the implementations that run on this device; "gather" is the reference backend. Not all of them train."""
    reasons = available_backends(device, dtype, head_dim=shape[-1])

    def by(backend: str) -> Attend:
        return lambda q, k, v: neighborhood_attention(q, k, v, window=window, backend=backend)

    found = {name: by(backend) for name, backend in BACKENDS.items() if reasons[backend] is None}
    if math.prod(shape[1:-2]) <= MOST_DENSE:
        found["dense"] = dense(shape[1:-2], window, device)
    if find_spec("natten_mps") and device != "cuda":
        operator = getattr(import_module("natten_mps"), f"na{len(window)}d")
        found["natten-mps"] = lambda q, k, v: operator(q, k, v, kernel_size=window)
    return found


def trainable(found: dict[str, Attend], device: str) -> dict[str, Attend]:
    return {name: attend for name, attend in found.items() if device != "cpu" or name not in FORWARD_ONLY}


def dense(grid: Shape, window: Shape, device: str) -> Attend:
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


def measure(shape: Shape, window: Shape, dtype: torch.dtype, rounds: int, device: str) -> dict[str, Any]:
    tokens = [torch.randn(shape, device=device, dtype=dtype) for _ in range(3)]
    leaves = [x.clone().requires_grad_() for x in tokens]
    gradient = torch.randn(shape, device=device, dtype=dtype)
    found = candidates(shape, window, dtype, device)
    forward = {name: lambda a=attend: a(*tokens) for name, attend in found.items()}
    both = {
        name: lambda a=attend: torch.autograd.grad(a(*leaves), leaves, gradient)
        for name, attend in trainable(found, device).items()
    }
    if dtype == torch.float32:  # in the same rounds, so that a busy machine affects both
        halves, half = [x.detach().bfloat16().requires_grad_() for x in leaves], gradient.bfloat16()
        both["tiled bfloat16"] = lambda: torch.autograd.grad(found["tiled"](*halves), halves, half)
    # Per query and key: a dot product and a weighted sum over head_dim, each a multiplication and an addition.
    flops = 4 * math.prod(shape) * math.prod(window)
    name = str(dtype).removeprefix("torch.")
    return {
        "shape": shape,
        "window": window,
        "dtype": name,
        "useful_gflop": {"forward": flops / 1e9, "forward_backward": 3 * flops / 1e9},
        "forward_ms": interleaved(forward, rounds, device, often="tiled"),
        "forward_backward_ms": interleaved(both, rounds, device, often="tiled"),
        "forward_backward_added_mib": {
            backend: round(in_own_process(shape, window, device, dtype=name, backend=backend)["bytes"] / 2**20, 1)
            for backend in trainable(found, device)
        },
    }


def print_row(row: dict[str, Any], rate: float) -> None:
    print(f"\n{row['shape']} window {row['window']} {row['dtype']}")
    for name in ("forward", "forward_backward"):
        times = row[f"{name}_ms"]
        reached = row["useful_gflop"][name] / times["tiled"] * 1e3
        line = "  ".join(f"{backend} {milliseconds:.2f}" for backend, milliseconds in times.items())
        ratio = times["gather"] / times["tiled"]
        print(f"  {name:17} {line}   gather/tiled {ratio:.1f}, {reached / rate:.0%} of the matrix-product rate")
    memory = "  ".join(f"{backend} {mib:.1f}" for backend, mib in row["forward_backward_added_mib"].items())
    print(f"  added MiB         {memory}", flush=True)


def scaling(dim: int, device: str) -> dict[str, Any]:
    """Time each grid in a separate process, and fit exponents."""
    points = [in_own_process((1, *grid, 2, 32), WINDOWS[dim], device, rounds=5) for grid in GRIDS[dim]]
    exponents = {}
    for name in ("seconds", "bytes"):
        logs = np.log([[point["tokens"], point[name]] for point in points]).T
        exponents[name] = round(float(np.polyfit(*logs, 1)[0]), 3)
    print(f"\n{dim}-D window {WINDOWS[dim]}: exponents {exponents}")
    for point in points:
        print(f"  {point['tokens']:9,} tokens {point['seconds']:9.4f} s {point['bytes'] / 2**20:9.1f} MiB", flush=True)
    return {"window": WINDOWS[dim], "points": points, "exponents": exponents}


def in_own_process(shape: Shape, window: Shape, device: str, **options: Any) -> dict[str, Any]:
    """Call `measure_point` in a new process, whose peak memory is that of one call."""
    point = json.dumps({"shape": shape, "window": window, **options})
    command = [sys.executable, __file__, "--device", device, "--point", point]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - this very script
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def measure_point(
    shape: list[int], window: list[int], device: str, dtype: str = "float32", backend: str = "tiled", rounds: int = 0
) -> dict[str, Any]:
    """Measure forward and backward once for memory, then `rounds` times for time."""
    leaves = [torch.randn(shape, device=device, dtype=getattr(torch, dtype), requires_grad=True) for _ in range(3)]
    gradient = torch.randn_like(leaves[0])
    attend = candidates(tuple(shape), tuple(window), leaves[0].dtype, device)[backend]

    def call() -> None:
        torch.autograd.grad(attend(*leaves), leaves, gradient)

    warm = [torch.randn(1, *window, *shape[-2:], device=device, dtype=gradient.dtype) for _ in range(3)]
    candidates((1, *window, *shape[-2:]), tuple(window), gradient.dtype, device)[backend](*warm)  # loads libraries
    added = added_bytes(call, device)
    seconds = interleaved({backend: call}, rounds, device)[backend] / 1e3 if rounds else None
    return {"tokens": math.prod(shape[1:-2]), "seconds": seconds, "bytes": added}


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


if __name__ == "__main__":
    main()
