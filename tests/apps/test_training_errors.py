"""What `train.py` says of wrong input: one sentence, code 2 and no traceback."""

from __future__ import annotations

import shutil
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from eyetoy_audio.app import APP as AUDIO
from eyetoy_image.app import APP as IMAGE
from eyetoy_train.engine import trainer
from eyetoy_video.app import APP as VIDEO
from helpers.commands import write_pictures

APPS = {"image": IMAGE, "audio": AUDIO, "video": VIDEO}
OWN = ("--data.source", "folder", "--data.root")
PICTURES = (*OWN, "pictures", "--data.image_size", "16")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: pictures, an empty folder, and files that are no recipe."""
    write_pictures(tmp_path / "pictures")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "list.yaml").write_text("- epochs\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def test_a_single_class_is_refused(folder, capsys):
    shutil.rmtree(folder / "pictures" / "dark")
    assert "the data have one class, bright, and a classifier needs two or more" in refused(IMAGE, PICTURES, capsys)


@pytest.mark.parametrize(
    ("app", "default", "own"),
    [
        ("image", "digits", "own_detection, own_pictures, own_segmentation"),
        ("audio", "spoken_keywords", "own_sounds, own_sounds_waveform"),
        ("video", "moving_digits", "own_clips"),
    ],
)
@pytest.mark.parametrize("config", [(), ("--config", "own.yaml")])
def test_a_run_on_own_files_by_the_default_recipe_says_so(app, default, own, config, folder, capsys):
    """Gray digits of 28 pixels are what it was made for, and nobody who names photographs would expect that."""
    for name in ("a", "b"):
        (folder / "files" / name).mkdir(parents=True)
        for number in range(10):
            (folder / "files" / name / f"{number}{'.wav' if app == 'audio' else '.mp4'}").touch()
    (folder / "own.yaml").write_text("epochs: 1\n")
    APPS[app].parse_args([*config, *OWN, "pictures" if app == "image" else "files"])
    said = capsys.readouterr().out
    assert said.strip() == (
        ""
        if config
        else f"note: without --config, the other settings are those of the recipe {default}; for files of "
        f"your own, there are {own}"
    )


@pytest.mark.parametrize("app", APPS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*OWN, "nowhere"), "there is no folder nowhere; it should hold one folder per class"),
        ((*OWN, "file"), "there is no folder file"),
        ((*OWN, "empty"), "found no file ending in"),
        (("--data.root", "nowhere"), "there is no folder nowhere (--data.root), and the recipe would write"),
        (("--config", "nowhere"), "--config nowhere is no recipe: there is no such file; the included ones are"),
        (("--config", "binary.yaml"), "binary.yaml"),
        (("--config", "list.yaml"), "list.yaml"),
        (("--config", "empty"), "--config empty is no recipe"),
        (("--epochs", "many"), "epochs"),
        (("--ephocs", "3"), "Did you mean --epochs?"),
        (("--mixed_precision", "fp8"), "mixed_precision"),
    ],
)
def test_in_every_app(app, arguments, message, folder, capsys):
    assert message in refused(APPS[app], arguments, capsys)
    assert not (folder / "runs").exists()
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--config", "own_picture"), "Did you mean --config own_pictures?"),
        ((*PICTURES, "--model.name", "eyetoy2d_picco"), "did you mean 'eyetoy2d_pico'?"),
        ((*PICTURES, "--model.name", "timm/resnet1818"), "give --model.stem_strides null"),
        ((*PICTURES, "--model.name", "timm/resnet1818", "--model.stem_strides", "null"), "near it are resnet18"),
        ((*PICTURES, "--model.name", "tim/resnet18"), "'tim/resnet18' is of no known family"),
        ((*PICTURES, "--model.weights", "no/such/folder"), "no/such/folder"),
        ((*PICTURES, "--model.weights", "empty"), "empty holds no checkpoint"),
        ((*PICTURES, "--output_dir", "file"), "output_dir=file holds"),
        ((*PICTURES, "--output_dir", "file/run"), "file/run"),
        ((*PICTURES, "--trackers", "[nothing]"), "there is no tracker 'nothing'"),
        ((*PICTURES, "--batch_size", "7", "--gradient_accumulation_steps", "2"), "choose a multiple of 2"),
        (("--task", "detection", *OWN, "empty"), "empty"),
        (("--task", "segmentation", *OWN, "empty"), "empty"),
        (("--task", "detection", "--data.root", "nowhere"), "the recipe would write its own data there"),
    ],
)
def test_of_a_picture(arguments, message, folder, capsys):
    assert message in refused(IMAGE, arguments, capsys)
    assert not [*folder.glob("runs/*")]


def test_a_label_that_training_does_not_have(folder, capsys):
    write_pictures(folder / "split" / "train")
    write_pictures(folder / "split" / "val")
    (folder / "split" / "val" / "dark").rename(folder / "split" / "val" / "zebra")
    arguments = (*OWN, "split", "--data.image_size", "16")
    assert "classes that the training set has not: zebra" in refused(IMAGE, arguments, capsys)


def refused(app, arguments, capsys) -> str:
    """Return the last line that a refused command prints."""
    with pytest.raises(SystemExit) as stop:
        app.train(list(arguments))
    assert stop.value.code == 2
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("train.py: error: ")
    return last


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device"), 2),
        (FloatingPointError("the loss is not finite"), 2),
        (KeyboardInterrupt(), 130),
        (KeyError("a bug"), None),
        (ValueError("a bug"), None),
    ],
)
def test_a_bug_in_a_run_that_has_started_keeps_its_traceback(error, code, folder, monkeypatch):
    def fit() -> None:
        raise error

    monkeypatch.setattr(trainer, "started_run", lambda *_, **__: nullcontext(SimpleNamespace(fit=fit)))
    with pytest.raises(SystemExit if code else type(error)) as stop:
        IMAGE.train(list(PICTURES))
    assert code is None or stop.value.code == code


def test_several_processes_say_it_once(tmp_path, run_command):
    done = run_command(tmp_path, "apps/image/train.py", *OWN, "nowhere", launch=True, check=False)
    assert done.stderr.count("train.py: error: there is no folder nowhere") == 1
    assert done.stderr.count("train.py: error: ") == 1
