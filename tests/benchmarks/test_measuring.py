"""benchmarks/measuring.py: folders for results."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

from helpers.paths import REPOSITORY


def test_the_folder_for_results_is_there_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    output_folder = importlib.import_module("measuring").output_folder
    assert output_folder(str(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(argparse.ArgumentTypeError, match="cannot make the folder .*/file/a: Not a directory"):
        output_folder(str(tmp_path / "file" / "a"))
