"""Damaged files and odd folders for every reader: a few new ones, and former findings. `nox -s fuzz` has thousands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import REPOSITORY

FUZZ = REPOSITORY / "tools" / "fuzz"
CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())
REPLAY = """
import sys, pathlib
sys.path.insert(0, sys.argv.pop(1))
import fuzz
for path in map(pathlib.Path, sys.argv[1:]):
    read = fuzz.TARGETS.readers[path.name.split("-")[0]][0]
    print(path.name, fuzz.attempt(read, path.read_bytes()), flush=True)
"""


def test_a_few_damaged_files_of_every_reader():
    command = [sys.executable, FUZZ / "fuzz.py", "--count", "100", "--seconds", "3", "--seed", "1"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    counts = re.findall(r"^(\w+) +(\d+) files, +\d+ read, .* 0 findings$", found.stdout, re.MULTILINE)
    assert len(counts) == 15
    assert all(int(count) for _, count in counts)


def test_what_once_was_a_finding_is_none_now():
    command = [sys.executable, "-c", REPLAY, FUZZ, *CORPUS]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    said = [line for line in found.stdout.splitlines() if line.split()[0] in {path.name for path in CORPUS}]
    assert len(said) == len(CORPUS), found.stdout + found.stderr
    # What is wrong with single annotations is left out, and the rest read.
    assert [line for line in said if line.split(" ", 1)[1] not in ("refused", "read")] == []


def test_a_finding_is_found(tmp_path):
    """A reader that crashes, hangs, takes memory or raises something else."""
    reader = "from pathlib import Path\nREFUSALS = (ValueError,)\ndef read(content):\n    {body}\n"
    reader += "readers = {{'x': (read, [b'abc'], False)}}\n"
    for body, expected in (
        ("raise KeyError(3)", "KeyError: '3' at readers.py:4"),
        ("import os; os.abort()", "died of SIGABRT"),
        ("bytearray(4 * 2**30)", "MemoryError"),
    ):
        (tmp_path / "fuzz.py").write_bytes((FUZZ / "fuzz.py").read_bytes())
        (tmp_path / "readers.py").write_text(reader.format(body=body))
        command = [sys.executable, tmp_path / "fuzz.py", "--count", "1", "--output", tmp_path / "out"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        assert found.returncode == 1
        assert expected in found.stdout
        assert (tmp_path / "out" / "x-0-1").is_file()


def test_every_kept_input_is_of_a_reader():
    assert CORPUS
    assert {path.name.split("-")[0] for path in CORPUS} <= {
        *("image", "sound", "video", "coco", "ade", "tables", "recipe", "checkpoint", "tar"),
        *(f"{kind}_folders" for kind in ("image", "sound", "video", "coco", "map", "tar")),
    }


pytestmark = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="forks its readers")
