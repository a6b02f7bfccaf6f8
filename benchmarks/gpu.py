"""Everything that only a GPU can tell, in one run of at most eight minutes: `python benchmarks/gpu.py`.

1. checks: every fused backend against the reference in float64, on random problems, with all gradients;
2. the operator: milliseconds of each backend, and of dense attention under a mask, forward and with the backward pass;
3. models: inputs per second and memory of tiny, small, base and nano beside ViT-S, Swin-T, ConvNeXt-T and Hiera-T, in
   bfloat16 by autocast, at 224, 512 and 1024 pixels; sound and video beside theirs. A step is forward and backward.
   First as they are ("eager"), then as CUDA graphs, then compiled, as far as the time goes.

Each part has a share of the time. What did not fit is listed, and so is what failed. The batch is the largest power of
two that should fit the card, up to `--most`. `--output` writes results as JSON. The exit code is 1 if a check fails.

`--quick` takes few and small ones, to try the script itself: with `--device cpu` it takes a minute, and its times mean
nothing. Needs timm for the peers: `pip install -e ".[baselines]"`.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from measuring import conditions, interleaved, memory_bytes, output_folder
from neighborhood import PROBLEMS, Shape, candidates
from peers import TIMM, build
from torch import Tensor, nn

from eyetoy import available_backends, neighborhood_attention
from eyetoy.neighborhood.backends.registry import VARIABLE
from eyetoy.presets import IN_CHANNELS

FUSED = ("natten", "flex", "triton", "tiled")
TOLERANCES = {torch.float32: 2e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
"""Largest error, as a fraction of the largest number of the exact result."""

LARGE_MAPS: list[tuple[Shape, Shape]] = [((1, 256, 256, 2, 32), (7, 7)), ((1, 128, 128, 1, 8), (7, 7))]
"""What a 1024-pixel image gives the first stage of tiny; and small heads, as those of nano."""

IMAGES = ("eyetoy2d_tiny", *TIMM, "eyetoy2d_nano", "eyetoy2d_small", "eyetoy2d_base", "nat_tiny")
OTHERS = {
    (16_000,): ("eyetoy1d_tiny", "vit_1d", "convnext_1d"),
    (16, 224, 224): ("eyetoy3d_tiny", "swin3d_t", "mvit_b"),
}
SHARES = {"checks": 0.15, "operator": 0.35, "eager": 0.6, "graph": 0.72, "compiled": 0.85}
"""When each part begins nothing more, as a fraction of the time; to compile a model may take a minute."""

Call = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float, default=450, help="time for everything (default: 450)")
    parser.add_argument("--most", type=int, default=256, help="largest batch (default: 256)")
    parser.add_argument("--quick", action="store_true", help="few and small ones, to try the script")
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here; try the script with --device cpu --quick")
    run = Run(options.device, options.seconds, options.most, quick=options.quick)
    for part in (run.check, run.time_operator, run.time_models):
        part()
        if options.output:
            path = options.output / f"gpu-{options.device}{'-quick' if options.quick else ''}.json"
            path.write_text(json.dumps(run.report, indent=1) + "\n", encoding="utf-8")
    print(f"\n{time.perf_counter() - run.began:.0f} s")
    for name in ("wrong", "failed", "left_out"):
        if run.report[name]:
            print(f"{name}: {len(run.report[name])}", *run.report[name], sep="\n  ")
    if run.report["wrong"]:
        raise SystemExit("a backend differs from the reference")


class Run:
    """The parts of the benchmark, and what they have found."""

    def __init__(self, device: str, seconds: float, most: int, *, quick: bool) -> None:
        self.device, self.seconds, self.most, self.quick = device, seconds, most, quick
        self.began = time.perf_counter()
        self.per_call = 0.05 if quick else 0.6
        about = conditions(device)
        if device == "cuda":
            about |= {"memory": memory_bytes(device), "cuda": torch.version.cuda, "hip": torch.version.hip}
        self.report: dict[str, Any] = {"conditions": about, "checks": {}, "operator": [], "models": []}
        self.report |= {"wrong": [], "failed": [], "left_out": []}
        print(json.dumps(about))

    def has_time(self, part: str, what: str) -> bool:
        """Whether a part may begin something; otherwise it is listed as left out."""
        if time.perf_counter() - self.began < SHARES[part] * self.seconds:
            return True
        self.report["left_out"].append(f"{part}: {what}")
        return False

    def attempt(self, what: str, call: Callable[[], Any], kind: str = "failed") -> Any:
        """Return what a call returns, or None if it fails, which is listed: the other measurements go on."""
        try:
            return call()
        except Exception as error:  # of a compiler, a library, or for want of memory
            self.report[kind].append(f"{what}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")
            return None
        finally:
            gc.collect()
            if self.device == "cuda":
                torch.cuda.empty_cache()

    def check(self) -> None:
        """Compare backends with the reference."""
        chance = random.Random(time.time_ns())
        for number in range(3 if self.quick else 200):
            dimension = 1 + number % 3
            seed = chance.randrange(2**32)
            if not self.has_time("checks", f"random problems from the {number}th on"):
                return
            dtype = (torch.float32, torch.bfloat16, torch.float16)[number // 3 % 3]
            shape, rule, key_mask = random_problem(dimension, seed, self.device)
            # Each new problem is compiled. The others have had theirs checked for long.
            for backend in FUSED if number < 3 else ("triton",):
                what = f"{backend}, {dtype}, {shape}, {rule}, {'masked, ' if key_mask is not None else ''}seed {seed}"
                options = {**rule, "key_mask": key_mask}
                check = partial(error_of, backend, shape, dtype, options, seed, self.device)
                error = self.attempt(what, check, "wrong")
                if error is None:
                    continue
                key = f"{backend}, {str(dtype).removeprefix('torch.')}"
                known = self.report["checks"].setdefault(key, {"problems": 0, "largest_error": 0.0})
                known["problems"] += 1
                known["largest_error"] = max(known["largest_error"], error)
                if not error <= TOLERANCES[dtype]:
                    self.report["wrong"].append(f"{what}: {error:.2e}")
        print("\n| backend, type | problems | largest error |\n|---|---|---|")
        for key, known in sorted(self.report["checks"].items()):
            print(f"| {key} | {known['problems']} | {known['largest_error']:.1e} |")

    def time_operator(self) -> None:
        """Time the backends."""
        print("\n| shape; window | pass |", " | ".join((*FUSED, "dense")), "| triton / fastest other |")
        print("|---|---|" + "---|" * (len(FUSED) + 2))
        batch = 1 if self.quick else 8
        for (first, *rest), window in [PROBLEMS[2]] if self.quick else [*PROBLEMS, *LARGE_MAPS]:
            shape = (first * batch, *rest)
            if not self.has_time("operator", f"{shape}; {window}"):
                continue
            dtype = torch.float32 if self.device == "cpu" else torch.bfloat16
            leaves = [torch.randn(shape, device=self.device, dtype=dtype, requires_grad=True) for _ in range(3)]
            gradient = torch.randn_like(leaves[0])
            found = {
                name: call
                for name, call in candidates(shape, window, dtype, self.device).items()
                if name in (*FUSED, "dense")
            }
            if self.device == "cpu":  # neither trains there
                found = {name: call for name, call in found.items() if name not in ("flex", "natten")}
            calls = {
                "forward": {name: partial(without_gradients, call, leaves) for name, call in found.items()},
                "forward_backward": {
                    name: partial(with_gradients, call, leaves, gradient) for name, call in found.items()
                },
            }
            row: dict[str, Any] = {"shape": shape, "window": window, "dtype": str(dtype)}
            for passed, by_name in calls.items():
                # The first call of each compiles; one that fails is left out.
                working = {n: c for n, c in by_name.items() if self.attempt(f"{n}, {shape}", partial(succeeds, c))}
                row[f"{passed}_ms"] = interleaved(working, 50, self.device, seconds=self.per_call * len(working))
                print_operator(row, passed)
            self.report["operator"].append(row)

    def time_models(self) -> None:
        """Time models in all three ways, the most important first."""
        print("\n| input | model | backend | how | pass | batch | per second | GB |\n|---|---|---|---|---|---|---|---|")
        ways = ("eager",) if self.device == "cpu" else ("eager", "graph", "compiled")
        for way, (grid, names) in itertools.product(ways, self.inputs()):
            for name, backend in with_backends(names, self.device):
                what = f"{way}, {name} by {backend} at {' x '.join(map(str, grid))}"
                if self.has_time(way, what):
                    self.attempt(what, partial(self.time_model, way, name, backend, grid))

    def inputs(self) -> Iterator[tuple[Shape, tuple[str, ...]]]:
        if self.quick:
            yield (64, 64), ("eyetoy2d_pico", "convnext_tiny")
            yield (4000,), ("eyetoy1d_pico", "convnext_1d")
            return
        yield (224, 224), IMAGES
        yield (1024, 1024), IMAGES
        yield (512, 512), IMAGES
        yield from OTHERS.items()

    def time_model(self, way: str, name: str, backend: str, grid: Shape) -> None:
        """Time a model forward and in a step, and print and keep what is found."""
        os.environ[VARIABLE] = backend
        model = build(name, grid).to(self.device)
        for passed in ("forward", "step"):
            model.train(passed == "step")
            per_input = self.bytes_of(model, grid, passed)
            batch = min(self.most, 2 ** int(math.log2(max(0.7 * memory_bytes(self.device) / per_input, 1))))
            batch = 2 if self.quick else batch
            x = torch.randn(batch, IN_CHANNELS[len(grid)], *grid, device=self.device)
            if way == "compiled":
                torch._dynamo.reset()  # each has its own limit of compilations
                call = one_pass(torch.compile(model), x, passed)
            else:
                call = one_pass(model, x, passed)
            if way == "graph":
                call = as_graph(call)
            call()
            if self.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            milliseconds = interleaved({name: call}, 50, self.device, seconds=self.per_call)[name]
            # A graph has its memory for itself, and replays allocate nothing.
            peak = torch.cuda.max_memory_allocated() if self.device == "cuda" and way != "graph" else None
            rate = 1e3 * batch / milliseconds
            row = {"grid": grid, "model": name, "backend": backend, "way": way, "pass": passed, "batch": batch}
            self.report["models"].append({**row, "per_second": round(rate, 1), "bytes": peak})
            memory = "" if peak is None else f"{peak / 1e9:.1f}"
            cells = ["x".join(map(str, grid)), name, backend, way, passed, str(batch), f"{rate:,.0f}", memory]
            print("| " + " | ".join(cells) + " |", flush=True)

    def bytes_of(self, model: nn.Module, grid: Shape, passed: str) -> float:
        """Return the memory that an input more takes."""
        if self.device != "cuda":
            return 1e9
        peaks = []
        for batch in (1, 3):
            torch.cuda.reset_peak_memory_stats()
            one_pass(model, torch.randn(batch, IN_CHANNELS[len(grid)], *grid, device=self.device), passed)()
            peaks.append(torch.cuda.max_memory_allocated())
        return max((peaks[1] - peaks[0]) / 2, 1.0)


def random_problem(dimension: int, seed: int, device: str) -> tuple[Shape, dict[str, Any], Tensor | None]:
    """Return the shape of query and key, the rule, and a mask or None."""
    chance = random.Random(seed)
    grid = [chance.randint(1, {1: 300, 2: 24, 3: 9}[dimension]) for _ in range(dimension)]
    windows = [chance.randint(1, min(size + 3, {1: 40, 2: 9, 3: 5}[dimension])) for size in grid]
    is_plain = chance.random() < 0.4
    rule = {
        "kernel_size": tuple(windows),
        "dilation": tuple(1 if is_plain else chance.randint(1, 3) for _ in grid),
        "stride": tuple(1 if is_plain else chance.randint(1, window) for window in windows),
        "is_causal": tuple(not is_plain and chance.random() < 0.4 for _ in grid),
    }
    shape = (chance.randint(1, 3), *grid, chance.randint(1, 3), chance.choice((8, 16, 24, 32, 48, 64, 128)))
    if chance.random() < 0.7:
        return shape, rule, None
    generator = torch.Generator().manual_seed(seed)
    return shape, rule, (torch.rand(shape[:-2], generator=generator) < 0.7).to(device)


def can_do(backend: str, shape: Shape, dtype: torch.dtype, options: dict[str, Any], device: str) -> bool:
    """Whether a backend does a call; NATTEN tells its limits on windows only when it is called, before it computes."""
    reasons = available_backends(
        device, dtype, head_dim=shape[-1], requires_grad=True, has_key_mask=options["key_mask"] is not None
    )
    if reasons[backend] is not None:
        return False
    x = torch.empty(shape, device=device, dtype=dtype, requires_grad=True)
    try:
        neighborhood_attention(x, x, x, backend=backend, **options)
    except ValueError as error:
        if f"backend {backend!r} cannot do this call" in str(error):
            return False
        raise
    return True


def error_of(
    backend: str, shape: Shape, dtype: torch.dtype, options: dict[str, Any], seed: int, device: str
) -> float | None:
    """Return the largest difference from the reference in float64, of the output and all gradients.

    None if the backend cannot do the call.
    """
    if not can_do(backend, shape, dtype, options, device):
        return None
    generator = torch.Generator().manual_seed(seed)
    packed = torch.randn(*shape[:-2], 3, *shape[-2:], generator=generator).to(device, dtype)
    weights = torch.randn(shape, generator=generator).to(device, dtype)
    results = []
    for name, kind in ((backend, dtype), ("reference", torch.float64)):
        leaf = packed.to(kind).detach().requires_grad_()
        out = neighborhood_attention(*leaf.unbind(-3), backend=name, **options)
        (gradient,) = torch.autograd.grad(out, leaf, weights.to(kind))
        results.append((out.detach().double(), *(gradient.double().unbind(-3))))
    # NaN stays NaN, which no tolerance allows.
    errors = [
        (ours - exact).abs().max() / exact.abs().max().clamp(min=1.0) for ours, exact in zip(*results, strict=True)
    ]
    return float(torch.stack(errors).amax())


def without_gradients(attend: Callable[..., Tensor], tokens: list[Tensor]) -> None:
    with torch.no_grad():
        attend(*tokens)


def with_gradients(attend: Callable[..., Tensor], leaves: list[Tensor], gradient: Tensor) -> None:
    torch.autograd.grad(attend(*leaves), leaves, gradient)


def succeeds(call: Call) -> bool:
    call()
    return True


def print_operator(row: dict[str, Any], passed: str) -> None:
    times = row[f"{passed}_ms"]
    cells = [f"{times[name]:.3f}" if name in times else "" for name in (*FUSED, "dense")]
    others = [value for name, value in times.items() if name != "triton"]
    ratio = f"{times['triton'] / min(others):.2f}" if "triton" in times and others else ""
    shape = f"{', '.join(map(str, row['shape']))}; {' x '.join(map(str, row['window']))}"
    print("| " + " | ".join([shape, passed.replace("_", " and "), *cells, ratio]) + " |", flush=True)


def with_backends(names: tuple[str, ...], device: str) -> list[tuple[str, str]]:
    """Return models with the backends to try them with; the choice among those is what the run is to settle."""
    reasons = available_backends(device, torch.bfloat16, head_dim=32, requires_grad=True)
    fused = [name for name in ("natten", "flex", "triton") if reasons[name] is None]
    return [
        (name, backend)
        for name in names
        for backend in ((fused or ["auto"]) if name.startswith(("eyetoy", "nat")) else ["auto"])
    ]


def one_pass(model: Callable[[Tensor], Tensor], x: Tensor, passed: str) -> Call:
    """Return a call of a forward pass, or of forward and backward, in bfloat16 by autocast."""
    # A graph is captured once and replayed: casts of weights that autocast keeps would not be in it.
    cast = torch.autocast("cuda", torch.bfloat16, cache_enabled=False) if x.is_cuda else nullcontext()

    def forward() -> None:
        with torch.no_grad(), cast:
            model(x)

    def step() -> None:
        with cast:
            loss = model(x).square().mean()
        loss.backward()
        for parameter in model.parameters():  # type: ignore[attr-defined]
            parameter.grad = None

    return {"forward": forward, "step": step}[passed]


def as_graph(call: Call) -> Call:
    """Return a call as a CUDA graph, which replays its kernels without Python."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries allocate and compile in their first calls, which cannot be captured
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


if __name__ == "__main__":
    main()
