"""Shell completion: `source <(eyetoy completion bash)`.

The shell asks `eyetoy completion words ...` at every tab, so the answer comes without PyTorch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from eyetoy_cli.commands import COMMANDS
from eyetoy_cli.modalities import recipe_files
from eyetoy_train.types import MODALITIES

BASH = """\
_eyetoy() {
    COMPREPLY=($(eyetoy completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _eyetoy eyetoy
"""
SCRIPTS = {
    "bash": BASH,
    # Bash's rules hold in zsh, too, and fall back on files in the same way.
    "zsh": f"autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{BASH}",
    "fish": "complete -c eyetoy -a '(eyetoy completion words -- (commandline -opc)[2..] (commandline -ct))'\n",
}
"""What a shell runs, by its name; where nothing is found, it completes files."""


def complete(argv: Sequence[str]) -> None:
    """Print the script of a shell, or the words that may stand where the cursor is."""
    parser = argparse.ArgumentParser(
        description="Print a script that completes eyetoy's commands, recipes and options. In bash and zsh: "
        "source <(eyetoy completion bash); in fish: eyetoy completion fish | source"
    )
    parser.add_argument("shell", choices=[*SCRIPTS, "words"], help="the shell; words is for the scripts themselves")
    parser.add_argument("typed", nargs="*", help="the words typed so far, the last of them perhaps empty")
    options = parser.parse_args(argv)
    if options.shell in SCRIPTS:
        print(SCRIPTS[options.shell], end="")  # noqa: T201
        return
    *before, last = options.typed or [""]
    print("\n".join(word for word in candidates(before) if word.startswith(last)))  # noqa: T201


def candidates(before: Sequence[str]) -> Sequence[str]:
    """Return the words that may follow the words `before` of a command line; none where only files may."""
    if not before:
        return [*COMMANDS, "--help", "--version"]
    command, *arguments = before
    if command not in COMMANDS:
        return []
    if command == "completion":
        return list(SCRIPTS) if not arguments else []
    if COMMANDS[command].takes != "modality":
        return ["--help"]
    if not arguments:
        return MODALITIES
    if arguments[0] not in MODALITIES:
        return []
    if arguments[-1] == "--config":
        return list(recipe_files(arguments[0]))
    try:
        options: list[str] = import_module(f"eyetoy_{arguments[0]}.app").APP.options(arguments[1:])
    except ModuleNotFoundError:  # the app's extra is not installed, and a tab is no place to say so
        return ["--config", "--help"]
    return options
