"""How a command ends: in one sentence if its input is wrong, quietly if nobody reads on, in one line on Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eyetoy_train.types import CheckpointError
from eyetoy_train.utils.console import log
from eyetoy_train.utils.processes import is_first_process, let_the_first_speak

WRONG_INPUT: tuple[type[Exception], ...] = (ValueError, OSError, CheckpointError)
"""What is raised for wrong input before any work is done; nearly all that these have to say is for the user."""


@contextmanager
def exit_on_error(expected: tuple[type[Exception], ...] = WRONG_INPUT) -> Iterator[None]:
    """Turn an error about the user's input into a sentence and exit code 2, as argparse does.

    If whatever reads the output ends, as in `predict.py ... | head`, the program ends with code 141 and without a
    word. On Ctrl-C it ends with a line and code 130. Other errors are bugs, and keep their traceback.

    Args:
        expected: the errors that are about the input.
    """
    try:
        try:
            yield
        except SystemExit:  # of `--help`, among others
            sys.stdout.flush()
            raise
        sys.stdout.flush()  # here, or the interpreter would do it at its end, and complain of a closed pipe
    except BrokenPipeError as error:
        _drop_output()
        raise SystemExit(128 + getattr(signal, "SIGPIPE", 13)) from error
    except KeyboardInterrupt as error:
        if is_first_process():
            log(f"{_program()}: interrupted", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from error
    except expected as error:
        let_the_first_speak()
        log(f"{_program()}: error: {_sentence(error)}", file=sys.stderr)
        raise SystemExit(2) from error
    except Exception:
        let_the_first_speak(perhaps_of_another=True)
        raise


def _program() -> str:
    return Path(sys.argv[0]).name


def _sentence(error: Exception) -> str:
    """Return what an error says; of one that torch passes on from a loading worker, its last line alone."""
    text = str(error)
    if "DataLoader worker process" in text:
        *_, last = text.strip().splitlines()
        text = last.partition(": ")[2] or last
    return text or type(error).__name__


def _drop_output() -> None:
    """Send what is still to be written to nowhere, or the interpreter would fail on it at its end."""
    with suppress(OSError, ValueError):  # a stream that a test or a notebook has put there is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
