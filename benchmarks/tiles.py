"""Calibrate the choice of tiles on this machine: `python benchmarks/tiles.py`.

Times forward and backward passes with random tilings of many shapes, and fits the costs of `choose_tiling`. For each
shape, prints the slowdown of the chosen tiling relative to the best one tried, with the present costs and with the
fitted ones. Put the fitted costs into `COSTS` in `eyetoy/neighborhood/backends/tiled/tiling.py`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

import numpy as np
import torch
from scipy.optimize import nnls

from eyetoy.neighborhood.backends.tiled import tiling as plans
from eyetoy.neighborhood.backends.tiled.kernel import TiledKernel
from eyetoy.neighborhood.backends.tiled.tiling import Tiling
from eyetoy.neighborhood.window import AxisRule

SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [  # [batch, *grid, heads, head_dim] and window
    ((1, 4096, 4, 32), (13,)),
    ((8, 2000, 2, 16), (31,)),
    ((16, 500, 2, 32), (7,)),
    ((1, 20000, 1, 64), (63,)),
    ((1, 56, 56, 2, 32), (7, 7)),
    ((8, 16, 16, 4, 32), (7, 7)),
    ((8, 28, 28, 4, 32), (7, 7)),
    ((8, 14, 14, 4, 32), (13, 13)),
    ((4, 28, 28, 4, 16), (5, 5)),
    ((1, 128, 128, 1, 32), (11, 11)),
    ((1, 8, 28, 28, 2, 32), (3, 7, 7)),
    ((2, 8, 14, 14, 4, 32), (3, 5, 5)),
    ((1, 16, 16, 16, 2, 16), (5, 5, 5)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tilings", type=int, default=24, help="tilings to try per shape (default: 24)")
    parser.add_argument("--rounds", type=int, default=7, help="timed passes of each (default: 7)")
    options = parser.parse_args()
    random.seed(0)
    tried = [measure(shape, window, options.tilings, options.rounds) for shape, window in SHAPES]
    costs = fit(tried)
    print("fitted costs: (" + ", ".join(f"{cost:.3g}" for cost in costs) + ")")
    print(f"\n{'shape':28} {'window':10} {'best ms':>9} {'now':>7} {'fitted':>7}   best tiling, choice of the fit")
    for (shape, window), (tilings, times) in zip(SHAPES, tried, strict=True):
        print_row(shape, window, tilings, times, costs)


def measure(
    shape: tuple[int, ...], window: tuple[int, ...], count: int, rounds: int
) -> tuple[list[Tiling], list[float]]:
    """Return tilings, the best by present costs and random ones of up to four times the cost, with milliseconds."""
    rules = tuple(AxisRule(length=n, window=w) for n, w in zip(shape[1:-2], window, strict=True))
    ranked = sorted(plans.tilings(rules, with_outer=True), key=lambda tiling: plans.expected_cost(tiling, shape[-1]))
    fair = [t for t in ranked if plans.expected_cost(t, shape[-1]) < 4 * plans.expected_cost(ranked[0], shape[-1])]
    tilings = fair[: count // 2] + random.sample(fair[count // 2 :], min(count // 2, max(len(fair) - count // 2, 0)))
    query, key, value, grad = (torch.randn(shape) for _ in range(4))
    tokens = query, key, value
    kernels = [TiledKernel(tiling, shape[-1] ** -0.5, torch.float32) for tiling in tilings]
    times: list[list[float]] = [[] for _ in kernels]
    for _ in range(rounds + 1):
        for kernel, measured in zip(kernels, times, strict=True):
            started = time.perf_counter()
            _, saved_tiles, saved_weights = kernel.forward(tokens, None, save=True)
            kernel.backward(grad, tokens, None, (saved_tiles, saved_weights))
            measured.append(1e3 * (time.perf_counter() - started))
    # The lower quartile instead of the median: other processes can only add time.
    return tilings, [statistics.quantiles(measured[1:], n=4)[0] for measured in times]


def fit(tried: list[tuple[list[Tiling], list[float]]]) -> list[float]:
    """Fit costs by relative errors. A fixed cost per call is fitted too and dropped, since no tiling changes it."""
    rows, targets = [], []
    for (shape, _), (tilings, times) in zip(SHAPES, tried, strict=True):
        for tiling, milliseconds in zip(tilings, times, strict=True):
            num_rows = shape[0] * shape[-2]
            features = [num_rows * feature for feature in plans.cost_features(tiling, shape[-1])]
            rows.append([*(feature / (1e6 * milliseconds) for feature in features), 1 / milliseconds])
            targets.append(1.0)
    # Non-negative: with a negative cost, the choice would prefer tilings with more of that work.
    solution, _ = nnls(np.array(rows), np.array(targets))
    return [float(cost) for cost in solution[:-1]]


def print_row(
    shape: tuple[int, ...], window: tuple[int, ...], tilings: list[Tiling], times: list[float], costs: list[float]
) -> None:
    def fitted(tiling: Tiling) -> float:
        return float(np.dot(costs, plans.cost_features(tiling, shape[-1])))

    best = times.index(min(times))
    now = min(range(len(times)), key=lambda i: plans.expected_cost(tilings[i], shape[-1]))
    new = min(range(len(times)), key=lambda i: fitted(tilings[i]))
    print(
        f"{shape!s:28} {window!s:10} {times[best]:9.2f} {times[now] / times[best]:7.2f} {times[new] / times[best]:7.2f}"
        f"   {describe(tilings[best])}, {describe(tilings[new])}"
    )


def describe(tiling: Tiling) -> str:
    """Return the tile sizes by grid axis; the outer axis has a star."""
    sizes = {axis: f"{cut.tile}" for axis, cut in zip(tiling.inner_axes, tiling.inner, strict=True)}
    if tiling.outer_axis is not None:
        sizes[tiling.outer_axis] = f"{tiling.outer.tile}*"
    return "x".join(sizes[axis] for axis in sorted(sizes))


if __name__ == "__main__":
    main()
