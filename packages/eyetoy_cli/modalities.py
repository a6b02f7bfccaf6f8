"""Where the recipes of the apps lie; found without importing them. `eyetoy_NAME` is the package of a modality."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path


def recipe_files(modality: str) -> Mapping[str, Path]:
    """Return the files of an app's recipes by their names, sorted."""
    spec = find_spec(f"eyetoy_{modality}")
    if spec is None:
        raise ModuleNotFoundError(f"the installation of eyetoy lacks its part eyetoy_{modality}")
    folders = [Path(folder) / "configs" for folder in spec.submodule_search_locations or ()]
    return {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}
