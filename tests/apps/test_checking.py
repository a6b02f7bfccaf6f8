"""The look through class folders of pictures and sounds: what is unreadable, odd, empty or comes twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from eyetoy_audio.check import check as check_sounds
from eyetoy_image.check import check as check_pictures


def write(path: Path, number: int, size: int = 32) -> None:
    """A picture or a sound of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number)
    if path.suffix == ".png":
        Image.fromarray(noise.integers(0, 255, (size, 32, 3), dtype=np.uint8)).save(path)
    else:
        soundfile.write(path, noise.uniform(-1, 1, size * 50), 16000)


@pytest.fixture(params=[".png", ".wav"])
def root(request, tmp_path) -> Path:
    """Good files: three of two classes in each of two splits."""
    number = 0
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for place in range(3):
                number += 1
                write(tmp_path / "set" / split / name / f"{place}{request.param}", number)
    return tmp_path / "set"


def look(root: Path, *options: str) -> int:
    if next(root.rglob("0.*")).suffix == ".png":
        return check_pictures(["--config", "own_pictures", "--data.root", str(root), *options])
    return check_sounds(["--data.source", "folder", "--data.root", str(root), *options])


def findings(capsys) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if not line.startswith("data: ")]


def test_a_good_folder_has_no_findings_and_the_line_tells_what_is_left_out(root, capsys):
    (root / "train" / "cat" / "notes.txt").touch()
    assert look(root, "--split", "test") == 0
    assert "left out: 1 files of other types" in capsys.readouterr().out
    # Held out of training, one of each class: none is left without a sample.
    assert look(root) == 0
    assert findings(capsys) == ["12 files: 12 right"]


def test_every_fault_is_named(root, capsys):
    suffix = next(root.rglob("0.*")).suffix
    train, test = root / "train", root / "test"
    (train / "cat" / f"text{suffix}").write_text("no picture, no sound")
    write(test / "cat" / f"long{suffix}", 99, size=200)
    shutil.copy(test / "dog" / f"0{suffix}", train / "dog" / f"again{suffix}")
    shutil.copy(test / "dog" / f"1{suffix}", test / "cat" / f"dog{suffix}")
    assert look(root) == 1
    head, *lines = findings(capsys)
    assert head == "16 files: 11 right, 1 unreadable, 1 duplicate, 2 contradictory, 1 odd"
    assert lines[0].startswith(f"unreadable: {train / 'cat' / f'text{suffix}'}: ")
    pair = [test / "cat" / f"dog{suffix}", test / "dog" / f"1{suffix}"]
    assert f"contradictory: {pair[0]}: it is of cat, and its copy {pair[1]} (test) is of dog" in lines
    assert f"contradictory: {pair[1]}: it is of dog, and its copy {pair[0]} (test) is of cat" in lines
    (duplicate,) = [line for line in lines if line.startswith("duplicate")]
    assert duplicate.startswith(f"duplicate: {train / 'dog' / f'again{suffix}'}: ")
    assert duplicate.endswith(f"a copy, {test / 'dog' / f'0{suffix}'}, in test, whose score is then too good")
    measured = "height 200, where the median is 32" if suffix == ".png" else "seconds 0.625, where the median is 0.1"
    assert lines[-1] == f"odd: {test / 'cat' / f'long{suffix}'}: {measured}"
    assert look(root, "--odd", "7") == 1
    assert "odd" not in capsys.readouterr().out


def test_empty_classes_are_findings(root, capsys):
    for path in (root / "test" / "dog").iterdir():
        path.unlink()
    assert look(root) == 1
    assert findings(capsys) == ["9 files: 9 right, 1 empty", "empty: dog: the class has no sample in test"]
    (root / "train" / "bird").mkdir()
    assert look(root) == 1
    assert findings(capsys)[0].startswith(f"empty: {root / 'train'} has classes without a file for training: bird")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--data.source", "hub"), "is a set of the hub, which has no list of files"),
        (("--odd", "1"), "--odd must be above 1; got 1.0"),
        (("--split", "val", "--data.root", "nowhere"), "there is no folder nowhere"),
    ],
)
def test_what_cannot_be_checked_ends_with_a_sentence(root, options, message, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        look(root, *options)
    assert message in capsys.readouterr().err
