"""Compile the Triton kernels without a GPU, and count registers and spills: `python benchmarks/kernels.py`.

For each shape of attention in the named models, in bfloat16: registers of a thread, bytes that spill out of them, and
shared memory of the three kernels, compiled as at a launch. Nothing runs, so there are no times; `gpu.py` has those.

`--targets` are GPUs by their architecture. Ends with exit code 1 if a kernel does not compile, or takes more shared
memory than a program may have there. `--output` writes the results to a folder.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import output_folder
from torch import Tensor

from eyetoy import create_encoder
from eyetoy.neighborhood.backends.registry import BACKENDS
from eyetoy.neighborhood.backends.triton import launch
from eyetoy.neighborhood.problem import Problem
from eyetoy.presets import IN_CHANNELS, MODELS

TARGETS = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}
"""Backend, architecture and threads of a warp as Triton names them, for A100, H100 and H200, B200, and MI300."""

SHARED_BYTES = {"sm_80": 163 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10, "gfx942": 64 << 10}
"""Shared memory that a program may have."""

SHOWN = ("eyetoy2d_tiny", "eyetoy2d_nano", "eyetoy1d_tiny", "eyetoy3d_tiny")
SIZES = {1: (16_000,), 2: (224, 224), 3: (16, 224, 224)}
POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.uint8: "*u8",
    torch.int64: "*i64",
}


class Shape(NamedTuple):
    """A call of neighborhood attention: heads, their dimension, and the rest of the problem."""

    heads: int
    head_dim: int
    problem: Problem

    def __str__(self) -> str:
        grid = " x ".join(str(rule.length) for rule in self.problem.rules)
        window = " x ".join(str(rule.window) for rule in self.problem.rules)
        return f"{grid}, {self.heads}, {self.head_dim}; {window}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=["sm_90"])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=SHOWN)
    parser.add_argument("--all", action="store_true", help="all models for all GPUs")
    parser.add_argument("--output", type=output_folder, help="folder for results as JSON")
    options = parser.parse_args()
    targets, models = (list(TARGETS), list(MODELS)) if options.all else (options.targets, options.models)
    failures = [failure for target in targets for failure in report(target, models, options.output)]
    if failures:
        raise SystemExit("\n".join(failures))


def report(target: str, models: list[str], folder: Path | None) -> list[str]:
    """Print a table of all shapes of some models, write it, and return what is wrong."""
    if reason := why_not(target):
        return [reason]
    print(f"\n{target}: registers of a thread, and spilled bytes if there are any\n")
    print("| model | grid, heads, head_dim; window | tile | forward | query gradient | key and value gradient |")
    print("|---|---|---|---|---|---|")
    rows, failures, known = [], [], {}
    for model in models:
        for shape in shapes_of(model):
            row: dict[str, Any] = {"model": model, "shape": str(shape), "kernels": {}}
            for started in launches(shape):
                source = source_of(started)
                try:
                    # Shapes often differ only in numbers that are no constants: then they share their kernels.
                    taken = known.get(repr(source)) or resources(compiled(source, target), target)
                except Exception as error:  # whatever a compiler raises, the others are of interest
                    failures.append(f"{target}: {started.kernel} of {model}, {shape}: {error!r}")
                    continue
                known[repr(source)] = row["kernels"][started.kernel] = taken
                row["tile"], row["block"] = started.arguments["TILE"], started.arguments["BLOCK"]
                if taken["shared"] > SHARED_BYTES[target]:
                    failures.append(f"{target}: {started.kernel} of {model}, {shape}: {taken['shared']} shared bytes")
            rows.append(row)
            print_row(row)
    if folder:
        about = {
            "command": " ".join(["python", *sys.argv]),
            "date": datetime.date.today().isoformat(),
            "target": target,
            "dtype": "bfloat16",
            **{name: version(name) for name in ("torch", "triton")},
            "python": platform.python_version(),
        }
        path = folder / f"kernels-{target}.json"
        path.write_text(json.dumps({"conditions": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return failures


def print_row(row: dict[str, Any]) -> None:
    cells = [
        f"{taken['registers']}" + (f", {taken['spilled']} spilled" if taken["spilled"] else "")
        for taken in row["kernels"].values()
    ]
    tile = " x ".join(map(str, row.get("tile", ())))
    print("| " + " | ".join([row["model"], row["shape"], tile, *cells]) + " |", flush=True)


def why_not(target: str) -> str | None:
    """Return why this installation of Triton cannot compile for a GPU, or None if it can."""
    names = {"cuda": "nvidia", "hip": "amd"}
    if find_spec("triton") is None:
        return "Triton is not installed"
    name = names[str(TARGETS[target][0])]
    return (
        None
        if name in import_module("triton.backends").backends
        else f"{target}: this Triton lacks its backend {name!r}"
    )


def shapes_of(model: str) -> list[Shape]:
    """Return the shapes of attention in a model whose windows do not span the grid; that is plain attention."""
    found: dict[str, Shape] = {}

    def record(query: Tensor, key: Tensor, value: Tensor, problem: Problem) -> Tensor:
        if not problem.is_dense:
            shape = Shape(query.shape[-2], query.shape[-1], problem)
            found[str(shape)] = shape
        return value

    dimension = int(model.removeprefix("eyetoy")[0]) if model.startswith("eyetoy") else 2
    tiled = BACKENDS["tiled"]
    BACKENDS["tiled"] = replace(tiled, attend=record)
    try:
        with torch.device("meta"), torch.no_grad():
            create_encoder(model).eval()(torch.empty(1, IN_CHANNELS[dimension], *SIZES[dimension]))
    finally:
        BACKENDS["tiled"] = tiled
    return list(found.values())


def launches(shape: Shape, dtype: torch.dtype = torch.bfloat16, *, batch: int = 8) -> list[launch.Launch]:
    """Return the three launches of a shape, as a model makes them: query, key and value lie in one projection."""
    packed = torch.empty(batch, *shape.problem.grid, 3, shape.heads, shape.head_dim, dtype=dtype, device="meta")
    query, key, value = packed.unbind(-3)
    tokens = query, key, value
    (out, sums), forward = launch.forward(tokens, shape.problem)
    (_, products), first = launch.query_gradient(out, tokens, (out, sums), shape.problem)
    _, second = launch.key_value_gradient(out, tokens, (sums, products), shape.problem)
    return [forward, first, second]


class Source(NamedTuple):
    """What Triton compiles for a launch: a kernel, the types of its arguments, what is constant, and what divides."""

    kernel: str
    signature: dict[str, Any]
    constants: dict[tuple[int, ...], Any]
    attributes: dict[tuple[int, ...], Any]
    options: dict[str, int]


def source_of(started: launch.Launch) -> Source:
    """Return the source of a launch, specialized as Triton does it at the launch itself."""
    kernel = getattr(import_module(launch.KERNELS), started.kernel)
    signature, constants, attributes = {}, {}, {}
    for index, name in enumerate(kernel.arg_names):
        value = started.arguments[name]
        if name.isupper():  # constants are written so
            signature[name], constants[index,] = "constexpr", value
            continue
        signature[name] = type_of(value)
        for path, leaf in leaves(value, (index,)):
            if type_of(leaf) == "constexpr":
                constants[path] = leaf
            elif isinstance(leaf, Tensor) or (isinstance(leaf, int) and leaf % 16 == 0):
                attributes[path] = [["tt.divisibility", 16]]
    options = {"num_warps": started.num_warps, "num_stages": started.num_stages}
    return Source(started.kernel, signature, constants, attributes, options)


def compiled(source: Source, target: str) -> Any:
    """Compile a kernel for a GPU that need not be there."""
    kernel = getattr(import_module(launch.KERNELS), source.kernel)
    ast = import_module("triton.compiler").ASTSource(kernel, *source[1:4])
    gpu = import_module("triton.backends.compiler").GPUTarget(*TARGETS[target])
    return import_module("triton").compile(ast, target=gpu, options=source.options)


def type_of(value: Any) -> Any:
    """Return the type of an argument as Triton takes it at a launch: numbers that are 1 are constants."""
    if isinstance(value, tuple):
        return tuple(map(type_of, value))
    if isinstance(value, Tensor):
        return POINTERS[value.dtype]
    if isinstance(value, float):
        return "fp32"
    if value is None or value == 1:
        return "constexpr"
    return "i32" if abs(value) < 2**31 else "i64"


def leaves(value: Any, path: tuple[int, ...]) -> Iterable[tuple[tuple[int, ...], Any]]:
    """Yield what a tuple of tuples holds, with the way to it."""
    if not isinstance(value, tuple):
        yield path, value
        return
    for index, item in enumerate(value):
        yield from leaves(item, (*path, index))


def resources(kernel: Any, target: str) -> dict[str, int]:
    """Return what a compiled kernel takes of a GPU: registers of a thread, spilled bytes, shared bytes of a program."""
    return {**(_of_amd(kernel) if target.startswith("gfx") else _of_nvidia(kernel)), "shared": kernel.metadata.shared}


def _of_nvidia(kernel: Any) -> dict[str, int]:
    """Read what the assembler of Triton tells of its code."""
    assembler = import_module("triton.backends.nvidia.compiler").get_ptxas(kernel.metadata.target.arch).path
    gpu = re.search(r"^\.target (\S+)", kernel.asm["ptx"], re.MULTILINE)
    assert gpu is not None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(kernel.asm["ptx"], encoding="utf-8")
        command = [assembler, "-v", f"--gpu-name={gpu[1]}", str(source), "-o", str(source.with_suffix(".cubin"))]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stderr  # noqa: S603 - Triton's own
    return {"registers": _number(r"Used (\d+) registers", told), "spilled": _number(r"(\d+) bytes spill stores", told)}


def _of_amd(kernel: Any) -> dict[str, int]:
    """Read what the code says of itself, in registers of 4 bytes."""
    text = kernel.asm["amdgcn"]
    return {
        "registers": _number(r"\.vgpr_count:\s+(\d+)", text),
        "spilled": 4 * _number(r"\.vgpr_spill_count:\s+(\d+)", text),
    }


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, f"{pattern} is not in: {text}"
    return int(found[1])


if __name__ == "__main__":
    main()
