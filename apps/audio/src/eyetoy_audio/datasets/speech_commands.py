"""Speech Commands (Warden, arXiv:1804.03209) in its second version: 35 words by 2,618 speakers, a second each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

from accelerate import PartialState
from torchaudio.datasets import SPEECHCOMMANDS

from eyetoy_audio.recipe import AudioData
from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.source import FolderSource
from eyetoy_train.utils.console import log

VERSION = "speech_commands_v0.02"
FOLDER = Path("SpeechCommands", VERSION)
BACKGROUND_NOISE = "_background_noise_"
LISTS = ("validation_list.txt", "testing_list.txt")
SHOWN = 8
"""How many of the speakers in two splits are named."""
SUBSETS: dict[Split, str] = {"train": "training", "val": "validation", "test": "testing"}

FETCH = """{wrong}. This fetches it (2.4 GB):
    python -c "import os, torchaudio; os.makedirs('{root}', exist_ok=True); \
torchaudio.datasets.SPEECHCOMMANDS('{root}', download=True)"
What an interrupted unpacking left in {folder} has to be removed before.
Copies in Parquet files on Hugging Face's hub can be read too: --data.source hub --data.root OWNER/NAME. Not
google/speech_commands itself: it is a script, which datasets 4 no longer runs. It has a class _silence_ and another
test split."""

Clip = tuple[Path, str, str]
"""Where it lies, the word, and the speaker."""


def read_speech_commands(root: Path) -> ClassFolder:
    """List `root/SpeechCommands/speech_commands_v0.02/WORD/*.wav` by the official lists, words as classes.

    The lists leave every speaker in one split. If they do not, it is said and not refused: the scores then are those of
    other lists, which may be wanted.

    Raises:
        FileNotFoundError: it is not there, or not all of it. The message says how to fetch it.
    """
    folder = root / FOLDER
    if not all((folder / name).is_file() for name in LISTS):
        raise FileNotFoundError(_fetch(root, f"Speech Commands is not in {root}"))
    clips = {split: _clips(root, subset) for split, subset in SUBSETS.items()}
    _check_complete(root, [path for split in ("val", "test") for path, _, _ in clips[split]])
    _log_shared_speakers(clips)
    words = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != BACKGROUND_NOISE)
    labels = {word: label for label, word in enumerate(words)}
    splits = {split: tuple((path, labels[word]) for path, word, _ in found) for split, found in clips.items()}
    return ClassFolder(tuple(words), splits)


def background_noise(root: Path) -> Path:
    """Return the folder of the set's recordings of noise, which are about a minute long."""
    return root / FOLDER / BACKGROUND_NOISE


def _clips(root: Path, subset: str) -> list[Clip]:
    dataset, archive = SPEECHCOMMANDS(root, url=VERSION, subset=subset), root / FOLDER.parent
    about = (dataset.get_metadata(index) for index in range(len(dataset)))
    return [(archive / path, word, speaker) for path, _, word, speaker, _ in about]


def _check_complete(root: Path, listed: Sequence[Path]) -> None:
    missing = [path for path in listed if not path.is_file()]
    if missing:
        wrong = f"{len(missing)} of {len(listed)} clips that the lists of Speech Commands name are not there, such as"
        raise FileNotFoundError(_fetch(root, f"{wrong} {missing[0]}"))


def _log_shared_speakers(clips: dict[Split, list[Clip]]) -> None:
    """Name speakers who are in two splits, on the main process."""
    speakers = {split: {speaker for _, _, speaker in found} for split, found in clips.items()}
    for one, other in combinations(speakers, 2):
        shared = sorted(speakers[one] & speakers[other])
        if shared and PartialState().is_main_process:
            named = ", ".join(shared[:SHOWN])
            log(f"the lists of Speech Commands leave {len(shared)} speakers in {one} and in {other}, such as {named}")


def _fetch(root: Path, wrong: str) -> str:
    return FETCH.format(wrong=wrong, root=root, folder=root / FOLDER)


def open_speech_commands(data: AudioData, seed: int) -> FolderSource:
    """Return the clips in `data.root` by the official lists."""
    return FolderSource(partial(read_speech_commands, data.path))
