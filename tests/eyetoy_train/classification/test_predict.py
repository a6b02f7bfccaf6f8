"""Files that are given to predict, and what its predictions look like in files and on the terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import sys

import pytest

from eyetoy_train.classification.predict import Prediction, write_predictions
from eyetoy_train.commands.cli import expand

NAME = os.fsdecode(b"im\xe4ge.png")
SEEN = "im\\udce4ge.png"


@pytest.mark.parametrize("suffix", [".csv", ".json", None])
def test_names_that_are_not_utf8_are_written_escaped(tmp_path, monkeypatch, suffix):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr(sys, "stdout", stdout)
    output = tmp_path / f"out{suffix}" if suffix else None
    write_predictions([Prediction(NAME, {}, ("a",), (1.0,))], output)
    if output is None:
        assert stdout.buffer.getvalue().decode() == f"{SEEN}  a 100.0%\n"
    elif suffix == ".csv":
        with output.open(encoding="utf-8") as file:
            assert [row["file"] for row in csv.DictReader(file)] == [SEEN]
    else:
        assert json.loads(output.read_text(encoding="utf-8"))[0]["file"] == NAME


def test_a_folder_without_files_of_the_kind_is_refused_and_says_what_it_holds(tmp_path):
    for name in ("a.jfif", "._a.png", "notes.md"):
        (tmp_path / name).write_text("x")
    told = r"found no file ending in \.png in the folder .*; it holds 2 files of other types, 1 hidden or system files"
    with pytest.raises(FileNotFoundError, match=told):
        list(expand([tmp_path], [".png"]))
    (tmp_path / "b.PNG").write_text("x")
    assert list(expand([tmp_path], [".png"])) == [tmp_path / "b.PNG"]
