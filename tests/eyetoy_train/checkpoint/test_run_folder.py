"""One process at a time in the folder of a run."""

from __future__ import annotations

import errno
import subprocess
import sys
import time

import pytest

from eyetoy_train.checkpoint.run_folder import is_locked, run_lock

HOLD = """
import sys
from pathlib import Path
from eyetoy_train.checkpoint.run_folder import run_lock

with run_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_refused_at_once_until_the_first_one_dies(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "locked\n"
        assert is_locked(tmp_path)
        started = time.monotonic()
        with pytest.raises(FileExistsError, match="another process is training in"), run_lock(tmp_path):
            pass
        assert time.monotonic() - started < 1
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / "run.lock").exists()  # as a process leaves it that is killed
    assert not is_locked(tmp_path)
    with run_lock(tmp_path):
        pass
    assert not (tmp_path / "run.lock").exists()


def test_the_folder_stays_if_there_is_something_in_it(tmp_path):
    for name, text in (("empty", None), ("full", "x")):
        with run_lock(tmp_path / name):
            assert is_locked(tmp_path / name)
            if text:
                (tmp_path / name / "file").write_text(text)
    assert not (tmp_path / "empty").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


def test_an_error_in_the_run_frees_the_folder(tmp_path):
    with pytest.raises(KeyError), run_lock(tmp_path / "run"):
        raise KeyError
    assert not (tmp_path / "run").exists()


def test_who_asks_leaves_a_free_folder_free(tmp_path):
    assert not is_locked(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "run.lock").touch()
    assert not is_locked(tmp_path)
    with run_lock(tmp_path):
        assert is_locked(tmp_path)
        assert is_locked(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_stops_no_run(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    (tmp_path / "run.lock").touch()
    assert not is_locked(tmp_path)
    with run_lock(tmp_path):
        pass
    assert not (tmp_path / "run.lock").exists()
