"""A complete checkpoint is always there, whenever a write is interrupted, and a damaged one is known."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from eyetoy_train import CheckpointError, CheckpointRecipe, train
from eyetoy_train.checkpoint.atomic import check_folder, is_complete, recover_folder, remove_folder, write_folder
from eyetoy_train.checkpoint.retention import CheckpointStore
from eyetoy_train.utils.files import write_text


class Crash(BaseException):
    pass


def content(folder: Path) -> str:
    return (folder / "file").read_text()


def writer(text: str):
    return lambda folder: (folder / "file").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_replaced_whole(tmp_path):
    folder = tmp_path / "last"
    write_folder(folder, writer("old"))
    write_folder(folder, writer("new"))
    assert content(folder) == "new"
    assert names(tmp_path) == ["last"]
    assert is_complete(folder)
    check_folder(folder)


def test_a_crash_while_writing_keeps_the_old_one(tmp_path):
    folder = tmp_path / "last"
    write_folder(folder, writer("old"))

    def crash(partial: Path) -> None:
        (partial / "file").write_text("half")
        raise Crash

    with pytest.raises(Crash):
        write_folder(folder, crash)
    recover_folder(folder)
    assert content(folder) == "old"
    write_folder(folder, writer("new"))
    assert content(folder) == "new"


@pytest.mark.parametrize("crash_at", [1, 2])
def test_a_crash_between_the_renames_loses_nothing(tmp_path, monkeypatch, crash_at):
    folder = tmp_path / "last"
    write_folder(folder, writer("old"))
    rename, calls = Path.rename, []

    def crashing(self, target):
        calls.append(target)
        if len(calls) == crash_at:
            raise Crash
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", crashing)
    with pytest.raises(Crash):
        write_folder(folder, writer("new"))
    monkeypatch.undo()
    recover_folder(folder)
    assert content(folder) == "old"


def test_a_first_write_needs_no_backup(tmp_path):
    recover_folder(tmp_path / "last")
    assert not (tmp_path / "last").exists()


def test_a_backup_does_not_take_the_place_of_a_whole_folder(tmp_path):
    write_folder(tmp_path / "last", writer("new"))
    write_folder(tmp_path / "last.backup", writer("old"))
    recover_folder(tmp_path / "last")
    assert content(tmp_path / "last") == "new"


def test_a_removal_that_is_interrupted_leaves_nothing_that_passes_for_whole(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path, CheckpointRecipe())
    store.write_step(3, writer("x"))

    def crash(path, **_):
        if Path(path).exists():
            raise Crash

    monkeypatch.setattr("eyetoy_train.checkpoint.atomic.shutil.rmtree", crash)
    with pytest.raises(Crash):
        remove_folder(tmp_path / "step-00000003")
    monkeypatch.undo()
    assert store.steps() == []
    store.recover()
    assert names(tmp_path) == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    write_text(tmp_path / "file", "old")

    def crash(*_):
        raise Crash

    monkeypatch.setattr("eyetoy_train.utils.files.os.fsync", crash)
    with pytest.raises(Crash):
        write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text("nex"), "content of file has changed"),
        (lambda path: path.write_text("ne"), "file has 2 bytes of 3"),
        (lambda path: path.write_text("newer"), "file has 5 bytes of 3"),
        (lambda path: path.unlink(), "file is missing"),
        (lambda path: path.with_name("manifest.json").write_text("{"), "manifest.json cannot be read"),
        (lambda path: path.with_name("manifest.json").write_text("[1]"), "manifest.json cannot be read"),
    ],
)
def test_a_damaged_folder_is_told_by_what_is_wrong_with_it(tmp_path, damage, message):
    folder = tmp_path / "last"
    write_folder(folder, writer("new"))
    damage(folder / "file")
    with pytest.raises(CheckpointError, match=message):
        check_folder(folder)


def test_the_latest_checkpoints_are_kept_by_count(tmp_path):
    store = CheckpointStore(tmp_path, CheckpointRecipe(keep_last=2))
    for step in (3, 20, 100):
        store.write_step(step, writer(str(step)))
    assert names(tmp_path) == ["step-00000020", "step-00000100"]
    assert store.latest() == tmp_path / "step-00000100"


def test_a_checkpoint_that_was_not_written_to_its_end_is_none(tmp_path):
    store = CheckpointStore(tmp_path, CheckpointRecipe())
    store.write_step(1, writer("1"))
    (tmp_path / "step-00000002").mkdir()
    (tmp_path / "step-00000002" / "file").write_text("2")
    assert store.latest() == tmp_path / "step-00000001"


def test_a_damaged_latest_checkpoint_is_refused_and_the_older_one_named_and_kept(tmp_path):
    store = CheckpointStore(tmp_path, CheckpointRecipe())
    for step in (1, 2):
        store.write_step(step, writer(str(step)))
    (tmp_path / "step-00000002" / "file").write_text("")
    with pytest.raises(CheckpointError, match="step-00000002 is damaged.*remove it to go on from .*step-00000001"):
        store.latest()
    assert content(tmp_path / "step-00000001") == "1"


def test_the_best_are_kept_by_score(tmp_path):
    store = CheckpointStore(tmp_path, CheckpointRecipe(keep_best=2))
    store.write_best({1: 0.5}, writer("1"))
    store.write_best({2: 0.7, 1: 0.5}, writer("2"))
    store.write_best({2: 0.7, 3: 0.6}, writer("3"))
    assert {name: content(tmp_path / name) for name in names(tmp_path)} == {
        "best": "2",
        "best-epoch-0002": "2",
        "best-epoch-0003": "3",
    }
    for name in names(tmp_path):
        check_folder(tmp_path / name)


@pytest.fixture
def no_room_for_large_files():
    """Let the system refuse files over 100 kB, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_and_the_older_checkpoint_kept(slopes, toy_recipe, tmp_path, no_room_for_large_files):
    class DiskFillsUp(slopes):
        passes = 0

        def loss(self, model, batch):
            self.passes += 1
            if self.passes == 7:
                no_room_for_large_files()
            return super().loss(model, batch)

    recipe = toy_recipe()
    older = tmp_path / "run" / "checkpoints" / "step-00000005"
    with pytest.raises(CheckpointError, match=r"could not write .*: .*MB are free there\)"):
        train(DiskFillsUp(recipe), recipe)
    check_folder(older)
    assert not list(tmp_path.rglob("*.partial"))


def shrink(run: Path) -> None:
    path = max((run / "checkpoints").glob("step-*")) / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def replace_model(run: Path) -> None:
    folder = max((run / "checkpoints").glob("step-*"))
    write_folder(folder, lambda other: save_file({"weight": torch.zeros(2)}, other / "model.safetensors"))


@pytest.mark.parametrize(
    ("change", "message"),
    [(shrink, "optimizer.safetensors has .* bytes of .*remove it to go on from"), (replace_model, "another model")],
)
def test_a_run_does_not_go_on_from_a_checkpoint_that_is_not_its_own_work(toy, toy_recipe, tmp_path, change, message):
    recipe = toy_recipe(checkpoints={"every_steps": 2})
    with pytest.raises(toy.Interrupted):
        train(toy.Killed(recipe), recipe)
    change(tmp_path / "run")
    before = names(tmp_path / "run" / "checkpoints")
    with pytest.raises(CheckpointError, match=message):
        train(toy.Slopes(recipe), recipe)
    assert names(tmp_path / "run" / "checkpoints") == before
