"""The ten command words of Speech Commands, spoken by espeak-ng: a data set that needs no download.

The speakers are disjoint: a variant of espeak-ng's voices (the timbre) that speaks in `val` or `test` never speaks
in `train`. Every variant speaks every word once in every accent, each time at another pitch, rate and level. The
speech is synthetic, and cleaner than any recording.
"""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import soundfile
import torchaudio
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from eyetoy_audio.datasets.espeak import Synthesizer
from eyetoy_audio.io.files import EXTENSIONS
from eyetoy_audio.recipe import AudioData
from eyetoy_train.data.folder import move_into_place
from eyetoy_train.data.source import FolderSource

SAMPLE_RATE = 16_000
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")

# All English accents of espeak-ng except en-shaw, which is Received Pronunciation written in another alphabet.
ACCENTS = (
    "en-029",
    "en-gb",
    "en-gb-scotland",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-x-rp",
    "en-us",
    "en-us-nyc",
)

# Pitches and rates for `Synthesizer.say`; the largest absolute sample of a clip.
PITCHES = (15, 85)
RATES = (110, 220)
PEAKS = (0.3, 0.95)

# Samples at either end below this fraction of the peak are silence, of which so many seconds are kept.
SILENCE = 0.02
MARGIN = 0.03


@dataclass(frozen=True)
class Split:
    """A split of the data.

    Attributes:
        name: name of its folder.
        variants: its speakers: espeak-ng's voice variants, without the plus sign.
        clips: number of clips of each word by each speaker, in alternating accents.
    """

    name: str
    variants: tuple[str, ...]
    clips: int = len(ACCENTS)


# The variants were compared by the distance between the log-mel spectra of their words, at one pitch and rate, and by
# training a network on some and testing it on the others. Left out:
# - near duplicates, of which one is kept: Alex Gene2 Henrique Hugo Mike adam benjamin edward2 fast gustave iven iven4
#   john klatt2 klatt3 klatt5 klatt6 m6 michel rob robosoft3 robosoft4 robosoft5 robosoft7 steph2 steph3 victor
# - effects rather than voices, long echoes above all: Demonic RicishayMax RicishayMax2 RicishayMax3 UniRobot anikaRobot
#   robosoft8
# - iven2, of whose words (up and left above all) the network mistook one in seven
# - Storm, which has an accent already, and "Mr serious", whose name has a space.
# Held-out variants have no near duplicate in training, and none is of a kind unknown to training: klatt, the only one
# of its synthesizer, is in training, because networks trained without it mistook a third of its words.
TRAIN_VARIANTS = (
    *("Alicia", "Andrea", "Andy", "Denis", "Diogo", "Gene", "Lee", "Marco", "Mario", "Michael", "Nguyen", "Reed"),
    *("announcer", "antonio", "belinda", "caleb", "croak", "ed", "edward", "f2", "f3", "f4", "f5", "grandma"),
    *("grandpa", "ian", "iven3", "kaukovalta", "klatt", "klatt4", "m1", "m3", "m4", "m5", "m7", "m8", "max"),
    *("miguel", "mike2", "paul", "pedro", "quincy", "robert", "robosoft", "robosoft2", "robosoft6", "shelby"),
    *("whisper", "whisperf", "zac"),
)
VAL_VARIANTS = ("Annie", "anika", "marcelo", "norbert", "pablo", "travis")
TEST_VARIANTS = ("AnxiousAndy", "Jacky", "Tweaky", "aunty", "boris", "david", "f1", "linda", "m2", "sandro", "steph")

SPLITS = (Split("train", TRAIN_VARIANTS), Split("val", VAL_VARIANTS), Split("test", TEST_VARIANTS))

README = """\
Ten command words as synthetic speech: {words}.

Spoken by espeak-ng {espeak}, in the accents
{accents}.
16-bit PCM, one channel, {sample_rate} Hz, of natural length.
Each file is {{split}}/{{word}}/{{accent}}+{{variant}}_{{k}}.wav.

The speakers (espeak-ng's voice variants) of the splits are disjoint:
{speakers}

Written by eyetoy_audio.datasets.spoken_keywords with seed {seed}; espeakng-loader {loader}, torchaudio {torchaudio}.
The same seed and versions give the same files.
"""


@dataclass(frozen=True)
class _Utterance:
    voice: str
    pitch: int
    rate: int
    peak: float


def write_spoken_keywords(
    root: Path, *, seed: int = 0, words: Sequence[str] = WORDS, splits: Sequence[Split] = SPLITS
) -> None:
    """Write `root/{split}/{word}/{accent}+{variant}_{k}.wav` and `root/README.txt`; all of it, or nothing.

    The files are 16-bit PCM, mono, 16 kHz, at most about a second long. The defaults give 4,000 clips for training, 480
    for validation and 880 for the test, in about 15 seconds. The same arguments give the same files.

    Args:
        root: a folder that does not exist yet.
        seed: of the pitches, rates, levels and the order of the accents.
        words: the words; each becomes a folder.
        splits: the splits with their speakers.

    Raises:
        FileExistsError: `root` exists; it is left unchanged.
        ValueError: two splits share a speaker, or espeak-ng has no such variant.
        ImportError: espeakng-loader is not installed.
    """
    if root.exists() or root.is_symlink():
        raise FileExistsError(f"{root} exists already; name a folder that does not exist")
    _check_disjoint(splits)
    root.parent.mkdir(parents=True, exist_ok=True)
    # Written to a temporary folder and renamed, so that an interrupted run does not leave a part that looks complete.
    # In the parent of `root`, because a rename works within one file system only.
    with Synthesizer() as synthesizer, tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as folder:
        tree = Path(folder, "whole")
        for split in splits:
            for word in words:
                _write_word(tree / split.name / word, word, split, seed, synthesizer)
        readme = README.format(
            words=", ".join(words),
            espeak=synthesizer.version,
            accents=", ".join(ACCENTS),
            sample_rate=SAMPLE_RATE,
            speakers="\n".join(f"{split.name}: {', '.join(split.variants)}" for split in splits),
            seed=seed,
            loader=version("espeakng-loader"),
            torchaudio=version("torchaudio"),
        )
        (tree / "README.txt").write_text(readme, encoding="utf-8")
        move_into_place(tree, root)


def _check_disjoint(splits: Sequence[Split]) -> None:
    seen: dict[str, str] = {}
    for split in splits:
        for variant in split.variants:
            if variant in seen:
                both = f"{seen[variant]!r} and in {split.name!r}"
                raise ValueError(f"{variant!r} speaks in {both}; it should speak in one only")
            seen[variant] = split.name


def _write_word(folder: Path, word: str, split: Split, seed: int, synthesizer: Synthesizer) -> None:
    folder.mkdir(parents=True)
    utterances = {
        f"{utterance.voice}_{k}.wav": utterance
        for variant in split.variants
        # A seed for each word and speaker: a clip does not depend on which others are written.
        for k, utterance in enumerate(_draw_utterances(f"{seed} {word} {variant}", variant, split.clips))
    }
    for (name, utterance), clip in zip(utterances.items(), _speak(synthesizer, word, utterances.values()), strict=True):
        clip = _trim(clip)
        (folder / name).write_bytes(_encode(clip * (utterance.peak / clip.abs().max())))


def _speak(synthesizer: Synthesizer, word: str, utterances: Iterable[_Utterance]) -> Tensor:
    """Return clips `[clips, samples]` at 16 kHz, with silence after the shorter ones."""
    spoken = [
        synthesizer.say(word, utterance.voice, pitch=utterance.pitch, rate=utterance.rate)[0]
        for utterance in utterances
    ]
    # Resampled all at once: one by one, starting threads for each small convolution takes longer than the synthesis.
    padded = pad_sequence(spoken, batch_first=True)
    clips: Tensor = torchaudio.functional.resample(padded, synthesizer.sample_rate, SAMPLE_RATE)
    return clips


def _draw_utterances(seed: str, variant: str, count: int) -> list[_Utterance]:
    rng = random.Random(seed)
    # The order of these calls is part of the data set: another one would give other files for the same seed.
    accents = rng.sample(ACCENTS, len(ACCENTS))
    return [
        _Utterance(
            voice=f"{accents[k % len(accents)]}+{variant}",
            pitch=rng.randint(*PITCHES),
            rate=rng.randint(*RATES),
            peak=rng.uniform(*PEAKS),
        )
        for k in range(count)
    ]


def _trim(samples: Tensor) -> Tensor:
    level = samples.abs()
    heard = (level > SILENCE * level.max()).nonzero().flatten()
    margin = round(MARGIN * SAMPLE_RATE)
    return samples[max(0, int(heard[0]) - margin) : int(heard[-1]) + 1 + margin]


def _encode(clip: Tensor) -> bytes:
    # In memory first: soundfile flushes each file to the disk, which takes longer than the synthesis.
    encoded = io.BytesIO()
    soundfile.write(encoded, clip.numpy(), SAMPLE_RATE, subtype="PCM_16", format="WAV")
    return encoded.getvalue()


def open_spoken_keywords(data: AudioData, seed: int) -> FolderSource:
    """Return the clips in `data.root`, synthesised there if it is missing."""
    return FolderSource.of_classes(data.root, EXTENSIONS, seed, write=write_spoken_keywords)
