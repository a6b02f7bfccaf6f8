"""`validate` on a folder of one's own: which files are scored, how classes are numbered, and the list of mistakes."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from eyetoy_audio.app import APP as AUDIO
from eyetoy_image.app import APP
from eyetoy_train.checkpoint.run_folder import RunFolder
from eyetoy_train.engine.data_record import write_data_record
from eyetoy_train.models.included import example_files, included_models
from eyetoy_video.app import APP as VIDEO

DIGITS = {file.stem: file for file in example_files(included_models()["digits"])}


@pytest.fixture
def validate(tmp_path, monkeypatch, capsys):
    """Run the command with the included model of digits in an empty folder; return its code, scores and messages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["validate"])

    def run(*arguments: object):
        code = 0
        try:
            APP.validate(["digits", "--num_workers", "0", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return run


def put(folder: str, **files: str) -> None:
    """Copy digits: `put("own/7", a="4")` makes the file own/7/a.png of a four."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, digit in files.items():
        shutil.copy(DIGITS[digit], Path(folder, f"{name}.png"))


def test_all_files_of_a_folder_without_splits_are_scored_by_the_names_of_their_classes(validate):
    put("own/7", good="7", bad="4")
    put("own/3", only="3")
    code, scores, said = validate("--data.root", "own", "--output", "out")
    assert code == 0
    assert "own has no split folders: all its 3 files are scored" in said
    assert "test 3 (all files)" in said
    assert "2 of the checkpoint's 10 classes" in said
    assert (scores["split"], scores["count"]) == ("all", 3)
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["interval_95"]["accuracy"] == pytest.approx([0.2077, 0.9385], abs=1e-4)  # Wilson's, worked by hand
    with Path("out/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert next((Path(row["file"]), row["truth"], row["prediction"]) for row in rows) == (
        Path("own/7/bad.png"),
        "7",
        "4",
    )
    assert {(row["file"], row["truth"] == row["prediction"]) for row in rows[1:]} == {
        (str(Path("own/7/good.png")), True),
        (str(Path("own/3/only.png")), True),
    }
    assert all(0.1 < float(row["confidence"]) <= 1 for row in rows)


def test_split_folders_are_respected_and_need_none_for_training(validate):
    put("own/test/7", a="7")
    put("own/val/4", b="4", c="4")
    _, scores, said = validate("--data.root", "own")
    assert (scores["split"], scores["count"]) == ("test", 1)
    assert "all its" not in said
    _, scores, _ = validate("--data.root", "own", "--split", "all")
    assert (scores["split"], scores["count"], scores["accuracy"]) == ("all", 3, 1)


def test_the_part_that_a_run_would_hold_out_can_still_be_asked_for(validate):
    for digit in DIGITS:
        put(f"own/{digit}", **{f"n{number}": digit for number in range(5)})
    _, scores, _ = validate("--data.root", "own", "--split", "test")
    assert (scores["split"], scores["count"]) == ("test", 10)


@pytest.fixture
def run_on_own_digits(validate, capsys):
    """Make a folder `run` of the included model of digits, as if trained on ten pictures of each in the folder own."""
    for digit in DIGITS:
        put(f"own/{digit}", **{f"n{number}": digit for number in range(10)})
    shutil.copytree(included_models()["digits"], "run/checkpoints/best")
    recipe = Path("run/checkpoints/best/recipe.yaml")
    saved = yaml.safe_load(recipe.read_text())
    saved["data"] |= {"source": "folder", "root": "own"}
    recipe.write_text(yaml.safe_dump(saved))
    task = APP.open(Path("run")).task
    task.prepare()
    write_data_record(RunFolder(Path("run")), task)
    capsys.readouterr()


def test_a_folder_that_has_changed_since_the_run_is_named(run_on_own_digits, capsys):
    """Others are held out then: the run may have trained on some of them."""
    APP.validate(["run", "--num_workers", "0"])
    assert "warning" not in capsys.readouterr().err
    for digit in DIGITS:
        put(f"own/{digit}", a_new_one=digit, another=digit)
    APP.validate(["run", "--num_workers", "0"])
    said = capsys.readouterr().err
    warning = "warning: the samples are not those of this run: train has 90 samples, and had 70; val has other"
    assert warning in said
    for override in (("--data.root", "./own/", "--split", "test"), ("--data.crop_pct", "0.95")):
        APP.validate(["run", "--num_workers", "0", *override])
        assert warning in capsys.readouterr().err
    for override in (("--data.root", "own"), ("--data.limit", "50"), ()):
        APP.validate(["run", "--num_workers", "0", *override, "--split", "all"])  # asked for as they are
        assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("run", ["image", "audio", "video", "segmentation", "detection"])
def test_training_samples_are_scored_as_those_of_the_test_are(run, checkpoints, tmp_path, monkeypatch, capsys):
    """Without augmentation: twice alike. A detector's training set has no truth to score."""
    app = {"audio": AUDIO, "video": VIDEO}.get(run, APP)
    scores = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["validate"])
        app.validate([str(checkpoints / "runs" / run), "--split", "train", "--num_workers", "0"])
        scores.append(json.loads(capsys.readouterr().out))
        scores[-1].pop("samples_per_second")
    assert scores[0] == scores[1]
    assert scores[0]["count"] > 0


def test_another_seed_than_the_runs_is_named_since_it_holds_out_other_files(run_on_own_digits, capsys):
    APP.validate(["run", "--num_workers", "0"])
    assert "warning" not in capsys.readouterr().err
    APP.validate(["run", "--num_workers", "0", "--seed", "1"])
    said = capsys.readouterr().err
    assert "not those of this run: train has other files, 70 as before" in said
    assert "test has other files, 20 as before; what is held out is drawn anew" in said


@pytest.mark.parametrize(
    ("folder", "arguments", "message"),
    [
        ("own/cat", (), "the data have classes that the checkpoint does not know: cat; it knows 0, 1, 2"),
        ("own/7", ("--data.root", "onw"), "there is no folder onw (--data.root), and the recipe would write its own"),
        ("own", ("--data.root", "own"), "found no file ending in"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_a_sentence(folder, arguments, message, validate):
    put(folder, a="7")
    code, scores, said = validate("--data.root", "own", *arguments)
    assert (code, scores) == (2, None)
    assert message in said
    assert "Traceback" not in said
    assert not Path("onw").exists()
