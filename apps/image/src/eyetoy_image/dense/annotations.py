"""What a recipe does about bad annotations, whatever they are."""

from __future__ import annotations

from collections.abc import Sequence

from eyetoy_train.data.source import RefuseOrSkip
from eyetoy_train.data.unreadable import refuse_or_skip


class BadAnnotationsError(ValueError):
    """A set with bad annotations, where the recipe does not say to leave these out."""


def refuse_or_skip_bad(findings: Sequence[object], summary: str, choice: RefuseOrSkip) -> None:
    """Stop because of bad annotations, or say what is left out; see `refuse_or_skip`.

    Raises:
        BadAnnotationsError: there are some, and the recipe says to refuse them.
    """
    hint = "apps/image/check.py names all of them"
    refuse_or_skip(findings, summary, choice, "data.bad_annotations", error=BadAnnotationsError, hint=hint)
