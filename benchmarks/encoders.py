"""Time encoders against other models, interleaved in one run: `python benchmarks/encoders.py images`.

For each input size and batch: parameters, floating-point operations of one input (two for each multiply-add,
including attention), inputs per second of a forward pass and of a training step (forward and backward), and the memory
that each adds at its peak, measured in a separate process. A step has no optimizer, whose cost is the same for all
models. A step that would not fit into this machine's memory, judged by that of one input, is left out. `frames` is
clips of 8 to 128 frames, compared with global attention, and ends with the exponents by which time and memory grow with
the number of frames. `--output` writes the results, case by case. Needs timm and, for videos, pytorchvideo:
`pip install -e ".[baselines]"`.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import added_bytes, conditions, interleaved, memory_bytes, output_folder
from peers import build
from torch import nn

from eyetoy import count_flops
from eyetoy.presets import IN_CHANNELS

Case = tuple[tuple[int, ...], int]
CASES: dict[str, tuple[Case, ...]] = {  # grid and batch
    "sounds": (((16_000,), 1), ((16_000,), 8), ((160_000,), 1), ((160_000,), 8), ((960_000,), 1)),
    "images": (
        ((224, 224), 1),
        ((224, 224), 8),
        ((512, 512), 1),
        ((512, 512), 8),
        ((1024, 1024), 1),
        ((1024, 1024), 8),
    ),
    "videos": (((16, 224, 224), 1), ((32, 224, 224), 1)),
    "frames": tuple(((frames, 112, 112), 1) for frames in (8, 16, 32, 64, 128)),
}
MODELS = {
    "sounds": ("eyetoy1d_tiny", "vit_1d", "convnext_1d"),
    "images": ("eyetoy2d_tiny", "vit_small", "swin_tiny", "convnext_tiny", "hiera_tiny", "nat_tiny"),
    "videos": ("eyetoy3d_tiny", "swin3d_t", "mvit_b", "x3d_m"),
    "frames": ("eyetoy3d_nano", "space_time_vit"),
}
PLAIN = "vit_small, plain attention"
"""Measured for memory only."""
PASSES = ("forward", "step")
MEMORY_FRACTION = 0.8
"""Largest expected memory of a pass, as a fraction of the machine's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=CASES)
    parser.add_argument("--seconds", type=float, default=60, help="time for the calls of a case (default: 60)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    parser.add_argument("--only", help="one case only, such as 1024x1024,8; other results are kept")
    parser.add_argument("--memory", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        name, grid, batch, passed = options.memory
        call = one_pass(build(name, tuple(grid)), tuple(grid), batch, passed, options.device)
        print(added_bytes(call, options.device))
        return
    chosen = [case for case in CASES[options.kind] if options.only in (None, case_name(*case))]
    if not chosen:
        parser.error(f"--only must be one of {', '.join(case_name(*case) for case in CASES[options.kind])}")
    about = conditions(options.device)
    bytes_of_one: dict[str, dict[str, int | None]] = {}
    cases = []
    for number, (grid, batch) in enumerate(chosen):
        # Once for each grid: cases of the same grid differ in the batch only.
        if not number or grid != chosen[number - 1][0]:
            bytes_of_one = measure_memory(MODELS[options.kind], grid, options.device)
        case = measure(MODELS[options.kind], grid, batch, options.seconds, options.device, bytes_of_one)
        print_case(case)
        cases.append(case)
        if options.output:
            keep(options.output / f"encoders-{options.kind}-{options.device}.json", {**case, "conditions": about})
    if options.kind == "frames" and len(cases) > 1:
        print_growth(cases)


def case_name(grid: tuple[int, ...], batch: int) -> str:
    return f"{'x'.join(map(str, grid))},{batch}"


def keep(path: Path, case: dict[str, Any]) -> None:
    """Write a case to the results, replacing an earlier one of the same input."""
    cases = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    others = [other for other in cases if (*other["grid"], other["batch"]) != (*case["grid"], case["batch"])]
    ordered = sorted([*others, case], key=lambda case: (case["grid"], case["batch"]))
    path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def measure(
    names: tuple[str, ...],
    grid: tuple[int, ...],
    batch: int,
    seconds: float,
    device: str,
    bytes_of_one: dict[str, dict[str, int | None]],
) -> dict[str, Any]:
    """Measure one case with all models; the first one is ours."""
    models = {name: build(name, grid) for name in names}
    rows: dict[str, dict[str, Any]] = {name: describe(model, grid) for name, model in models.items()}
    for passed in PASSES:
        fitting = [name for name in names if fits(bytes_of_one[name][f"{passed}_bytes"], batch, device)]
        calls = {name: one_pass(models[name], grid, batch, passed, device) for name in fitting}
        times = interleaved(calls, 15, device, seconds=seconds)
        for name, milliseconds in times.items():
            rows[name][f"{passed}_per_s"] = round(1e3 * batch / milliseconds, 4)
    if batch == 1:
        for name, measured in bytes_of_one.items():
            rows.setdefault(name, {}).update(measured)
    return {"grid": list(grid), "batch": batch, "models": rows}


def measure_memory(names: tuple[str, ...], grid: tuple[int, ...], device: str) -> dict[str, dict[str, int | None]]:
    """Return the bytes that each pass of one input adds, by model."""
    measured = (*names, *([PLAIN] if "vit_small" in names else []))
    return {name: {f"{passed}_bytes": memory(name, grid, 1, passed, device) for passed in PASSES} for name in measured}


def fits(bytes_of_one: int | None, batch: int, device: str) -> bool:
    """Return whether a pass of a batch is expected to fit into memory."""
    return bytes_of_one is not None and batch * bytes_of_one < MEMORY_FRACTION * memory_bytes(device)


def describe(model: nn.Module, grid: tuple[int, ...]) -> dict[str, Any]:
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "flops": count_flops(model, (1, IN_CHANNELS[len(grid)], *grid)),
    }


def one_pass(model: nn.Module, grid: tuple[int, ...], batch: int, passed: str, device: str) -> Callable[[], None]:
    """Return a call of the model's forward pass, with or without the backward pass."""
    model = model.to(device)
    x = torch.randn(batch, IN_CHANNELS[len(grid)], *grid, device=device)
    model.train(passed == "step")

    def forward() -> None:
        with torch.no_grad():
            model(x)

    def step() -> None:
        model(x).square().mean().backward()
        model.zero_grad()

    return {"forward": forward, "step": step}[passed]


def memory(name: str, grid: tuple[int, ...], batch: int, passed: str, device: str) -> int | None:
    """Return the bytes that a pass adds, measured in a new process; None if the system killed it for its memory."""
    point = json.dumps([name, grid, batch, passed])
    kind = next(kind for kind, cases in CASES.items() if (grid, batch) in cases)
    command = [sys.executable, __file__, kind, "--device", device, "--memory", point]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if found.returncode == -signal.SIGKILL:
        return None
    if found.returncode:
        raise RuntimeError(f"{name} at {grid}: {found.stderr[-1000:]}")
    return int(found.stdout)


def print_case(case: dict[str, Any]) -> None:
    rows = case["models"]
    ours = next(iter(rows))
    peers = [name for name in rows if not name.startswith(("eyetoy", "nat_tiny"))]
    print(f"\n{' x '.join(map(str, case['grid']))}, batch {case['batch']}")
    for name, row in rows.items():
        cells = [f"{name:28s}"]
        if "parameters" in row:
            cells.append(f"{row['parameters'] / 1e6:6.1f} M  {row['flops'] / 1e9:7.1f} GFLOPs")
            cells += [f"{passed} {row.get(f'{passed}_per_s', float('nan')):7.2f}/s" for passed in PASSES]
        cells += [f"{passed} {row[key] / 1e9:5.2f} GB" for passed in PASSES if row.get(key := f"{passed}_bytes")]
        print("  ".join(cells))
    for passed in PASSES:
        key = f"{passed}_per_s"
        rates = {name: rows[name][key] for name in peers if key in rows[name]}
        if rates and key in rows[ours]:
            best = max(rates, key=rates.__getitem__)
            ratio = rows[ours][key] / rates[best]
            print(f"{passed}: {ours} is {ratio:.2f} times as fast as the fastest peer, {best}", flush=True)


def print_growth(cases: Sequence[dict[str, Any]]) -> None:
    """Print the exponents by which time and memory grow with the number of frames, fitted over all cases."""
    for name in cases[0]["models"]:
        for passed in PASSES:
            keys = (f"{passed}_per_s", f"{passed}_bytes")
            fitting = [case for case in cases if all(case["models"][name].get(key) for key in keys)]
            if len(fitting) < 2:
                print(f"{name} {passed}: too few numbers of frames fit into memory to tell how it grows")
                continue
            frames = [math.log(case["grid"][0]) for case in fitting]
            seconds = [-math.log(case["models"][name][keys[0]]) for case in fitting]
            added = [math.log(case["models"][name][keys[1]]) for case in fitting]
            growth = [statistics.linear_regression(frames, values).slope for values in (seconds, added)]
            print(f"{name} {passed}: time grows as frames^{growth[0]:.2f}, memory as frames^{growth[1]:.2f}")


if __name__ == "__main__":
    main()
