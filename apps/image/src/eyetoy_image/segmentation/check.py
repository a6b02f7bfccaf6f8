"""A look through the label maps of a set, for what a run would stumble over."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from eyetoy_image.segmentation.datasets.findings import find_bad, summary
from eyetoy_image.segmentation.datasets.layouts import read_set
from eyetoy_image.segmentation.recipe import SegmentationRecipe
from eyetoy_train import Split, parse_recipe
from eyetoy_train.utils.console import log


def check(default_config: Path, argv: Sequence[str] | None = None) -> int:
    """Check the label maps and pictures of a recipe's set, and name what is wrong.

    Returns:
        the exit code: 0 if all is right, 1 if something is wrong, 2 if it cannot be checked.
    """
    parser = argparse.ArgumentParser(
        description="Look for bad label maps and pictures. Further options are those of train.py, such as --config "
        "FILE and --data.root FOLDER.",
        allow_abbrev=False,
    )
    parser.add_argument("--split", choices=get_args(Split), help="look at this split alone")
    options, overrides = parser.parse_known_args(argv)
    recipe = parse_recipe(SegmentationRecipe, default_config, overrides)
    try:
        found = read_set(recipe.data)
        splits = [split for split in found.splits if options.split in (None, split)]
        if not splits:
            raise ValueError(f"{recipe.data.root} has no split {options.split}")
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    num_wrong = 0
    for split in splits:
        errors = list(find_bad(found.splits[split], found.table, open_files=True).values())
        num_wrong += len(errors)
        log(summary(f"{split} of {recipe.data.root}", found.splits[split], errors))
        for finding in errors:
            log(str(finding))
    return int(num_wrong > 0)
