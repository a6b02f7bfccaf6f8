"""The look through a set: what is missing, broken and short is told by name, and a clean list is written."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import struct
import sys
import time
from pathlib import Path

import av
import pytest

from eyetoy_video import check as checking
from eyetoy_video.check import RECORD, check
from eyetoy_video.datasets.lists import read_lists
from eyetoy_video.io.lengths import Record
from helpers.paths import REPOSITORY, config

CONFIG = config("video", "moving_digits")


@pytest.fixture
def root(tmp_path, videos, copies):
    """Clips of two classes, none a copy: whole ones, ones broken in four ways, a short one, and one only listed."""
    folder = tmp_path / "set"
    copies(*(folder / name / f"{number}.mp4" for name in ("run", "walk") for number in range(5)), count=12)
    copies(folder / "walk" / "short.mp4", count=5)
    copies(folder / "run" / "cut.mp4", count=12)
    videos.cut(folder / "run" / "cut.mp4", 0.6)
    (folder / "run" / "empty.mp4").touch()
    (folder / "walk" / "text.mp4").write_text("not a video")
    videos.write_sound(folder / "walk" / "sound.mp4")
    files = sorted(folder.rglob("*.mp4"))
    for number, path in enumerate(path for path in files if path.stem.isdecimal()):
        with path.open("ab") as file:  # an empty box of the format, of another content in each
            file.write(struct.pack(">I4sI", 12, b"free", number))
    train = [f"{path.relative_to(folder)} {int(path.parent.name == 'walk')}" for path in files if path.stem != "4"]
    (folder / "train.csv").write_text("\n".join([*train, "walk/lost.mp4 1"]))
    (folder / "val.csv").write_text("run/4.mp4 0\nwalk/4.mp4 1\n")
    (folder / "classes.txt").write_text("run\nwalk\n")
    return folder


def look(root: Path, *options: object) -> int:
    arguments = ("--data.source", "list", "--data.root", root, "--data.num_frames", 8, *options)
    return check(list(map(str, arguments)))


WRONG = [
    ("missing", "walk/lost.mp4", "there is no such file"),
    ("broken", "run/cut.mp4", ""),
    ("broken", "run/empty.mp4", "the file is empty (0 bytes)"),
    ("broken", "walk/sound.mp4", "it has no video, only ['audio']"),
    ("broken", "walk/text.mp4", "FFmpeg cannot read it"),
    ("short", "walk/short.mp4", "5 frames, 0.20 seconds"),
]


def test_what_is_wrong_is_told_by_name_and_the_rest_is_listed(root, tmp_path, capsys):
    assert look(root, "--output", tmp_path / "clean") == 1
    decoded, _, head, *lines = capsys.readouterr().out.splitlines()
    assert decoded.startswith("videos are decoded by ")
    assert head == "16 files: 10 right, 1 missing, 4 broken, 1 short"
    assert len(lines) == len(WRONG)
    for line, (kind, name, why) in zip(lines, WRONG, strict=True):
        assert line.startswith(f"{kind}: {root / name}: {why}")
    clean = read_lists(tmp_path / "clean")
    assert clean.classes == ("run", "walk")
    names = [(str(path.relative_to(root)), label) for path, label in clean.splits["train"]]
    assert names == [
        (f"{name}/{number}.mp4", label) for label, name in enumerate(("run", "walk")) for number in range(4)
    ]
    assert len(clean.splits["val"]) == 2


def test_a_clean_list_has_nothing_wrong(root, tmp_path, capsys):
    look(root, "--output", tmp_path / "clean")
    assert look(tmp_path / "clean") == 0
    assert "10 files: 10 right\n" in capsys.readouterr().out


def test_copies_in_other_splits_and_classes_are_found_and_left_out_of_the_lists(root, tmp_path, capsys):
    look(root, "--output", tmp_path / "clean")
    shutil.copy(root / "run" / "4.mp4", root / "run" / "0.mp4")
    shutil.copy(root / "walk" / "1.mp4", root / "run" / "1.mp4")
    capsys.readouterr()
    assert look(tmp_path / "clean", "--output", tmp_path / "cleaner") == 1
    _, listed, head, *lines = capsys.readouterr().out.splitlines()
    assert listed == "data: 2 classes; samples: train 8, val 2"
    assert head == "10 files: 7 right, 1 duplicate, 2 contradictory"
    assert [line.partition(": it is ")[0] for line in sorted(lines)] == [
        f"contradictory: {root / 'run' / '1.mp4'}",
        f"contradictory: {root / 'walk' / '1.mp4'}",
        f"duplicate: {root / 'run' / '0.mp4'}",
    ]
    left = read_lists(tmp_path / "cleaner").splits
    assert [len(left[split]) for split in ("train", "val")] == [5, 2]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_file_that_is_listed_in_two_classes_is_found_once(root, tmp_path, capsys, split):
    look(root, "--output", tmp_path / "clean")
    first = root / "run" / "4.mp4"
    with (tmp_path / "clean" / f"{split}.csv").open("a") as file:
        file.write(f"{first} 1\n")
    capsys.readouterr()
    assert look(tmp_path / "clean", "--output", tmp_path / "cleaner") == 1
    _, _, head, line = capsys.readouterr().out.splitlines()
    assert head == "10 files: 9 right, 1 contradictory"
    one, other = ("run", "walk") if split == "val" else ("walk", "run")
    assert line == f"contradictory: {first}: it is of {one}, and listed once more in val, of {other}"
    assert [path for path, _ in read_lists(tmp_path / "cleaner").splits["val"]] == [root / "walk" / "4.mp4"]


def test_one_split_may_be_looked_at_alone_and_listed_in_one_file(root, tmp_path, capsys):
    (root / "val.csv").write_text("run/0.mp4 0\nwalk/short.mp4 1\n")
    assert look(root, "--split", "val", "--output", tmp_path / "val.csv") == 1
    assert "2 files: 1 right, 1 short" in capsys.readouterr().out
    assert (tmp_path / "val.csv").read_text() == f"{root / 'run' / '0.mp4'} 0\n"
    for wrong in (("--output", tmp_path / "all.csv"), ("--split", "test")):
        with pytest.raises(SystemExit, match="^2$"):
            look(root, *wrong)
    said = capsys.readouterr().err
    assert "all.csv is one list, and there are train, val" in said
    assert "the set has no split 'test', but train, val" in said


def test_files_of_less_than_some_seconds_are_short(root, capsys):
    assert look(root, "--split", "val") == 0
    assert look(root, "--split", "val", "--seconds", 0.47) == 0, "12 frames at 25 per second are 0.48 seconds"
    assert look(root, "--split", "val", "--seconds", 0.5) == 1
    assert f"short: {root / 'run' / '4.mp4'}: 12 frames, 0.48 seconds" in capsys.readouterr().out


@pytest.fixture
def looks(monkeypatch):
    """The files that are opened."""
    opened, open_video = [], checking.open_video
    monkeypatch.setattr(checking, "open_video", lambda path: opened.append(path) or open_video(path))
    return opened


def test_whole_files_are_not_looked_at_again_until_they_change(root, looks, copies):
    look(root)
    assert len(looks) == 15, "all of both lists"
    looks.clear()
    os.utime(root / "run" / "1.mp4", (0, 0))
    look(root)
    broken = {"cut.mp4", "empty.mp4", "sound.mp4", "text.mp4"}
    assert {path.name for path in looks} == broken | {"1.mp4"}
    looks.clear()
    look(root, "--every_frame")
    assert len(looks) == 15, "to have decoded some frames is not enough"


def test_an_interrupted_look_goes_on_where_it_was(root, looks, monkeypatch):
    decode, line, done = checking.decode, Record.line, []

    def interrupted(*arguments):
        done.append(1)
        if len(done) == 6:
            raise KeyboardInterrupt
        return line(*arguments)

    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr(checking, "decode", lambda *arguments: time.sleep(0.05) or decode(*arguments))
    monkeypatch.setattr(Record, "line", interrupted)
    monkeypatch.setattr(checking, "tqdm", lambda items, *rest, **options: (item for item in items))
    with pytest.raises(SystemExit, match="130"):
        look(root)
    assert len(looks) < 15, "it ends at once"
    lines = (root / RECORD).read_text().splitlines()
    assert len(lines) == 5
    (root / RECORD).write_text("\n".join(lines)[:-9])  # and it was killed while it wrote
    looks.clear()
    look(root)
    assert len(looks) == 15 - 4
    assert json.loads((root / RECORD).read_text().splitlines()[-1])[0].startswith(str(root))


def test_a_record_that_cannot_be_written_is_said(root, capsys):
    (root / RECORD).mkdir()
    assert look(root) == 1
    assert f"cannot write the list of intact files to {root / RECORD}" in capsys.readouterr().out


def test_damage_between_an_evaluations_frames_is_found_in_all_frames(tmp_path, monkeypatch, videos, capsys):
    monkeypatch.setitem(videos.CODECS, ".mp4", ("libx264", {"x264-params": "keyint=10:min-keyint=10:scenecut=0"}))
    path = videos.numbered(tmp_path / "set" / "run" / "a.mp4", 60)
    content = path.read_bytes()
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for position, size in packets[40:43]:
        content = content[:position] + bytes(size) + content[position + size :]
    path.write_bytes(content)
    (tmp_path / "train.csv").write_text(f"{path} 0\n")
    (tmp_path / "val.csv").write_text(f"{path} 0\n")
    options = (tmp_path, "--split", "val", "--data.num_frames", 1)
    assert look(*options) == 0
    assert look(*options, "--every_frame") == 1
    assert f"broken: {path}" in capsys.readouterr().out


def test_the_script_ends_with_the_exit_code(root, monkeypatch, capsys):
    arguments = ["--data.source", "list", "--data.root", str(root), "--data.num_frames", "8"]
    monkeypatch.setattr(sys, "argv", ["check.py", *arguments])
    for options, code in (([], 1), (["--split", "val"], 0), (["--data.root", "nowhere"], 2)):
        monkeypatch.setattr(sys, "argv", ["check.py", *arguments, *options])
        with pytest.raises(SystemExit) as raised:
            runpy.run_path(str(REPOSITORY / "apps" / "video" / "check.py"), run_name="__main__")
        assert raised.value.code == code
    assert "error: nowhere has no list of clips for training" in capsys.readouterr().err


def test_a_set_of_the_hub_is_not_looked_through(capsys):
    with pytest.raises(SystemExit, match="^2$"):
        check(["--data.source", "hub", "--data.root", "owner/name"])
    assert "owner/name is a set of the hub, which has no list of files" in capsys.readouterr().err
