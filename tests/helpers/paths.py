"""Paths in the repository."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def config(app: str, name: str) -> Path:
    """Return a recipe file of an app."""
    return REPOSITORY / "apps" / app / "src" / f"eyetoy_{app}" / "configs" / f"{name}.yaml"
