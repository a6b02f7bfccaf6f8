"""Video files in class folders."""

from __future__ import annotations

from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.source import FolderSource
from eyetoy_train.media.kinds import VIDEO_SUFFIXES
from eyetoy_video.recipe import VideoData


def open_folder(data: VideoData, seed: int) -> FolderSource:
    """Return the files of `data.root`; see `read_class_folder`."""
    return FolderSource.of_classes(data.root, VIDEO_SUFFIXES, seed, fold=data.test_fold, grouping=Grouping.of(data))
