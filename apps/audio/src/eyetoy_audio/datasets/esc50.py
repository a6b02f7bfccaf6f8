"""ESC-50 (Piczak, ACM Multimedia 2015): 2,000 environmental sounds of 50 classes, five seconds each, in five folds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from eyetoy_audio.recipe import AudioData
from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.source import FolderSource
from eyetoy_train.utils.untrusted import read_table

FOLDER = "ESC-50-master"
NUM_FOLDS = 5

FETCH = """{wrong}. This fetches it (about 650 MB):
    python -c "import shutil; from urllib.request import urlretrieve as get; \
shutil.unpack_archive(get('https://github.com/karolpiczak/ESC-50/archive/master.zip')[0], '{root}', 'zip')\""""

Row = dict[str, str]


def read_esc50(root: Path, fold: int = 1, val_fold: int | None = None) -> ClassFolder:
    """List `root/ESC-50-master/audio/*.wav` by `meta/esc50.csv`; classes are in the order of their `target`.

    The usual score is the mean over the five folds, each used for the test once.

    Args:
        root: the folder that holds ESC-50-master.
        fold: the fold for the test, from 1 to 5.
        val_fold: the fold for validation; by default the next one, with the first after the fifth. The other folds are
            for training.

    Raises:
        FileNotFoundError: the set, or a part of it, is missing. The message has the command that fetches it.
        ValueError: a fold is not from 1 to 5, or both are equal.
    """
    val_fold = fold % NUM_FOLDS + 1 if val_fold is None else val_fold
    for name, value in (("fold", fold), ("val_fold", val_fold)):
        if not 1 <= value <= NUM_FOLDS:
            raise ValueError(f"{name} must be from 1 to {NUM_FOLDS}; got {value}")
    if fold == val_fold:
        raise ValueError(f"fold and val_fold must differ, so that the test is held out; both are {fold}")
    # Whole folds, not clips at random: several clips are cut from the same recording, always within one fold.
    rows = _read_rows(root)
    names = {int(row["target"]): row["category"] for row in rows}
    # ESC-10, a part of the set, has targets with gaps, such as 0, 1, 10, 11; labels have none.
    labels = {target: label for label, target in enumerate(sorted(names))}
    splits: dict[Split, list[tuple[Path, int]]] = {"train": [], "val": [], "test": []}
    usage: dict[int, Split] = {fold: "test", val_fold: "val"}
    for row in rows:
        split = usage.get(int(row["fold"]), "train")
        splits[split].append((_audio(root) / row["filename"], labels[int(row["target"])]))
    classes = tuple(names[target] for target in sorted(names))
    return ClassFolder(classes, {split: tuple(sorted(samples)) for split, samples in splits.items()})


def _audio(root: Path) -> Path:
    return root / FOLDER / "audio"


def _read_rows(root: Path) -> list[Row]:
    path = root / FOLDER / "meta" / "esc50.csv"
    if not path.is_file():
        raise FileNotFoundError(FETCH.format(wrong=f"ESC-50 is not in {root}", root=root))
    rows = read_table(path, ("filename", "fold", "target", "category"))
    missing = [row["filename"] for row in rows if not (_audio(root) / row["filename"]).is_file()]
    if missing:
        wrong = f"{len(missing)} of {len(rows)} clips of ESC-50 are not in {_audio(root)}, such as {missing[0]}"
        raise FileNotFoundError(FETCH.format(wrong=wrong, root=root))
    return rows


def open_esc50(data: AudioData, seed: int) -> FolderSource:
    """Return the clips in `data.root` by `data.fold`."""
    return FolderSource(partial(read_esc50, data.path, data.fold))
