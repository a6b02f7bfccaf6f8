"""How a command ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from eyetoy_train import CheckpointError
from eyetoy_train.ending import exit_on_error
from eyetoy_train.utils import processes
from eyetoy_train.utils.processes import let_the_first_speak, this_command


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("lr is wrong"), 2, "error: lr is wrong\n"),
        (OSError(28, "No space left on device", "a"), 2, "error: [Errno 28] No space left on device: 'a'\n"),
        (CheckpointError("torn"), 2, "error: torn\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (BrokenPipeError(), 141, ""),
        (
            ValueError("Caught ValueError in DataLoader worker process 0.\nTraceback ...\nValueError: a.png is bad\n"),
            2,
            "error: a.png is bad\n",
        ),
    ],
)
def test_it_ends_with_a_sentence_and_a_code(error, code, said, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/there/train.py"])
    with pytest.raises(SystemExit) as stop, exit_on_error():
        raise error
    assert stop.value.code == code
    assert capsys.readouterr().err == (f"train.py: {said}" if said else "")


@pytest.mark.parametrize("error", [KeyError("bug"), RuntimeError("bug"), TypeError("bug")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)), exit_on_error():
        raise error


def test_errors_that_are_not_expected_are_bugs():
    with pytest.raises(ValueError, match="bug"), exit_on_error((OSError,)):
        raise ValueError("bug")


def test_nobody_is_told_when_the_reader_leaves():
    program = (
        "import sys; from eyetoy_train.ending import exit_on_error\n"
        "with exit_on_error():\n for i in range(100_000): print(i)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 141


@pytest.mark.parametrize(
    ("rank", "world", "perhaps", "seconds"),
    [
        (None, None, False, 0),
        (None, None, True, 0),
        ("0", "2", False, 0),
        ("0", "2", True, processes.SHORT_PATIENCE),
        ("1", "2", False, processes.PATIENCE),
        ("1", "2", True, processes.PATIENCE),
    ],
)
def test_one_process_speaks_for_all(rank, world, perhaps, seconds, monkeypatch):
    for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    slept = [0]
    monkeypatch.setattr(processes.time, "sleep", slept.append)
    let_the_first_speak(perhaps_of_another=perhaps)
    assert sum(slept) == seconds


@pytest.mark.parametrize(
    ("parent", "shown"),
    [
        (["bash"], "python -u a/train.py '--name=my run'"),
        (
            ["python", "/bin/accelerate", "launch", "a/train.py", "--name=my run"],
            "python /bin/accelerate launch a/train.py '--name=my run'",
        ),
    ],
)
def test_the_command_that_goes_on_is_whole(parent, shown, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["a/train.py", "--name=my run"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "a/train.py", "--name=my run"])
    monkeypatch.setattr(processes.psutil.Process, "cmdline", lambda process: parent)
    assert this_command() == shown


def test_the_command_that_goes_on_is_whole_for_a_module_under_another_name(monkeypatch):
    words = ["eyetoy", "train", "image"]
    monkeypatch.setattr(sys, "argv", ["eyetoy train image", *words[1:]])  # as the command names itself
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "-m", *words])
    launcher = ["python", "/bin/accelerate", "launch", "--num_processes", "2", "-m", *words]
    monkeypatch.setattr(processes.psutil.Process, "cmdline", lambda process: launcher)
    assert this_command() == "python /bin/accelerate launch --num_processes 2 -m eyetoy train image"
