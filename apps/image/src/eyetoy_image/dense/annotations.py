"""What a recipe does about bad annotations, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from accelerate import PartialState

from eyetoy_train.utils.console import log

NAMED_FINDINGS = 10


class BadAnnotationsError(ValueError):
    """A set with something wrong in it, where the recipe does not say to leave that out."""


def refuse_or_log(findings: Sequence[object], summary: str, bad_annotations: Literal["refuse", "skip"]) -> None:
    """Stop, or say on the main process what is left out.

    Args:
        findings: what is wrong; as text, they name it. Nothing is said if there are none.
        summary: counts it.
        bad_annotations: what the recipe says.

    Raises:
        BadAnnotationsError: the recipe says to refuse it.
    """
    if not findings:
        return
    if bad_annotations == "refuse":
        named = "\n".join(map(str, findings[:NAMED_FINDINGS]))
        raise BadAnnotationsError(
            f"{summary}\n{named}\napps/image/check.py names all of them; data.bad_annotations: skip leaves them out"
        )
    if PartialState().is_main_process:
        log(f"left out of {summary}")
