"""Check the label maps of a data set before a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from eyetoy_image.dense.annotations import BadAnnotationsError, annotations_parser, named
from eyetoy_image.segmentation.app import APP
from eyetoy_image.segmentation.datasets import DATASETS
from eyetoy_image.segmentation.datasets.findings import find_bad, ignored_summary, refuse_one_class, summary, void_hint
from eyetoy_image.segmentation.recipe import SegmentationRecipe
from eyetoy_train import parse_recipe
from eyetoy_train.commands.check import log_read
from eyetoy_train.commands.cli import parse_with_overrides, refuse_ignored_options
from eyetoy_train.ending import exit_on_error
from eyetoy_train.utils.console import log


@exit_on_error()
def check(argv: Sequence[str] | None = None) -> int:
    """Check the label maps and images of a recipe's set, and log findings.

    The exit code is returned, see `check_parser`.
    """
    options, overrides = parse_with_overrides(annotations_parser("Find bad label maps and images."), argv)
    recipe = parse_recipe(SegmentationRecipe, APP.default_config, overrides)
    refuse_ignored_options(SegmentationRecipe, overrides, "check")
    num_wrong = 0
    source = DATASETS.open(recipe.data, recipe.seed)
    found = source.set
    log_read(source, {split: [(one.path, None) for one in pictures] for split, pictures in found.splits.items()})
    splits = [split for split in found.splits if options.split in (None, split)]
    if not splits:
        raise ValueError(f"{recipe.data.root} has no split {options.split}")
    for split in splits:
        place, pixels = f"{split} of {recipe.data.root}", Counter[int]()
        errors = list(find_bad(found.splits[split], found.table, open_files=True, pixels=pixels).values())
        num_wrong += len(errors)
        log(summary(place, found.splits[split], errors))
        hint = void_hint(place, found.table, errors, pixels)
        # A value that most maps have is void, and the hint says all of it; of one that few have, they are named.
        is_void = bool(hint) and 2 * sum(bool(error.pixels) for error in errors) > len(found.splits[split])
        rest = [error for error in errors if options.all or not (is_void and error.pixels)]
        for line in [*filter(None, [hint]), *named(rest, options)]:
            log(line)
        try:
            if split == "train":
                refuse_one_class(place, found.table, pixels)
        except BadAnnotationsError as error:
            num_wrong += 1
            log(str(error))
        if ignored := ignored_summary(place, found.table, pixels):
            log(ignored)
    return int(num_wrong > 0)
