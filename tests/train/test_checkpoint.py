"""A complete checkpoint is always there, whenever a write is interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

from eyetoy_train.checkpoint import recover_folder, replace_folder


class Crash(BaseException):
    pass


def content(folder: Path) -> str:
    return (folder / "file").read_text()


def writer(text: str):
    return lambda folder: (folder / "file").write_text(text)


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "last"
    replace_folder(folder, writer("old"))
    replace_folder(folder, writer("new"))
    assert content(folder) == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_crash_while_writing_keeps_the_old_one(tmp_path):
    folder = tmp_path / "last"
    replace_folder(folder, writer("old"))

    def crash(partial: Path) -> None:
        (partial / "file").write_text("half")
        raise Crash

    with pytest.raises(Crash):
        replace_folder(folder, crash)
    recover_folder(folder)
    assert content(folder) == "old"
    replace_folder(folder, writer("new"))
    assert content(folder) == "new"


@pytest.mark.parametrize("crash_at", [1, 2])
def test_a_crash_between_the_renames_loses_nothing(tmp_path, monkeypatch, crash_at):
    folder = tmp_path / "last"
    replace_folder(folder, writer("old"))
    rename, calls = Path.rename, []

    def crashing(self, target):
        calls.append(target)
        if len(calls) == crash_at:
            raise Crash
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", crashing)
    with pytest.raises(Crash):
        replace_folder(folder, writer("new"))
    monkeypatch.undo()
    recover_folder(folder)
    assert content(folder) == "old"


def test_a_first_write_needs_no_backup(tmp_path):
    recover_folder(tmp_path / "last")
    assert not (tmp_path / "last").exists()
