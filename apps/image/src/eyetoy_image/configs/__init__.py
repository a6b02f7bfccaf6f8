"""Recipes by name."""

from pathlib import Path

CONFIGS = Path(__file__).parent
