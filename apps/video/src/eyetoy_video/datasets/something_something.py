"""Something-Something, version 2 (Goyal et al., ICCV 2017): 220,847 clips of 174 actions with objects.

Classes may differ in the direction of a motion only, so a mirror image may be of another class.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from eyetoy_train import ClassFolder, Split
from eyetoy_train.utils.untrusted import read_json
from eyetoy_video.datasets.source import ListedSource, find_clips, labelled
from eyetoy_video.recipe import VideoData

FOLDER = "20bn-something-something-v2"
TABLES: dict[Split, str] = {"train": "train", "val": "validation"}

FETCH = """Something-Something V2 is not in {root}: there is no {missing}. Its archives (19.4 GB) are at
https://www.qualcomm.com/developer/software/something-something-v-2-dataset, which asks you to agree to a licence.
Unpack the labels' archive in {root}; this unpacks the others there, from the folder with the downloads:
    cat 20bn-something-something-v2-?? | tar -xz -C {root}"""


def read_something_something(root: Path) -> ClassFolder:
    """List `root/20bn-something-something-v2/ID.webm`, or another suffix, by `labels.json`, `train.json` and so on.

    These files are in `root` or `root/labels`, with or without `something-something-v2-` before their names. Classes
    are in the order of labels.json; the class of a clip is its template without the brackets around placeholders.
    Scores are usually those of the validation set: the labels of the test are secret, and it is left out.

    Raises:
        FileNotFoundError: the set is missing. The message has the page with the download.
        ValueError: a template is not a class.
    """
    # labels.json maps names to numbers, which are texts: sorted as such, "10" would come before "2".
    names = _load(root, "labels", dict)
    classes = tuple(sorted(names, key=lambda name: int(str(names[name]))))
    labels = {name: number for number, name in enumerate(classes)}
    if not (root / FOLDER).is_dir():
        raise FileNotFoundError(FETCH.format(root=root, missing=root / FOLDER))
    present = find_clips(root / FOLDER)
    splits = {
        split: labelled([_row(root, present, clip) for clip in _load(root, table, list)], labels, _path(root, table))
        for split, table in TABLES.items()
    }
    return ClassFolder(classes, splits)


def _row(root: Path, present: dict[str, Path], clip: Any) -> tuple[Path, str]:
    if not isinstance(clip, dict) or not all(isinstance(clip.get(key), str) for key in ("id", "template")):
        raise ValueError(f"a clip should have an id and a template, which are texts; got {clip!r:.80}")
    name = clip["template"].replace("[", "").replace("]", "")
    return present.get(clip["id"], root / FOLDER / f"{clip['id']}.webm"), name


def _path(root: Path, name: str) -> Path:
    """Return the path of a table.

    Raises:
        FileNotFoundError: there is no such table.
    """
    for folder in (root, root / "labels"):
        for file in (f"{name}.json", f"something-something-v2-{name}.json"):
            if (folder / file).is_file():
                return folder / file
    raise FileNotFoundError(FETCH.format(root=root, missing=f"{name}.json"))


def _load(root: Path, name: str, kind: type) -> Any:
    content = read_json(_path(root, name))
    if not isinstance(content, kind):
        raise ValueError(f"{_path(root, name)} should hold a {kind.__name__}; got a {type(content).__name__}")
    return content


def open_something_something(data: VideoData, seed: int) -> ListedSource:
    """Return the clips in `data.root` by the set's labels."""
    return ListedSource(data, partial(read_something_something, data.path))
