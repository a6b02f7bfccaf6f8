"""Commands of the docs: `eyetoy train image ...` and `accelerate launch apps/image/train.py ...` mean the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class AppCommand:
    """A command of an app as the docs write it."""

    name: str
    """Such as `train`."""
    app: str | None
    """Such as `image`; None where the checkpoint tells."""
    arguments: list[str]


def app_command(words: Sequence[str]) -> AppCommand | None:
    """Return the command of an app in a line of the docs; None for any other line."""
    for place, word in enumerate(words):
        script = re.fullmatch(r"apps/(\w+)/(\w+)\.py", word)
        if script:
            return AppCommand(script[2], script[1], list(words[place + 1 :]))
        if word == "eyetoy" and place + 1 < len(words):
            name, *arguments = words[place + 1 :]
            if name in ("train", "check"):
                return AppCommand(name, arguments[0], arguments[1:])
            return AppCommand(name, None, arguments)
    return None
