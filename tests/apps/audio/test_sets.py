"""Sets of sounds in their true formats, small: Speech Commands, ESC-50, tables of tagged clips, AudioSet, the hub's."""

from __future__ import annotations

import hashlib
import io
import re
import runpy
import shutil
import sys
import tarfile
from types import ModuleType

import datasets
import numpy as np
import pytest
import soundfile
from torchaudio.datasets import speechcommands

from eyetoy_audio.datasets import DATASETS
from eyetoy_audio.datasets.esc50 import read_esc50
from eyetoy_audio.datasets.speech_commands import background_noise, read_speech_commands
from eyetoy_audio.datasets.tagged import open_tagged, read_tagged
from eyetoy_audio.io.files import UnreadableSoundError
from eyetoy_audio.io.hub import read_stored_sound
from eyetoy_audio.recipe import AudioData
from eyetoy_train.data.groups import Grouping
from eyetoy_train.data.hub import HubSet, stored_content
from eyetoy_train.data.unreadable import UnreadableFileError

RATE = 8000


def write(path, value=0.25):
    """A short clip of one value, which tells it from others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(80, value), RATE)


def encoded(value, kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, np.full(80, value), RATE, format=kind)
    return file.getvalue()


def run_told_command(error, tmp_path, replace=("", "")):
    """Run the Python of the command that a message tells."""
    (code,) = re.findall(r'^    python -c "(.*)"$', str(error.value), re.MULTILINE)
    (tmp_path / "command.py").write_text(code.replace(*replace))
    runpy.run_path(str(tmp_path / "command.py"))


def which_set(name):
    """The rule of the README of Speech Commands: a speaker's share of 2^27 by SHA-1, ten percent each held out."""
    speaker = re.sub(r"_nohash_.*$", "", name)
    most = 2**27 - 1
    percentage = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (most + 1) * (100 / most)  # noqa: S324
    return "val" if percentage < 10 else "test" if percentage < 20 else "train"


@pytest.fixture
def speech_commands(tmp_path):
    """Three words by 30 speakers, who say some twice, with lists by the official rule."""
    folder = tmp_path / "data" / "SpeechCommands" / "speech_commands_v0.02"
    lists = {"train": [], "val": [], "test": []}
    for number in range(30):
        speaker = hashlib.md5(bytes([number]), usedforsecurity=False).hexdigest()[:8]
        for word in ("yes", "backward", "no"):
            for utterance in range(1 + number % 2):
                name = f"{speaker}_nohash_{utterance}.wav"
                write(folder / word / name)
                lists[which_set(name)].append(f"{word}/{name}")
    assert all(lists.values())
    (folder / "validation_list.txt").write_text("".join(f"{line}\n" for line in lists["val"]))
    (folder / "testing_list.txt").write_text("".join(f"{line}\n" for line in lists["test"]))
    for noise in ("white_noise.wav", "doing_the_dishes.wav"):
        write(folder / "_background_noise_" / noise)
    return tmp_path / "data", folder


def test_speech_commands_keeps_every_speaker_in_the_split_of_the_official_rule(speech_commands, capsys):
    root, _ = speech_commands
    found = read_speech_commands(root)
    assert found.classes == ("backward", "no", "yes")
    for split, samples in found.splits.items():
        assert {which_set(path.name) for path, _ in samples} == {split}
        assert all(path.is_file() and path.parent.name == found.classes[label] for path, label in samples)
    listed = [path for samples in found.splits.values() for path, _ in samples]
    assert len(listed) == len(set(listed)) == 3 * 45
    speakers = [{path.name[:8] for path, _ in samples} for samples in found.splits.values()]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 30
    assert [path.name for path in sorted(background_noise(root).glob("*.wav"))] == [
        "doing_the_dishes.wav",
        "white_noise.wav",
    ]
    assert not capsys.readouterr().out


def test_speakers_whom_the_lists_of_speech_commands_leave_in_two_splits_are_named(speech_commands, capsys):
    root, folder = speech_commands
    held_out = (folder / "testing_list.txt").read_text().splitlines()
    speaker = held_out[0].split("/")[1][:8]
    write(folder / "no" / f"{speaker}_nohash_7.wav")  # in no list, so for training
    read_speech_commands(root)
    said = f"have 1 speakers in train and in test, such as {speaker}"
    assert said in capsys.readouterr().out


def test_the_command_that_is_told_fetches_speech_commands(speech_commands, tmp_path, monkeypatch):
    _, folder = speech_commands
    with tarfile.open(tmp_path / "served.tar.gz", "w:gz") as archive:
        archive.add(folder, ".")

    def fetch(url, path, hash_prefix):
        assert url == "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
        assert len(hash_prefix) == 64
        shutil.copy(tmp_path / "served.tar.gz", path)

    monkeypatch.setattr(speechcommands, "download_url_to_file", fetch)
    root = tmp_path / "new" / "sounds"
    with pytest.raises(FileNotFoundError, match=r"Speech Commands is not in .* \(2.4 GB\)") as error:
        read_speech_commands(root)
    assert "--data.source hub --data.root" in str(error.value)
    run_told_command(error, tmp_path)
    assert len(read_speech_commands(root).splits["train"]) > 10


def test_an_incomplete_speech_commands_is_refused(speech_commands):
    root, folder = speech_commands
    first = (folder / "validation_list.txt").read_text().split()[0]
    (folder / first).unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of .* clips .* such as {folder / first}"):
        read_speech_commands(root)
    (folder / "testing_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match="Speech Commands is not in"):
        read_speech_commands(root)


ESC = ((0, "dog"), (1, "rooster"), (10, "rain"), (41, "chainsaw"))


@pytest.fixture
def esc50(tmp_path):
    """Two clips of four classes in each of the five folds."""
    folder = tmp_path / "data" / "ESC-50-master"
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, category in reversed(ESC):
            for take in "AB":
                name = f"{fold}-{1000 * fold + target}-{take}-{target}.wav"
                write(folder / "audio" / name)
                rows.append(f"{name},{fold},{target},{category},{target < 11},{1000 * fold + target},{take}")
    (folder / "meta").mkdir()
    (folder / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("options", "test", "val"),
    [({}, 1, 2), ({"fold": 4}, 4, 5), ({"fold": 5}, 5, 1), ({"fold": 2, "val_fold": 1}, 2, 1)],
)
def test_esc50_is_split_by_its_folds(esc50, options, test, val):
    found = read_esc50(esc50, **options)
    assert found.classes == ("dog", "rooster", "rain", "chainsaw")
    folds = {split: {int(path.name[0]) for path, _ in samples} for split, samples in found.splits.items()}
    assert folds == {"train": {1, 2, 3, 4, 5} - {test, val}, "val": {val}, "test": {test}}
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 24, "val": 8, "test": 8}
    for samples in found.splits.values():
        for path, label in samples:
            assert path.is_file()
            assert dict(ESC)[int(path.stem.split("-")[-1])] == found.classes[label]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 0}, "fold must be from 1 to 5; got 0"),
        ({"fold": 6}, "fold must be from 1 to 5; got 6"),
        ({"val_fold": 7}, "val_fold must be from 1 to 5; got 7"),
        ({"fold": 3, "val_fold": 3}, "must differ, so that the test is held out; both are 3"),
    ],
)
def test_folds_that_esc50_has_not_are_refused(esc50, options, message):
    with pytest.raises(ValueError, match=message):
        read_esc50(esc50, **options)


def test_the_command_that_is_told_fetches_esc50(esc50, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "master"), "zip", esc50)
    root = tmp_path / "new" / "sounds"
    with pytest.raises(FileNotFoundError, match=r"ESC-50 is not in .* \(about 650 MB\)") as error:
        read_esc50(root)
    run_told_command(error, tmp_path, ("https://github.com/karolpiczak/ESC-50/archive/master.zip", f"file://{archive}"))
    assert len(read_esc50(root).splits["train"]) == 24


def test_an_incomplete_esc50_is_refused(esc50):
    (esc50 / "ESC-50-master" / "audio" / "3-3010-B-10.wav").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 40 clips of ESC-50 are not in .*, such as 3-3010-B-10.wav"):
        read_esc50(esc50)


def write_tables(root, **tables):
    for split, rows in tables.items():
        root.mkdir(exist_ok=True)
        (root / f"{split}.csv").write_text("\n".join(("file,labels", *rows)) + "\n")
        for row in rows:
            write(root / row.split(",")[0])


def test_tables_of_tagged_clips(tmp_path):
    write_tables(
        tmp_path,
        train=("a/1.wav,bark;dog", "a/2.wav,", 'a/3.flac,"Cattle, bovinae; dog;dog"'),
        validation=("b/1.wav,dog",),
        test=("c/1.wav,bark",),
    )
    found = read_tagged(tmp_path)
    assert found.classes == ("Cattle, bovinae", "bark", "dog")
    named = {split: [(path.name, labels) for path, labels in clips] for split, clips in found.splits.items()}
    assert named == {
        "train": [("1.wav", (1, 2)), ("2.wav", ()), ("3.flac", (0, 2))],
        "val": [("1.wav", (2,))],
        "test": [("1.wav", (1,))],
    }
    assert found.splits["test"][0][0] == tmp_path / "c" / "1.wav"
    (tmp_path / "classes.txt").write_text("dog\nbark\nCattle, bovinae\npurr\n")
    found = read_tagged(tmp_path)
    assert found.classes == ("dog", "bark", "Cattle, bovinae", "purr")
    assert [labels for _, labels in found.splits["train"]] == [(0, 1), (), (0, 2)]


def test_a_tenth_is_held_out_where_there_is_no_table_for_validation(tmp_path):
    write_tables(tmp_path, train=[f"{i}.wav,{'dog' if i % 2 else 'cat'}" for i in range(40)], test=("t.wav,cat",))
    found = read_tagged(tmp_path)
    assert {split: len(clips) for split, clips in found.splits.items()} == {"train": 36, "val": 4, "test": 1}
    assert len({path for clips in found.splits.values() for path, _ in clips}) == 41
    assert all(labels == (int(path.stem) % 2,) for split in ("train", "val") for path, labels in found.splits[split])
    assert read_tagged(tmp_path) == found
    assert read_tagged(tmp_path, seed=1).splits["val"] != found.splits["val"]


def test_speakers_of_tables_are_held_out_whole(tmp_path):
    write_tables(tmp_path, train=[f"{i}.wav,dog" for i in range(20)])
    path = tmp_path / "train.csv"
    lines = path.read_text().split()
    path.write_text("\n".join(["file,labels,who", *(f"{line},{i // 4}" for i, line in enumerate(lines[1:]))]))
    found = read_tagged(tmp_path, grouping=Grouping(column="who"))
    parts = [{int(path.stem) // 4 for path, _ in found.splits[split]} for split in ("train", "val")]
    assert sorted(map(len, parts)) == [1, 4]
    assert not parts[0] & parts[1]


def test_tables_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no table of clips for training. It should hold either\n- train.csv"):
        read_tagged(tmp_path)
    write_tables(tmp_path, train=("1.wav,dog",), val=("2.wav,dgo",))
    with pytest.raises(
        ValueError, match="2.wav of the val split has the label 'dgo', which is not one of the 1 classes"
    ):
        read_tagged(tmp_path)
    (tmp_path / "val.csv").write_text("clip,label\n2.wav,dog\n")
    with pytest.raises(ValueError, match=r"val.csv should have one column that names the files, such as file"):
        read_tagged(tmp_path)


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        (("a.wav,dog", "b.wav,dog", "a.wav,bark"), "row 4 of .*train.csv names a.wav a second time; put all labels of"),
        (('a.wav,"dog, bark"', "b.wav,dog"), "'dog, bark' in .*train.csv is one label or several; tell by"),
        (("a.wav,dog|bark", "b.wav,dog;bark"), r"are separated by ; and by \|; tell which by data.label_separator"),
    ],
)
def test_tables_that_can_be_understood_in_two_ways_are_refused(tmp_path, rows, wrong):
    write_tables(tmp_path, train=rows)
    with pytest.raises(ValueError, match=wrong):
        read_tagged(tmp_path)


@pytest.mark.parametrize(
    ("rows", "separator"),
    [
        (("a.wav,dog|bark", "b.wav,dog"), None),
        (('a.wav,"dog, bark"', "b.wav,dog"), "comma"),
        (("a.wav,dog bark", "b.wav,dog"), "space"),
    ],
)
def test_labels_may_be_separated_otherwise(tmp_path, rows, separator):
    write_tables(tmp_path, train=rows, val=("c.wav,bark",))
    data = AudioData(source="tagged", root=str(tmp_path), label_separator=separator)
    found = DATASETS.open(data, 0)
    assert list(found.classes) == ["bark", "dog"]
    assert [labels for _, labels in found.split("train")] == [(0, 1), (1,)]


def test_clips_that_are_only_scored_are_not_held_out(tmp_path):
    write_tables(tmp_path, all=[f"{i}.wav,{'dog' if i % 2 else 'cat'}" for i in range(10)])
    found = open_tagged(AudioData(root=str(tmp_path)), 0)
    assert {split: len(clips) for split, clips in found.folder.splits.items()} == {"train": 7, "val": 1, "test": 2}
    assert {split: len(clips) for split, clips in found.unsplit().folder.splits.items()} == {"test": 10}


def test_clips_that_are_missing_are_refused_or_left_out_and_named(tmp_path, capsys):
    write_tables(tmp_path, train=[f"{i}.wav,dog" for i in range(8)], val=("v.wav,dog",))
    for i in range(2, 7):
        (tmp_path / f"{i}.wav").unlink()
    wrong = f"5 of 8 clips of the train split are not in {tmp_path}:\n2.wav\n3.wav\n4.wav\n5.wav\n6.wav"
    with pytest.raises(FileNotFoundError, match=f"{wrong}\ndata.missing: skip leaves them out"):
        open_tagged(AudioData(root=str(tmp_path)), 0).prepare()
    assert not capsys.readouterr().out
    found = open_tagged(AudioData(root=str(tmp_path), missing="skip"), 0)
    found.prepare()
    assert [path.name for path, _ in found.split("train")] == ["0.wav", "1.wav", "7.wav"]
    assert (found.classes, found.split("test")) == (("dog",), None)
    assert capsys.readouterr().out == f"left out: {wrong}\n"
    (tmp_path / "v.wav").unlink()
    with pytest.raises(ValueError, match="no clip is left for the val split"):
        read_tagged(tmp_path, missing="skip")
    (tmp_path / "val.csv").unlink()
    for i in (0, 1, 7):
        (tmp_path / f"{i}.wav").unlink()
    with pytest.raises(ValueError, match="no clip is left for the train split"):
        read_tagged(tmp_path, missing="skip")


SEGMENTS = """# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
"""


@pytest.fixture
def audioset(tmp_path):
    """Seven segments in AudioSet's own tables; of each name that is common for a clip there is one."""
    (tmp_path / "class_labels_indices.csv").write_text(
        'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/01yrx,"Cat, meow"\n2,/t/dd00088,"Gush"\n'
    )
    (tmp_path / "balanced_train_segments.csv").write_text(
        f'{SEGMENTS}--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"\n-0RWZT-miFs, 420.000, 430.000, "/m/01yrx"\n'
    )
    (tmp_path / "unbalanced_train_segments.csv").write_text(
        f'{SEGMENTS}---1_cCGK4M, 0.000, 10.000, "/m/01yrx,/m/09x0r"\n---2_BBVHAA, 30.000, 40.000, "/m/09x0r"\n'
    )
    (tmp_path / "eval_segments.csv").write_text(f'{SEGMENTS}-5xOcMJpTUk, 70.000, 80.000, "/t/dd00088"\n')
    write(tmp_path / "train" / "--PJHxphWEs.wav")
    write(tmp_path / "train" / "deeper" / "Y-0RWZT-miFs.flac")
    write(tmp_path / "train" / "---1_cCGK4M_0.wav")
    write(tmp_path / "train" / "---2_BBVHAA_30000.ogg")
    write(tmp_path / "eval" / "-5xOcMJpTUk_70.wav")
    return tmp_path


def test_audioset_in_its_own_form(audioset):
    found = read_tagged(audioset)
    assert found.classes == ("Speech", "Cat, meow", "Gush")
    assert {split: len(clips) for split, clips in found.splits.items()} == {"train": 3, "val": 1, "test": 1}
    labels = {
        path.relative_to(audioset).as_posix(): labels for clips in found.splits.values() for path, labels in clips
    }
    assert labels == {
        "train/--PJHxphWEs.wav": (0, 2),
        "train/deeper/Y-0RWZT-miFs.flac": (1,),
        "train/---1_cCGK4M_0.wav": (0, 1),
        "train/---2_BBVHAA_30000.ogg": (0,),
        "eval/-5xOcMJpTUk_70.wav": (2,),
    }


def test_audioset_is_scored_without_its_tables_for_training(audioset):
    for name in ("balanced", "unbalanced"):
        (audioset / f"{name}_train_segments.csv").unlink()
    found = open_tagged(AudioData(root=str(audioset)), 0).unsplit().folder
    assert {split: [path.name for path, _ in clips] for split, clips in found.splits.items()} == {
        "test": ["-5xOcMJpTUk_70.wav"]
    }


def test_audioset_with_a_byte_order_mark_before_its_tables(audioset):
    clean = read_tagged(audioset)
    for path in audioset.glob("*.csv"):
        path.write_text(path.read_text(), encoding="utf-8-sig")
    assert read_tagged(audioset) == clean


def test_options_for_own_tables_are_refused_for_audioset(audioset):
    with pytest.raises(ValueError, match="data.label_separator=bar is for tables of your own, and .* has AudioSet's"):
        read_tagged(audioset, separator="bar")
    (audioset / "class_labels_indices.csv").unlink()
    with pytest.raises(FileNotFoundError, match="AudioSet's class_labels_indices.csv"):
        read_tagged(audioset)


def test_clips_that_audioset_lost(audioset, capsys):
    (audioset / "train" / "---1_cCGK4M_0.wav").rename(audioset / "train" / "---1_cCGK4M_1.wav")  # another second
    with pytest.raises(FileNotFoundError, match="1 of 4 clips of the train split are not in .*:\n---1_cCGK4M\n"):
        read_tagged(audioset)
    assert len(read_tagged(audioset, missing="skip").splits["train"]) == 2
    assert "left out: 1 of 4 clips of the train split" in capsys.readouterr().out


def test_audioset_without_a_table_for_training_is_refused(audioset):
    for name in ("balanced", "unbalanced"):
        (audioset / f"{name}_train_segments.csv").unlink()
    with pytest.raises(FileNotFoundError, match="balanced_train_segments.csv or unbalanced_train_segments.csv or both"):
        read_tagged(audioset)


@pytest.fixture(autouse=True)
def kept_nowhere(tmp_path, monkeypatch):
    """Let `datasets` copy what it reads to a folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write_parquet(path, files, labels, kind="Audio", **features):
    """Write a table as the hub keeps it, by a column of files and others; `datasets` itself needs torchcodec for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    rows = datasets.Dataset.from_dict(
        {"file": files, **labels}, features=datasets.Features({"file": plain, **features})
    ).cast_column("file", getattr(datasets, kind)(decode=False))
    rows.cast_column("file", getattr(datasets, kind)()).to_parquet(path)


CLASSES = datasets.ClassLabel(names=["cat", "dog"])
TEXT = datasets.Value("string")


@pytest.fixture
def hub(tmp_path):
    """Sounds of class y have the value 0.25 (1 + y); of three in four only the bytes tell what kind they are.

    A column that nobody asks for cannot be read.
    """
    damaged = {"bytes": b"no picture", "path": None}
    for split, count in (("train", 20), ("test", 6)):
        labels = [i % 2 for i in range(count)]
        kinds = ("WAV", "FLAC", "OGG", "WAV")
        files = [
            {"bytes": encoded(0.25 * (1 + y), kinds[i % 4]), "path": "a.wav" if i % 4 == 3 else None}
            for i, y in enumerate(labels)
        ]
        others = {"label": labels, "name": ["dog" if y else "cat" for y in labels], "picture": [damaged] * count}
        path = tmp_path / "birds" / "data" / f"{split}-00000-of-00001.parquet"
        write_parquet(path, files, others, label=CLASSES, name=TEXT, picture=datasets.Image())
    return tmp_path / "birds"


def heard(stored, name="a sound"):
    """The value of a clip, which has 160 samples at twice its rate."""
    waveform = read_stored_sound(stored, name, 2 * RATE)
    assert waveform.shape == (1, 160)
    return round(float(waveform[0, 60:100].mean()), 2)


@pytest.mark.parametrize("label_column", [None, "label", "name"])
def test_a_set_of_the_hub(hub, label_column):
    found = HubSet(str(hub), "Audio", label_column=label_column)
    found.prepare()
    assert found.classes == ["cat", "dog"]
    samples = {split: found.split(split) for split in ("train", "val", "test")}
    assert {split: len(clips) for split, clips in samples.items()} == {"train": 18, "val": 2, "test": 6}
    for clips in samples.values():
        assert all(heard(clip.stored, clip.place) == 0.25 * (1 + label) for clip, label in clips)
    assert samples["test"][3][0].place == "3 of birds"


def test_a_set_of_the_hub_as_a_stream(hub):
    found = HubSet(str(hub), "Audio", streaming=True, splits={"val": "test"})
    found.prepare()
    stream = found.split("val")
    samples = [stream.decode(raw) for shard in range(stream.num_shards) for raw in stream.read(shard)]
    assert [(heard(s["source"]), s["label"]) for s in samples] == [(0.25, 0), (0.5, 1)] * 3
    assert found.split("test") is None


def test_a_damaged_sound_of_the_hub_is_named(tmp_path):
    stored = {"bytes": encoded(0.25)[:-2], "path": None}
    with pytest.raises(UnreadableSoundError, match="3 of birds.wav: it is cut short"):
        read_stored_sound(stored, "3 of birds", RATE)
    with pytest.raises(UnreadableSoundError, match="clips/x.wav: "):
        read_stored_sound({"bytes": b"text", "path": "clips/x.wav::hf://sounds.zip"}, "3 of birds", RATE)
    with pytest.raises(UnreadableSoundError, match="3 of birds.wav: the file is empty"):
        read_stored_sound({"bytes": b"", "path": None}, "3 of birds", RATE)


def test_sounds_by_their_addresses(tmp_path):
    write(tmp_path / "x.wav", 0.75)
    for path in (tmp_path / "x.wav", f"file://{tmp_path / 'x.wav'}"):
        assert heard({"bytes": None, "path": str(path)}) == 0.75
    shutil.make_archive(str(tmp_path / "sounds"), "zip", tmp_path, "x.wav")
    assert heard({"bytes": None, "path": f"zip://x.wav::file://{tmp_path / 'sounds.zip'}"}) == 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"column_type": "Video"}, "birds should have one column of the type Video; it has"),
        ({"label_column": "nothing"}, "the column 'nothing' of .*birds should be ClassLabel or text; it is None"),
        ({"label_column": "file"}, "the column 'file' of .*birds should be ClassLabel or text; it is Audio"),
        (
            {"label_column": "name", "streaming": True, "splits": {"val": "test"}},
            "the column 'name' of .*birds should be ClassLabel; it is Value",
        ),
    ],
)
def test_columns_that_cannot_be_used_are_refused(hub, options, message):
    with pytest.raises(ValueError, match=message):
        HubSet(str(hub), **{"column_type": "Audio", **options}).prepare()


UNLABELLED = [(CLASSES, 1, None), (CLASSES, 1, -1), (TEXT, "dog", None), (TEXT, "dog", "")]


def write_labels(root, kind, **labels):
    for split, values in labels.items():
        files = [{"bytes": encoded(0.25), "path": None}] * len(values)
        write_parquet(root / f"{split}.parquet", files, {"label": values}, label=kind)
    return str(root)


@pytest.mark.parametrize(("kind", "label", "none"), UNLABELLED)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_rows_without_a_label_are_counted_and_refused(tmp_path, kind, label, none, split):
    labels = {part: [label] * 4 for part in ("train", "val", "test")}
    labels[split][1] = none
    with pytest.raises(ValueError, match=f"^1 of the 4 {split} rows of .* have no label in the column 'label'; fill"):
        HubSet(write_labels(tmp_path, kind, **labels), "Audio", label_column="label").prepare()


@pytest.mark.parametrize(("kind", "label", "none"), UNLABELLED)
def test_a_test_without_labels_is_left_out(tmp_path, kind, label, none):
    root = write_labels(tmp_path, kind, train=[label] * 4, val=[label] * 4, test=[none] * 3)
    found = HubSet(root, "Audio", label_column="label")
    assert found.split("test") is None
    assert found.left_out == {"split without labels (test)": 1}
    assert none not in found.classes


def test_a_row_of_a_stream_without_a_label_is_named(tmp_path):
    root = write_labels(tmp_path, CLASSES, train=[1, -1], val=[1, 1])
    stream = HubSet(root, "Audio", streaming=True).split("train")
    with pytest.raises(UnreadableFileError, match="a row of the stream has no label in the column 'label'; it has -1"):
        [stream.decode(raw) for raw in stream.read(0)]


def test_without_a_column_of_classes_the_way_to_name_one_is_told(tmp_path):
    files = [{"bytes": encoded(0.25), "path": "a.wav"}] * 10
    write_parquet(tmp_path / "train.parquet", files, {"name": ["dog"] * 10}, name=TEXT)
    with pytest.raises(ValueError, match="one column of the type ClassLabel, or label_column name one of text"):
        HubSet(str(tmp_path), "Audio").prepare()


@pytest.mark.parametrize("kind", ["Image", "Audio", "Video"])
def test_files_of_any_kind_stay_as_they_are_stored(tmp_path, kind):
    files = [{"bytes": bytes([i]), "path": None} for i in range(10)]
    write_parquet(tmp_path / "train.parquet", files, {"label": [i % 2 for i in range(10)]}, kind, label=CLASSES)
    found = HubSet(str(tmp_path), kind)
    samples = [sample for split in ("train", "val") for sample in found.split(split)]
    assert sorted((stored_content(file.stored, "x")[0], label) for file, label in samples) == [
        (i, i % 2) for i in range(10)
    ]


def test_one_of_several_versions_of_a_set(tmp_path):
    for name, count in (("v1", 10), ("v2", 20)):
        files = [{"bytes": encoded(0.25), "path": "a.wav"}] * count
        write_parquet(tmp_path / f"{name}.parquet", files, {"label": [0] * count}, label=CLASSES)
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.parquet\n" for name in ("v1", "v2"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    assert len(HubSet(str(tmp_path), "Audio", config="v2").split("train")) == 18
    with pytest.raises(ValueError, match="v1.*v2"):
        HubSet(str(tmp_path), "Audio").prepare()


@pytest.fixture
def audiofolder(tmp_path):
    for split, count in (("train", 10), ("test", 3)):
        for value, name in ((0.25, "cat"), (0.5, "dog")):
            for index in range(count):
                write(tmp_path / "folder" / split / name / f"{index}.wav", value)
    return str(tmp_path / "folder")


@pytest.mark.parametrize("streaming", [False, True])
def test_single_files_as_a_set_of_the_hub(audiofolder, streaming, monkeypatch):
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    monkeypatch.setitem(sys.modules, "torchcodec", ModuleType("torchcodec"))
    for kind in ("Encoder", "Decoder"):
        module = ModuleType(f"torchcodec.{kind.lower()}s")  # `datasets` imports it to list files, and has no use for it
        setattr(module, f"Audio{kind}", type(kind, (), {}))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    found = HubSet(audiofolder, "Audio", streaming, {"val": "test"})
    if streaming:
        stream = found.split("val")
        samples = [stream.decode(raw) for shard in range(stream.num_shards) for raw in stream.read(shard)]
        values = [(heard(sample["source"]), sample["label"]) for sample in samples]
    else:
        values = [(heard(clip.stored), label) for clip, label in found.split("val")]
    assert sorted(values) == [(0.25, 0)] * 3 + [(0.5, 1)] * 3


def test_single_files_as_a_set_of_the_hub_need_torchcodec(audiofolder, monkeypatch):
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", False)
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.encoders", None)
    with pytest.raises(ValueError, match="cannot read .*folder: .*install 'torchcodec'"):
        HubSet(audiofolder, "Audio").prepare()


def test_hidden_sounds_are_no_clips_of_audioset(audioset):
    clean = read_tagged(audioset)
    for hidden in (audioset / "zz" / "._--PJHxphWEs.wav", audioset / "zz" / "@eaDir" / "--PJHxphWEs.wav"):
        write(hidden)
    assert read_tagged(audioset) == clean
