"""The commands `eyetoy recipes` and `eyetoy models`."""

from __future__ import annotations

import argparse
import fnmatch
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from eyetoy_cli.modalities import recipe_files
from eyetoy_train.types import MODALITIES

FACTS = ("Needs", "Time", "Score")
"""What the comments at the top of every recipe tell."""


def list_recipes(argv: Sequence[str]) -> int:
    """Print the recipes that match a pattern; the exit code is 1 if none does."""
    parser = argparse.ArgumentParser(
        description="List the recipes of eyetoy train: task, data, time and score. A recipe with all its values: "
        "eyetoy train MODALITY --config NAME --print_config"
    )
    _add_pattern(parser, "own_*")
    pattern = parser.parse_args(argv).pattern
    blocks = [
        _about_recipe(modality, name, file)
        for modality in MODALITIES
        for name, file in recipe_files(modality).items()
        if fnmatch.fnmatch(name, pattern)
    ]
    if not blocks:
        names = ", ".join(name for modality in MODALITIES for name in recipe_files(modality))
        return _nothing(f"no recipe matches {pattern!r}; the recipes are {names}")
    print("\n\n".join(blocks))  # noqa: T201
    return 0


def list_models(argv: Sequence[str]) -> int:
    """Print the models that match a pattern; the exit code is 1 if none does."""
    parser = argparse.ArgumentParser(
        description="List the models by name, for --model.name and eyetoy.create_model: millions of parameters "
        "without a head, dimension of the input, widths and blocks of the stages."
    )
    _add_pattern(parser, "eyetoy2d_*")
    pattern = parser.parse_args(argv).pattern
    import eyetoy  # here, because PyTorch comes with it

    names = eyetoy.list_models(pattern)
    if not names:
        return _nothing(f"no model matches {pattern!r}; the models are {', '.join(eyetoy.list_models())}")
    rows = [("model", "M parameters", "input", "widths", "blocks"), *map(_about_model, names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())  # noqa: T201
    return 0


def _add_pattern(parser: argparse.ArgumentParser, example: str) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help=f"names to list, such as '{example}' (default: all)")


def _nothing(why: str) -> int:
    print(f"{Path(sys.argv[0]).name}: {why}", file=sys.stderr)  # noqa: T201
    return 1


def _about_recipe(modality: str, name: str, file: Path) -> str:
    """Return what a recipe's file tells at its top: no recipe is parsed, which would take PyTorch and a second."""
    text = file.read_text(encoding="utf-8")
    task = re.search(r"^task: *(\w+)", text, re.MULTILINE)
    facts = dict(re.findall(rf"^# ({'|'.join(FACTS)}): (.+)$", text, re.MULTILINE))
    lines = [f"{name}  ({modality} {task[1] if task else 'classification'})"]
    lines += [f"  {fact.lower():5}  {facts[fact]}" for fact in FACTS if fact in facts]
    return "\n".join([*lines, f"  eyetoy train {modality} --config {name}"])


def _about_model(name: str) -> tuple[str, ...]:
    import torch

    import eyetoy

    with torch.device("meta"):  # only shapes: no weights are made
        encoder = eyetoy.create_encoder(name)
    params = eyetoy.encoder_params(name)
    size = sum(weights.numel() for weights in encoder.parameters()) / 1e6
    takes = {1: "sound", 2: "images", 3: "video"}[params.num_spatial_dims]
    return (
        name,
        f"{size:12.1f}",
        takes,
        ", ".join(map(str, params.stage_channels)),
        ", ".join(str(len(blocks)) for blocks in params.stages),
    )
