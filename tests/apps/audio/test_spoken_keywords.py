"""The spoken keywords: disjoint speakers, the files' form, all or nothing. Small trees, but for the lists of voices."""

from __future__ import annotations

import re

import pytest
import soundfile
import torch

from eyetoy_audio.datasets.espeak import Synthesizer
from eyetoy_audio.datasets.spoken_keywords import ACCENTS, SPLITS, WORDS, Split, write_spoken_keywords

SMALL = (Split("train", ("f3", "m5"), clips=9), Split("val", ("steph",), clips=2), Split("test", ("klatt",), clips=3))


def wavs(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.wav")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("keywords") / "new" / "spoken"
    write_spoken_keywords(root, words=("yes", "stop"), splits=SMALL)
    return root


def test_every_speaker_says_every_word_as_often_as_asked(tree):
    for split in SMALL:
        for word in ("yes", "stop"):
            names = [path.stem for path in (tree / split.name / word).iterdir()]
            voices = [re.fullmatch(r"(.+)\+(.+)_\d+", name).groups() for name in names]
            assert sorted(variant for _, variant in voices) == sorted(split.variants * split.clips)
            assert {accent for accent, _ in voices} <= set(ACCENTS)


def test_more_clips_than_accents_use_every_accent(tree):
    names = [path.name for path in (tree / "train" / "yes").glob("*+f3_*.wav")]
    assert {name.partition("+")[0] for name in names} == set(ACCENTS)


def test_files_are_short_loud_enough_16_bit_mono_16_khz_and_trimmed(tree):
    for path in tree.rglob("*.wav"):
        about = soundfile.info(path)
        assert (about.subtype, about.channels, about.samplerate) == ("PCM_16", 1, 16_000)
        assert 0.1 < about.duration < 1.05
        samples = torch.from_numpy(soundfile.read(path, dtype="float32")[0]).abs()
        assert 0.29 < samples.max() < 0.96
        heard = (samples > 0.019 * samples.max()).nonzero().flatten() / 16_000
        assert heard[0] < 0.035
        assert heard[-1] > about.duration - 0.035


def test_no_two_clips_are_equal(tree):
    clips = list(wavs(tree).values())
    assert len(set(clips)) == len(clips)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tree, tmp_path):
    small = {"words": ("yes",), "splits": SMALL[1:]}
    write_spoken_keywords(tmp_path / "same", **small)
    write_spoken_keywords(tmp_path / "other", seed=1, **small)
    same, other = wavs(tmp_path / "same"), wavs(tmp_path / "other")
    assert same
    assert same.items() <= wavs(tree).items()  # and what else is written does not matter
    assert not set(same.values()) & set(other.values())


def test_the_readme_says_what_it_is_and_who_speaks_where(tree):
    text = (tree / "README.txt").read_text()
    for part in ("synthetic", "espeak-ng 1.", "seed 0", "train: f3, m5", "val: steph", "test: klatt", "yes, stop"):
        assert part in text


@pytest.mark.parametrize("kind", ["folder", "file", "broken link"])
def test_what_exists_is_not_touched(tmp_path, kind):
    root = tmp_path / "root"
    if kind == "folder":
        root.mkdir()
    elif kind == "file":
        root.write_text("mine")
    else:
        root.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match=re.escape(str(root))):
        write_spoken_keywords(root, words=("yes",), splits=SMALL)
    assert list(tmp_path.iterdir()) == [root]
    assert kind != "folder" or not list(root.iterdir())
    assert kind != "file" or root.read_text() == "mine"


def test_an_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    say = Synthesizer.say

    def interrupt(self, text, voice, **options):
        if text == "stop":
            # By now the files of the first word are somewhere, but not where a reader looks.
            assert len(list(tmp_path.rglob("*.wav"))) == 18
            assert not (tmp_path / "root").exists()
            raise KeyboardInterrupt
        return say(self, text, voice, **options)

    monkeypatch.setattr(Synthesizer, "say", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_spoken_keywords(tmp_path / "root", words=("yes", "stop"), splits=SMALL)
    assert not list(tmp_path.iterdir())


def test_a_speaker_in_two_splits_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'f3' speaks in 'train' and in 'test'"):
        write_spoken_keywords(tmp_path / "root", splits=(Split("train", ("f3",)), Split("test", ("f3",))))
    assert not list(tmp_path.iterdir())


def test_the_full_lists_are_of_the_promised_size_and_known_to_espeak():
    sizes = {split.name: len(split.variants) * split.clips * len(WORDS) for split in SPLITS}
    assert sizes == {"train": 4000, "val": 480, "test": 880}
    variants = [variant for split in SPLITS for variant in split.variants]
    assert len(set(variants)) == len(variants)
    with Synthesizer() as synthesizer:
        known = {voice.name for voice in synthesizer.voices()}
    assert known >= {f"+{variant}" for variant in variants} | set(ACCENTS)
