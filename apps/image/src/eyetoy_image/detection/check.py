"""Check the annotations of a data set before a run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from eyetoy_image.dense.annotations import annotations_parser, named
from eyetoy_image.detection.app import APP
from eyetoy_image.detection.datasets.dataset import truth_of
from eyetoy_image.detection.datasets.findings import Finding, find_bad, summary, without
from eyetoy_image.detection.datasets.objects import CocoSet
from eyetoy_image.detection.recipe import DetectionRecipe
from eyetoy_image.detection.task import Detection
from eyetoy_train import Split, parse_recipe
from eyetoy_train.commands.check import log_read
from eyetoy_train.commands.cli import parse_with_overrides, refuse_ignored_options
from eyetoy_train.ending import exit_on_error
from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import write_text
from eyetoy_train.utils.untrusted import read_json


@exit_on_error()
def check(argv: Sequence[str] | None = None) -> int:
    """Check the annotations and images of a recipe's set, log findings, and write files without the bad ones.

    The exit code is returned, see `check_parser`.
    """
    parser = annotations_parser("Find bad annotations and images.")
    parser.add_argument("--output", type=Path, help="folder for annotation files without the bad annotations")
    options, overrides = parse_with_overrides(parser, argv)
    recipe = parse_recipe(DetectionRecipe, APP.default_config, overrides)
    refuse_ignored_options(DetectionRecipe, overrides, "check")
    task = Detection(recipe)
    splits = get_args(Split) if options.split is None else (options.split,)
    present = {split: coco for split in splits if (coco := task.source.split(split)) is not None}
    if not present:
        raise ValueError(f"{recipe.data.root} has no split {', '.join(splits)}")
    log_read(task.source, {split: [(one.path, None) for one in coco.pictures] for split, coco in present.items()})
    with_masks = task.with_masks and not task.source.has_boxes_alone
    if task.with_masks and not with_masks:
        log("no annotation has a mask, so boxes alone are checked; to train, take --detector.kind faster_rcnn")
    found = {split: _check(task, coco, options, with_masks=with_masks) for split, coco in present.items()}
    if options.output:
        shared = [coco.path for coco in present.values() if coco.path.is_file() and coco.split is not None]
        if options.split and shared:
            raise ValueError(
                f"--output writes {shared[0].name} with all of its splits; leave out --split {options.split}"
            )
        write_sets(present, found, options.output, with_masks=with_masks)
    return int(any(found.values()))


def _check(task: Detection, coco: CocoSet, options: argparse.Namespace, *, with_masks: bool) -> list[Finding]:
    findings = find_bad(coco, task.categories, with_masks=with_masks, open_files=True)
    log(summary(coco, findings))
    for line in named(findings, options):
        log(line)
    return findings


def write_sets(
    sets: Mapping[Split, CocoSet], findings: Mapping[Split, list[Finding]], output: Path, *, with_masks: bool
) -> None:
    """Write annotation files in COCO's format without bad annotations, and without bad images and theirs.

    Args:
        sets: the splits.
        findings: what to leave out of each.
        output: the folder of the new files. A file of COCO's format keeps its name and its other content; the others
            are `instances_SPLIT.json`.
        with_masks: whether areas that are missing are those of masks, or of boxes; files of COCO's format keep theirs.

    Raises:
        ValueError: a new file would be one that is read, or two files have one name.
    """
    output.mkdir(parents=True, exist_ok=True)
    files: dict[Path, list[Finding]] = {}  # some splits are held out of the file of another
    for split, coco in sets.items():
        if coco.path.is_file():
            files.setdefault(coco.path, []).extend(findings[split])
        else:
            content = to_coco(without(coco, findings[split]), coco.path, with_masks=with_masks)
            write_text(output / f"instances_{split}.json", json.dumps(content))
    if len({path.name for path in files}) < len(files):
        raise ValueError(f"--output cannot hold {' and '.join(map(str, files))}, which have one name; take --split")
    for path, bad in files.items():
        write_clean(path, bad, output / path.name)


def to_coco(coco: CocoSet, root: Path, *, with_masks: bool) -> dict[str, Any]:
    """Return a split as the content of a file of COCO's format, with file names from `root` on; see `write_sets`."""
    truths = [(picture, truth_of(picture, with_masks=with_masks)["annotations"]) for picture in coco.pictures]
    entries = [
        {**one.content, "area": truth["area"], "image_id": picture.id}
        for picture, annotations in truths
        for one, truth in zip(picture.annotations, annotations, strict=True)
    ]
    return {
        "images": [
            {
                "id": picture.id,
                "file_name": picture.path.relative_to(root).as_posix(),
                "width": picture.width,
                "height": picture.height,
            }
            for picture in coco.pictures
        ],
        "annotations": [entry | {"id": number} for number, entry in enumerate(entries, 1)],
        "categories": [{"id": category.id, "name": category.name} for category in coco.categories],
    }


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
