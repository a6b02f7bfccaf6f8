"""What the tests run in a fork behaves like a new process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from helpers.forks import FORKS, Forks

NEW = Forks(can_fork=False)
"""As on systems other than Linux."""


@pytest.fixture(params=[FORKS, NEW], ids=["fork", "new process"])
def forks(request: pytest.FixtureRequest) -> Forks:
    kind: Forks = request.param
    return kind


@pytest.mark.parametrize(
    ("code", "ended", "said"),
    [
        ("print('done')", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('a reason')", 1, "a reason\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_it_ends_with_its_code(forks: Forks, code: str, ended: int, said: str) -> None:
    done = forks.run(["-c", code])
    assert (done.returncode, done.stderr) == (ended, said)
    assert done.stdout == ("done\n" if "done" in code else "")


def test_an_error_is_shown_and_other_programs_go_on(forks: Forks) -> None:
    done = forks.run(["-c", "import atexit; atexit.register(print, 'left'); 1 / 0"])
    assert (done.returncode, done.stdout) == (1, "left\n")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_it_has_its_own_place_words_and_variables_and_nothing_of_ours(forks: Forks, tmp_path: Path) -> None:
    (tmp_path / "near.py").write_text("NAME = 'near'")
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, near\n"
        "ours = [name for name in sys.modules if name.startswith(('eyetoy', 'helpers', 'pytest'))]\n"
        "print(near.NAME, os.getcwd(), sys.argv, os.environ['MINE'], ours, os.getpid() == os.getsid(0), flush=True)\n"
        "print('unwell', file=sys.stderr)\n"
    )
    done = forks.run([script, "two words"], cwd=tmp_path, env=os.environ | {"MINE": "x"}, merge=True)
    assert done.stdout == f"near {tmp_path} {[str(script), 'two words']} x [] True\nunwell\n"


def test_a_signal_reaches_it(forks: Forks) -> None:
    process = forks.start(["-c", "import signal; signal.pause()"])
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM


def test_what_does_not_end_is_ended(forks: Forks) -> None:
    process = forks.start(["-c", "import time; time.sleep(60)"])
    with pytest.raises(TimeoutError, match="did not end within"):
        process.wait(0.2)
    assert process.wait(30) == -signal.SIGKILL


def test_several_know_of_each_other(forks: Forks) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    code = f"import os; print(*(os.environ[name] for name in {names}))"
    assert forks.run_several(2, ["-c", code], env={**os.environ}) == "0 0 2 2 127.0.0.1\n"
    with pytest.raises(AssertionError, match="ValueError: 1"):
        forks.run_several(2, ["-c", "import os; raise ValueError(os.environ['RANK'])"], env={**os.environ})
