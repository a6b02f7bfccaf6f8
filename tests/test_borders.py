"""Which package may import which: apps -> eyetoy_train -> eyetoy."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.paths import REPOSITORY

ROOT = REPOSITORY
CORE = ROOT / "packages" / "eyetoy"
ENGINE = ROOT / "packages" / "eyetoy_train"
APPS = sorted(folder.name for folder in (ROOT / "apps").iterdir() if folder.is_dir())
OVER_ALL = "demo"
"""Shows the other apps, and so imports them; none of them imports it."""
APP_PACKAGES = {app: f"eyetoy_{app}" for app in APPS}
CORE_MAY_IMPORT = {"eyetoy", "torch", "numpy", "safetensors", "huggingface_hub", *sys.stdlib_module_names}


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every module that the files of a folder import, at any depth of the code, with the place it is written."""
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for module in _modules(node):
                yield module, f"{file.name}:{node.lineno} imports {module}"


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if node.level == 0 else []
    if isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "importlib.import_module",
        "import_module",
        "__import__",
    ):
        return [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
    return []


def top(module: str) -> str:
    return module.partition(".")[0]


def test_core_imports_torch_and_little_else() -> None:
    found = list(imports(CORE))
    assert any(top(module) == "torch" for module, _ in found)
    others = {(place.partition(":")[0], top(module)) for module, place in found if top(module) not in CORE_MAY_IMPORT}
    # Two modules import something optional, by name and when they are called.
    assert others == {("natten.py", "natten"), ("factory.py", "timm")}


def test_engine_imports_no_app_and_no_modality() -> None:
    forbidden = {*APP_PACKAGES.values(), "apps", "torchvision", "torchaudio"}
    found = list(imports(ENGINE))
    assert any(top(module) == "eyetoy" for module, _ in found)
    assert [place for module, place in found if top(module) in forbidden] == []


@pytest.mark.parametrize("app", [app for app in APPS if app != OVER_ALL])
def test_app_imports_no_other_app(app: str) -> None:
    others = {package for name, package in APP_PACKAGES.items() if name != app} | {"apps"}
    assert [place for module, place in imports(ROOT / "apps" / app) if top(module) in others] == []


@pytest.mark.parametrize(
    "code",
    [
        "import torchvision",
        "import torchvision.ops as ops",
        "from torchvision.ops import nms",
        "def late():\n    import torchvision",
        "try:\n    import torchvision\nexcept ImportError:\n    pass",
        "import importlib\nimportlib.import_module('torchvision.ops')",
    ],
)
def test_an_import_is_found_wherever_it_hides(code: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(code, encoding="utf-8")
    assert "torchvision" in {top(module) for module, _ in imports(tmp_path)}


def test_importing_the_core_loads_no_modality_and_no_engine() -> None:
    heavy = ["torchvision", "torchaudio", "accelerate", "matplotlib", "natten", "timm", "eyetoy_train"]
    code = f"import eyetoy, json, sys; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(result.stdout) == []
    assert result.stderr == ""


def test_public_names_exist_and_are_documented() -> None:
    import eyetoy

    assert eyetoy.__all__ == sorted(eyetoy.__all__)
    assert [name for name in eyetoy.__all__ if not getattr(eyetoy, name).__doc__] == []
