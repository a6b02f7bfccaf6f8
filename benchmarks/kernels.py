"""Compile the Triton kernels without a GPU, and count registers and spills: `python benchmarks/kernels.py`.

For each shape of attention in some named models, in bfloat16: registers per thread, bytes that spill out of them,
shared memory and warps of the three kernels, as compiled for one GPU (default: sm_90). A shape is compiled with the
arguments that its launch would have. Nothing runs, so there are no times: those need a GPU, and `gpu.py`.

`--all` compiles all shapes of all named models for every GPU in `TARGETS`, and ends with exit code 1 if one cannot be.
`--output` writes the results to a folder.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eyetoy import create_encoder
from eyetoy.neighborhood.backends.registry import BACKENDS
from eyetoy.neighborhood.backends.triton import launch
from eyetoy.neighborhood.problem import Problem
from eyetoy.presets import IN_CHANNELS, MODELS

TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "sm_100": ("cuda", 100, 32), "gfx942": ("hip", "gfx942", 64)}
"""Backend, architecture and threads of a warp as Triton names them, for A100, H100, B200 and MI300."""

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
        grid, window = (" x ".join(map(str, sizes)) for sizes in (self.problem.grid, self.windows))
        return f"{grid}, {self.heads}, {self.head_dim}; {window}"

    @property
    def windows(self) -> list[int]:
        return [rule.window for rule in self.problem.rules]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=TARGETS, default="sm_90")
    parser.add_argument("--all", action="store_true", help="compile all shapes for all GPUs, and only say what fails")
    parser.add_argument("--output", type=Path, help="folder for results as JSON")
    options = parser.parse_args()
    if options.all:
        compile_all()
        return
    rows = []
    for model in SHOWN:
        for shape in shapes_of(model):
            rows.append({"model": model, "shape": str(shape), "kernels": measure(shape, options.target)})
            print_row(rows[-1], first=len(rows) == 1)
    if options.output:
        path = options.output / f"kernels-{options.target}.json"
        path.write_text(json.dumps({"conditions": conditions(options.target), "rows": rows}, indent=1) + "\n", encoding="utf-8")


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


def compiled(started: launch.Launch, target: str) -> Any:
    """Compile a launch for a GPU that need not be there."""
    triton: Any = import_module("triton")
    compiler: Any = import_module("triton.compiler")
    kernel = getattr(import_module(launch.KERNELS), started.kernel)
    signature, constants, attributes = {}, {}, {}
    for index, name in enumerate(kernel.arg_names):
        value = started.arguments[name]
        if name.isupper():  # constants are written so
            signature[name], constants[index,] = "constexpr", value
            continue
        signature[name] = type_of(value)
        for path, leaf in leaves(value, (index,)):
            if leaf is None or (isinstance(leaf, int) and leaf == 1):
                constants[path] = leaf
            elif isinstance(leaf, Tensor) or (isinstance(leaf, int) and leaf % 16 == 0):
                attributes[path] = [["tt.divisibility", 16]]
    source = compiler.ASTSource(kernel, signature, constants, attributes)
    options = {"num_warps": started.num_warps, "num_stages": started.num_stages}
    gpu = import_module("triton.backends.compiler").GPUTarget
    return triton.compile(source, target=gpu(*TARGETS[target]), options=options)


def type_of(value: Any) -> Any:
    """Return the type of an argument as Triton takes it at a launch: numbers that are 1 are constants."""
    if isinstance(value, tuple):
        return tuple(map(type_of, value))
    if isinstance(value, Tensor):
        return POINTERS[value.dtype]
    if value is None or value == 1:
        return "constexpr"
    if isinstance(value, float):
        return "fp32"
    return "i32" if abs(value) < 2**31 else "i64"


def leaves(value: Any, path: tuple[int, ...]) -> Iterable[tuple[tuple[int, ...], Any]]:
    """Yield what a tuple of tuples holds, with the way to it."""
    if not isinstance(value, tuple):
        yield path, value
        return
    for index, item in enumerate(value):
        yield from leaves(item, (*path, index))
