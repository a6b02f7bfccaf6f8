"""Speech Commands (Warden, arXiv:1804.03209) in its second version: 35 words by 2,618 speakers, a second each."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path

from accelerate import PartialState
from torchaudio.datasets import SPEECHCOMMANDS

from eyetoy_audio.recipe import AudioData
from eyetoy_train import ClassFolder, Split
from eyetoy_train.data.source import FolderSource
from eyetoy_train.utils.console import log
from eyetoy_train.utils.files import list_folders

VERSION = "speech_commands_v0.02"
FOLDER = Path("SpeechCommands", VERSION)
BACKGROUND_NOISE = "_background_noise_"
LISTS = ("validation_list.txt", "testing_list.txt")
SHOWN = 8
"""Number of speakers named in a message."""
SUBSETS: dict[Split, str] = {"train": "training", "val": "validation", "test": "testing"}

FETCH = """{wrong}. This fetches it (2.4 GB):
    python -c "import os, torchaudio; os.makedirs('{root}', exist_ok=True); \
torchaudio.datasets.SPEECHCOMMANDS('{root}', download=True)"
Remove first what an interrupted unpacking left in {folder}.
Copies in Parquet files on Hugging Face's hub can be read too: --data.source hub --data.root OWNER/NAME. Not
google/speech_commands itself: it is a script, which datasets 4 no longer runs. It has a class _silence_ and another
test split."""

Clip = tuple[Path, str, str]
"""The path, the word, and the speaker."""


def read_speech_commands(root: Path) -> ClassFolder:
    """List `root/SpeechCommands/speech_commands_v0.02/WORD/*.wav` by the official lists, words as classes.

    The official lists have every speaker in one split. If a speaker is in two, a message is logged; other lists are not
    refused, since they may be wanted.

    Raises:
        FileNotFoundError: the set, or a part of it, is missing. The message has the command that fetches it.
    """
    folder = root / FOLDER
    if not all((folder / name).is_file() for name in LISTS):
        raise FileNotFoundError(_fetch(root, f"Speech Commands is not in {root}"))
    clips = {split: _clips(root, subset) for split, subset in SUBSETS.items()}
    # Validation and test are listed in files. Training has no list: it is every other clip in the folders.
    listed = [path for split in ("val", "test") for path, _, _ in clips[split]]
    missing = [path for path in listed if not path.is_file()]
    if missing:
        wrong = f"{len(missing)} of {len(listed)} clips that the lists of Speech Commands name are missing, such as"
        raise FileNotFoundError(_fetch(root, f"{wrong} {missing[0]}"))
    _log_shared_speakers(clips)
    words = [path.name for path in list_folders(folder) if path.name != BACKGROUND_NOISE]
    labels = {word: label for label, word in enumerate(words)}
    splits = {split: tuple((path, labels[word]) for path, word, _ in found) for split, found in clips.items()}
    return ClassFolder(tuple(words), splits)


def background_noise(root: Path) -> Path:
    """Return the folder of the set's recordings of noise, each about a minute long."""
    return root / FOLDER / BACKGROUND_NOISE


def _clips(root: Path, subset: str) -> list[Clip]:
    # torchaudio lists the clips; it is not used to load them, which it does without our checks of damaged files.
    dataset, archive = SPEECHCOMMANDS(root, url=VERSION, subset=subset), root / FOLDER.parent
    metadata = (dataset.get_metadata(index) for index in range(len(dataset)))
    return [(archive / path, word, speaker) for path, _, word, speaker, _ in metadata]


def _log_shared_speakers(clips: dict[Split, list[Clip]]) -> None:
    """Log speakers who are in two splits, on the main process."""
    speakers = {split: {speaker for _, _, speaker in found} for split, found in clips.items()}
    for one, other in combinations(speakers, 2):
        shared = sorted(speakers[one] & speakers[other])
        if shared and PartialState().is_main_process:
            named = ", ".join(shared[:SHOWN])
            log(f"the lists of Speech Commands have {len(shared)} speakers in {one} and in {other}, such as {named}")


def _fetch(root: Path, wrong: str) -> str:
    return FETCH.format(wrong=wrong, root=root, folder=root / FOLDER)


def open_speech_commands(data: AudioData, seed: int) -> FolderSource:
    """Return the clips in `data.root` by the official lists."""
    return FolderSource(partial(read_speech_commands, data.path))
