"""Refuse or skip bad annotations."""

from __future__ import annotations

from collections.abc import Sequence

from eyetoy_train.data.source import RefuseOrSkip
from eyetoy_train.data.unreadable import refuse_or_skip


class BadAnnotationsError(ValueError):
    """A data set has bad annotations, and the recipe refuses these."""


def refuse_or_skip_bad(findings: Sequence[object], summary: str, choice: RefuseOrSkip) -> None:
    """Raise an error about bad annotations, or log what is left out; see `refuse_or_skip`.

    Raises:
        BadAnnotationsError: there are findings, and the choice is `refuse`.
    """
    hint = "apps/image/check.py names all of them"
    refuse_or_skip(findings, summary, choice, "data.bad_annotations", error=BadAnnotationsError, hint=hint)
