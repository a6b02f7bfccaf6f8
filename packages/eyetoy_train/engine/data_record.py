"""The data that a run was trained on, as its data.json: by it a resumed run and a later score find other files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from eyetoy_train.checkpoint.run_folder import RunFolder
from eyetoy_train.data.loading import size_of
from eyetoy_train.task import Task
from eyetoy_train.types import SampleStream, Split
from eyetoy_train.utils.files import write_text
from eyetoy_train.utils.untrusted import read_json


def data_record(task: Task) -> dict[str, Any]:
    """Return the names of the classes, and of every split the number of its samples and a digest of their names.

    Of a stream it is the number of its shards, and a digest of names and sizes of its files. Without an attribute
    `digest` there is none.
    """
    splits, streams = dict[str, Any](), dict[str, Any]()
    for split in get_args(Split):
        dataset = task.dataset(split)
        digest = getattr(dataset, "digest", None)
        if isinstance(dataset, SampleStream):
            streams[split] = {"shards": dataset.num_shards, "digest": digest}
        elif dataset is not None:
            splits[split] = {"samples": size_of(dataset), "digest": digest}
    return {"classes": list(getattr(task, "classes", [])), "splits": splits, "streams": streams}


def write_data_record(run: RunFolder, task: Task) -> None:
    """Write data.json of a run that begins."""
    write_text(run.data, json.dumps(data_record(task), indent=1) + "\n")


def refuse_other_data(run: RunFolder, task: Task) -> None:
    """Refuse to go on with other data than those that a run began with.

    Its model has learned other classes or files, and what was held out may be among them.

    Raises:
        ValueError: the classes or the samples of a split are others.
    """
    changes = data_changes(run.data, task)
    if changes:
        raise ValueError(
            f"{run.path} was interrupted, and its data have changed since it began: {'; '.join(changes)}. Bring them "
            "back, or train anew with another --name or --output_dir"
        )


def data_changes(record: Path, task: Task) -> list[str]:
    """Return in words how a task's data differ from those in data.json; nothing if the file is not there."""
    if not record.is_file():  # a run of an older version
        return []
    before, now = read_json(record), data_record(task)
    changes = []
    if before["classes"] != now["classes"]:
        gone = [name for name in before["classes"] if name not in now["classes"]]
        new = [name for name in now["classes"] if name not in before["classes"]]
        said = [f"{', '.join(names)} {verb}" for names, verb in ((gone, "gone"), (new, "new")) if names]
        changes.append(f"classes: {', '.join(said) or 'in another order'}")
    for split in get_args(Split):
        there, here = before["splits"].get(split), now["splits"].get(split)
        if there == here or (there and here and there["samples"] == here["samples"] and not there["digest"]):
            continue  # a run of an older version has no digest of pictures with boxes or label maps
        counts = [f"{one['samples']:,}" if one else "no" for one in (there, here)]
        changes.append(
            f"{split} has other files, {counts[1]} as before"
            if counts[0] == counts[1]
            else f"{split} has {counts[1]} samples, and had {counts[0]}"
        )
    if "streams" in before:  # a run of an older version does not tell
        changes += [
            f"{split} has other files or shards"
            for split in get_args(Split)
            if before["streams"].get(split) != now["streams"].get(split)
        ]
    return changes
