"""`eyetoy COMMAND ...`: find the app that a command line means, and let it do the rest.

The apps parse the options. Here only the modality is found, so that help and listings start without PyTorch.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from eyetoy_cli.commands import COMMANDS, Command
from eyetoy_train.types import MODALITIES

EXTRAS = {"eyetoy_audio": "audio", "eyetoy_image": "image", "eyetoy_video": "video", "eyetoy_demo": "demo"}
"""The extra with the packages that an app needs."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command line.

    Args:
        argv: the command line without the program; `sys.argv[1:]` by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _say(_overview())
        return
    if arguments[0] == "--version":
        # Not `eyetoy.__version__`, for which PyTorch would be imported.
        from importlib.metadata import version

        _say(f"eyetoy {version('eyetoy')}")
        return
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise _refused("eyetoy", f"there is no command {name!r}{meant}; the commands are {', '.join(COMMANDS)}")
    try:
        run_command(name, COMMANDS[name], rest)
    except KeyboardInterrupt as error:  # while PyTorch is imported; what runs ends in its own way
        _say_wrong(f"eyetoy {name}: interrupted")
        raise SystemExit(130) from error


def run_command(name: str, command: Command, arguments: Sequence[str]) -> None:
    """Run a command with the arguments that follow its name."""
    program = f"eyetoy {name}"
    if command.takes == "modality":
        modality, arguments = _modality_of(program, command, arguments)
        program = f"{program} {modality}"
    elif command.takes == "checkpoint":
        modality = _modality_of_checkpoint(program, command, arguments)
    else:
        modality = ""
    # Parsers and messages name the program by this. The rest stays: it tells how the process was started.
    sys.argv[0] = program
    place = command.place.format(modality=modality)
    with _extra_of(place, program):  # around the run, too: much is imported only when it is needed
        if code := _found(place)(arguments):
            raise SystemExit(code)


def _modality_of(program: str, command: Command, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return the modality that the arguments start with, and the others; end the program if they do not."""
    first, *others = arguments or [""]
    if first in ("-h", "--help"):
        _say(f"usage: {program} {command.usage}\n\n{_sentence(command.summary)} All options: {program} image --help")
        raise SystemExit(0)
    if first not in MODALITIES:
        got = f"got {first!r}" if first else "got nothing"
        raise _refused(
            program, f"name what the data are first, {' or '.join(MODALITIES)}, as in {program} image; {got}"
        )
    return first, others


def _modality_of_checkpoint(program: str, command: Command, arguments: Sequence[str]) -> str:
    """Return the modality of the first checkpoint among the arguments; end the program without any."""
    named = [argument for argument in arguments if not argument.startswith("-")]
    if not named and any(argument in ("-h", "--help") for argument in arguments):
        _say(
            f"usage: {program} {command.usage}\n\n{_sentence(command.summary)} Options depend on the checkpoint: "
            f"{program} CHECKPOINT --help"
        )
        raise SystemExit(0)
    if not named:
        raise _refused(program, f"give a checkpoint: {program} {command.usage}")
    with _extra_of("eyetoy_train", program):
        opened = import_module("eyetoy_train.models.opened")
    # Options differ between apps, so any argument may be the checkpoint: `--data.root FOLDER RUN` has it last.
    errors = []
    for argument in named:
        try:
            modality: str = opened.modality_of(opened.find_checkpoint(Path(argument)))
        except (OSError, ValueError) as error:
            errors.append(str(error))
        else:
            return modality
    raise _refused(program, errors[0])


def _found(place: str) -> Callable[[Sequence[str]], int | None]:
    """Return the function at `module:attribute.attribute`."""
    module, _, attributes = place.partition(":")
    found: Any = import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    function: Callable[[Sequence[str]], int | None] = found
    return function


@contextmanager
def _extra_of(place: str, program: str) -> Iterator[None]:
    """End the program if a package is missing, and name the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("eyetoy"):
            raise
        extra = EXTRAS.get(place.partition(".")[0], "train")
        raise _refused(
            program, f'needs the package {missing}; install it with pip install "eyetoy[{extra}]"'
        ) from error


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: eyetoy COMMAND ...",
            "",
            "Train encoders for sound, images and video, and use them.",
            "",
            *lines,
            "",
            "eyetoy COMMAND --help tells more. Several processes: accelerate launch -m eyetoy train image ...",
        ]
    )


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _say(text: str) -> None:
    print(text)  # noqa: T201


def _refused(program: str, why: str) -> SystemExit:
    """Say why a command line is refused, and return the end of the program."""
    _say_wrong(f"{program}: error: {why}")
    return SystemExit(2)


def _say_wrong(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
