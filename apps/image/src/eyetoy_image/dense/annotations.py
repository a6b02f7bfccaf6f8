"""Refuse or skip bad annotations."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from eyetoy_train.commands.cli import check_parser
from eyetoy_train.data.source import RefuseOrSkip
from eyetoy_train.data.unreadable import name_few, refuse_or_skip


class BadAnnotationsError(ValueError):
    """A data set has bad annotations, and the recipe refuses these."""


def refuse_or_skip_bad(findings: Sequence[object], summary: str, choice: RefuseOrSkip, hint: str = "") -> None:
    """Raise an error about bad annotations, or log what is left out; see `refuse_or_skip`.

    Raises:
        BadAnnotationsError: there are findings, and the choice is `refuse`.
    """
    hint = "\n".join(filter(None, [hint, "eyetoy check image --all names all of them"]))
    refuse_or_skip(findings, summary, choice, "data.bad_annotations", error=BadAnnotationsError, hint=hint)


def annotations_parser(description: str) -> argparse.ArgumentParser:
    """Return a `check_parser` with an option to name all findings."""
    parser = check_parser(description)
    parser.add_argument("--all", action="store_true", help="name all findings, not the first few of each kind")
    return parser


def named(findings: Sequence[object], options: argparse.Namespace) -> list[str]:
    """Return the lines about findings that the options of an `annotations_parser` ask for."""
    return list(map(str, findings)) if options.all else name_few(findings)
