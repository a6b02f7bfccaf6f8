"""Sets of video files, each read from the layout that it comes in."""

from __future__ import annotations

from pathlib import Path

from eyetoy_train import ClassFolder, read_class_folder
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_video.datasets.hmdb51 import read_hmdb51
from eyetoy_video.datasets.kinetics import read_kinetics
from eyetoy_video.datasets.listing import missing_files, without_missing
from eyetoy_video.datasets.lists import read_lists, write_lists
from eyetoy_video.datasets.something_something import read_something_something
from eyetoy_video.datasets.ucf101 import read_ucf101
from eyetoy_video.recipe import VideoData

__all__ = ["list_clips", "missing_files", "without_missing", "write_lists"]


def list_clips(data: VideoData, seed: int) -> ClassFolder:
    """List the files of the set that a recipe names, with those that its lists name and that are not there.

    Raises:
        FileNotFoundError: there is no such set. The message says how to fetch it.
        ValueError: its lists contradict each other, or it is one of the hub.
    """
    root = Path(data.root)
    readers = {
        "list": lambda: read_lists(root, data.path_prefix, seed),
        "kinetics": lambda: read_kinetics(root, data.path_prefix, seed),
        "something_something": lambda: read_something_something(root),
        "ucf101": lambda: read_ucf101(root, data.fold, seed),
        "hmdb51": lambda: read_hmdb51(root, data.fold, seed),
    }
    if data.source == "hub":
        raise ValueError(f"{data.root} is a set of the hub, which has no list of files")
    return readers.get(data.source, lambda: read_class_folder(root, VIDEO_SUFFIXES, seed=seed))()
