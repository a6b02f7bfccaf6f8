"""Measure time and memory of each map of `eyetoy.inspect`: `python benchmarks/inspect_maps.py --output FOLDER`.

Every map is computed in a separate process; its peak memory includes Python, torch and weights, and `added` is the part
of the first call. Times are the median of calls after a first one, and the fastest of these, which other programs
disturb least. The forward pass, most of the work of a map, is measured for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measuring import added_bytes, conditions, output_folder

from eyetoy import Encoder, create_encoder
from eyetoy.inspect import context_maps, effective_receptive_field, feature_components, neighborhood_weights

MODELS = ("eyetoy2d_nano", "eyetoy2d_tiny")
MEGABYTE = 2**20


def maps(encoder: Encoder, size: int) -> dict[str, Callable[[], Any]]:
    """Return the calls to measure, by name."""
    x = torch.randn(1, 3, size, size)
    point = [size // 2, size // 2]
    last = encoder.params.stages[0][-1]
    return {
        "forward pass": partial(torch.no_grad()(encoder), x),
        "context": partial(context_maps, encoder, x),
        "neighborhoods of a block": partial(neighborhood_weights, encoder, x, point, blocks=[last]),
        "neighborhoods of all blocks": partial(neighborhood_weights, encoder, x, point),
        "receptive field, first stage": partial(effective_receptive_field, encoder, x, stage=0, num_probes=1),
        "receptive field": partial(effective_receptive_field, encoder, x, num_probes=1),
        "components": partial(feature_components, encoder, x),
    }


def measure(model: str, size: int, name: str, rounds: int) -> dict[str, float]:
    """Measure one map in this process."""
    torch.manual_seed(0)
    call = maps(create_encoder(model).eval(), size)[name]
    added = added_bytes(call, "cpu")
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    return {
        "seconds": round(statistics.median(times), 3),
        "fastest_seconds": round(min(times), 3),
        "peak_megabytes": round(peak / MEGABYTE),
        "added_megabytes": round(added / MEGABYTE),
    }


def measure_alone(model: str, options: argparse.Namespace, name: str) -> dict[str, float]:
    """Measure one map in a new process."""
    arguments = ["--model", model, "--map", name, "--size", str(options.size), "--rounds", str(options.rounds)]
    command = [sys.executable, __file__, *arguments, "--threads", str(options.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    row: dict[str, float] = json.loads(done.stdout)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="height and width of the image (default: 1024)")
    parser.add_argument("--rounds", type=int, default=3, help="timed calls of each map (default: 3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: one for each core)")
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    parser.add_argument("--model", help="measure one map of this model, in this process")
    parser.add_argument("--map", help="name of that map")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.map:
        print(json.dumps(measure(options.model, options.size, options.map, options.rounds)))
        return
    rows = {}
    for model in MODELS:
        for name in maps(create_encoder(model), 32):
            rows[f"{model}, {name}"] = row = measure_alone(model, options, name)
            print(f"{model:16} {name:30} {row}", flush=True)
    if options.output:
        result = {"size": options.size, "maps": rows, "conditions": conditions("cpu")}
        (options.output / "inspect-maps.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
