"""Check the annotations of a data set before a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from eyetoy_image.detection.app import APP
from eyetoy_image.detection.datasets.findings import Finding, find_bad, summary
from eyetoy_image.detection.recipe import DetectionRecipe
from eyetoy_image.detection.task import Detection
from eyetoy_train import Split, parse_recipe
from eyetoy_train.commands.cli import check_parser, parse_with_overrides, refuse_ignored_options
from eyetoy_train.commands.ending import exit_on_error
from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import write_text
from eyetoy_train.utils.untrusted import read_json


@exit_on_error()
def check(argv: Sequence[str] | None = None) -> int:
    """Check the annotations and images of a recipe's set, log findings, and write files without the bad ones.

    The exit code is returned, see `check_parser`.
    """
    parser = check_parser("Find bad annotations and images.")
    parser.add_argument("--output", type=Path, help="folder for annotation files without the bad annotations")
    options, overrides = parse_with_overrides(parser, argv)
    recipe = parse_recipe(DetectionRecipe, APP.default_config, overrides)
    refuse_ignored_options(DetectionRecipe, overrides, "check")
    splits = get_args(Split) if options.split is None else (options.split,)
    found = [_check(Detection(recipe), split, options.output) for split in splits]
    if all(findings is None for findings in found):
        raise ValueError(f"{recipe.data.root} has no split {', '.join(splits)}")
    return int(any(found))


def _check(task: Detection, split: Split, output: Path | None) -> list[Finding] | None:
    files, coco = task.source.find_files(split), task.source.split(split)
    if files is None or coco is None:
        return None
    findings = find_bad(coco, task.categories, with_masks=task.with_masks, open_files=True)
    log(summary(coco, findings))
    for finding in findings:
        log(str(finding))
    if output:
        output.mkdir(parents=True, exist_ok=True)
        write_clean(files[0], findings, output / files[0].name)
    return findings


def write_clean(path: Path, findings: Sequence[Finding], output: Path) -> None:
    """Write a copy of an annotation file without bad annotations, and without bad images and theirs.

    Args:
        path: the annotation file.
        findings: what to leave out.
        output: the new file.

    Raises:
        ValueError: `output` is the file itself.
    """
    if output.exists() and output.samefile(path):
        raise ValueError(f"--output would overwrite {path}; give another folder")
    content = read_json(path)
    # By position, not by id: bad annotations may have no id, or one that another has too.
    places = {finding.annotation.place for finding in findings if finding.annotation is not None}
    pictures = {finding.picture.id for finding in findings if finding.picture and finding.annotation is None}
    content["images"] = [entry for entry in content["images"] if entry["id"] not in pictures]
    content["annotations"] = [
        entry
        for place, entry in enumerate(content["annotations"])
        if place not in places and entry["image_id"] not in pictures
    ]
    write_text(output, json.dumps(content))
