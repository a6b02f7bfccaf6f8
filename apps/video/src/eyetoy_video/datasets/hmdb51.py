"""HMDB-51 (Kuehne et al., ICCV 2011): 6,766 clips of 51 actions from films and the web, in three divisions."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.held_out import Sample
from eyetoy_video.datasets.source import ListedSource, groups_by, hold_out, read_lines
from eyetoy_video.recipe import VideoData

LISTS = "testTrainMulti_7030_splits"
TRAIN, TEST = "1", "2"
"""Marks in the lists; clips marked 0 are in neither split."""

FETCH = """HMDB-51 is not in {root}: there is no {missing}. This fetches it (2.1 GB):
    mkdir -p {root} && cd {root} && wget \
http://serre-lab.clps.brown.edu/wp-content/uploads/2013/10/hmdb51_org.rar \
http://serre-lab.clps.brown.edu/wp-content/uploads/2013/10/test_train_splits.rar && \
unrar x test_train_splits.rar && unrar x hmdb51_org.rar archives/ && \
for file in archives/*.rar; do unrar x $file; done"""


def read_hmdb51(root: Path, fold: int = 1, seed: int = 0, grouping: Grouping | None = None) -> ClassFolder:
    """List `root/CLASS/*.avi` by `root/testTrainMulti_7030_splits/CLASS_test_split1.txt`, or 2 or 3.

    Every list marks 70 clips of its class for training and 30 for the test, and leaves out the others. The usual score
    is the mean over the three divisions. About a tenth of the training clips is held out for validation, by films: the
    clips of one film (`Film_wave_u_nm_np1_fr_med_0.avi`, the part before the action) are all in one of
    the two, whatever their action.

    Args:
        root: the folder of the set.
        fold: the division: 1, 2 or 3.
        seed: decides which films are held out.
        grouping: other groups for validation.

    Raises:
        FileNotFoundError: the set is missing. The message has the command that fetches it.
    """
    ending = f"_test_split{fold}.txt"
    tables = sorted((root / LISTS).glob(f"*{ending}"))
    if not tables:
        raise FileNotFoundError(FETCH.format(root=root, missing=root / LISTS / f"*{ending}"))
    classes = tuple(table.name.removesuffix(ending) for table in tables)
    marked: dict[str, list[Sample]] = {TRAIN: [], TEST: []}
    for label, (name, table) in enumerate(zip(classes, tables, strict=True)):
        for line in read_lines(table):
            # A line is a name and a mark. Names may have spaces, so both are taken from the end.
            if line.strip() and (mark := line.split()[-1]) in marked:
                marked[mark].append((root / name / line.strip().rsplit(maxsplit=1)[0], label))
    splits: dict[Split, tuple[Sample, ...]] = {"train": tuple(marked[TRAIN]), "test": tuple(marked[TEST])}
    groups = groups_by(grouping, splits, root, _film)
    splits["train"], splits["val"] = hold_out(splits["train"], seed, groups)
    return ClassFolder(classes, splits, groups=groups)


def _film(path: Path) -> str:
    return path.stem.rpartition(f"_{path.parent.name}_")[0]  # from the end: titles of films may have the action's name


def open_hmdb51(data: VideoData, seed: int) -> ListedSource:
    """Return the clips in `data.root` by the official division `data.fold`."""
    return ListedSource(data, partial(read_hmdb51, data.path, data.fold, seed, Grouping.of(data)))
