"""Which module may import which: apps -> eyetoy_train -> eyetoy, wings of the engine by a table, and no circles.

Imports count wherever they are written: in functions, under `if TYPE_CHECKING`, or as `import_module("name")`.
"""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
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
SOURCES = [ROOT / "packages", *(ROOT / "apps").glob("*/src"), ROOT / "benchmarks" / "baselines" / "src"]

PACKAGES_MAY_IMPORT = {
    "eyetoy": [],
    "eyetoy_train": ["eyetoy"],
    "eyetoy_baselines": ["eyetoy", "eyetoy_train.models", "eyetoy_audio.transforms"],
    "eyetoy_audio": ["eyetoy", "eyetoy_train"],
    "eyetoy_image": ["eyetoy", "eyetoy_train"],
    "eyetoy_video": ["eyetoy", "eyetoy_train"],
    "eyetoy_cli": ["eyetoy", "eyetoy_train", "eyetoy_audio", "eyetoy_image", "eyetoy_video", "eyetoy_demo"],
    "eyetoy_demo": ["eyetoy", "eyetoy_train", "eyetoy_audio", "eyetoy_image", "eyetoy_video"],
}
WINGS_MAY_IMPORT = {
    "types": [],
    "concerns": [],
    "recipe": ["concerns"],
    "utils": [],
    "ending": ["types", "utils"],
    "media": [],
    "task": ["recipe", "types"],
    "data": ["concerns", "types", "utils"],
    "models": ["eyetoy", "recipe", "task", "types", "utils"],
    "optim": ["eyetoy", "recipe", "utils"],
    "checkpoint": ["eyetoy", "optim.ema", "recipe", "task", "types", "utils"],
    "export": ["types"],
    "report": ["eyetoy", "checkpoint.run_folder", "recipe", "task", "types", "utils"],
    "engine": [
        *("checkpoint", "data", "ending", "optim", "recipe", "task", "types", "utils"),
        *("report.page", "report.model_card"),  # what a finished run writes, and nothing of how it is drawn
    ],
    "classification": [
        *("data", "export.portable", "models", "recipe", "report.figures", "task", "types", "utils"),
    ],
    "embedding": ["utils"],
    "visualize": ["eyetoy", "classification", "models", "recipe", "types", "utils"],
    "commands": [
        *("checkpoint", "classification", "concerns", "data", "embedding", "ending", "engine", "export", "models"),
        *("recipe", "task", "types", "utils"),
    ],
}
"""The parts of eyetoy_train, and which others each may import: a whole one, or a single module of it."""


def imports(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every module that the files of a folder import, at any depth of the code, with the place it is written."""
    for file in sorted(folder.rglob("*.py")):
        for module, line in imports_of(file):
            yield module, f"{file.name}:{line} imports {module}"


def imports_of(file: Path, *, by_name: bool = True) -> Iterator[tuple[str, int]]:
    """Yield what a file imports and in which line; `by_name` includes `import_module("name")`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for module in _modules(node):
            if by_name or not isinstance(node, ast.Call):
                yield module, node.lineno  # type: ignore[attr-defined]


def _modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"write the whole name instead of {ast.unparse(node)}"
        # `from package import name` may mean a module, which only a look at the files can tell: see `graph_of`.
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "importlib.import_module",
        "import_module",
        "__import__",
    ):
        return [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
    return []


def top(module: str) -> str:
    return module.partition(".")[0]


def modules_of(sources: list[Path]) -> dict[str, Path]:
    """Return the files of all modules below some folders, by their full names; a package's is its `__init__.py`."""
    files = [(file, file.relative_to(source)) for source in sources for file in sorted(source.rglob("*.py"))]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): file for file, path in files}


def graph_of(modules: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return which of some modules each of them imports."""

    graph = {}
    for module, file in modules.items():
        static = {name for name, _ in imports_of(file, by_name=False)}
        # Apps load the baselines by name, when a recipe asks for one: that binds nobody to them.
        names = static | {name for name, _ in imports_of(file) if top(name) != "eyetoy_baselines"}
        graph[module] = {name if name in modules else name.rpartition(".")[0] for name in names} & modules.keys()
    return graph


MODULES = modules_of(SOURCES)
GRAPH = graph_of(MODULES)


def is_in(module: str, part: str) -> bool:
    """Whether a module is, or lies in, a package or module."""
    return f"{module}.".startswith(f"{part}.")


def edges_from(part: str, *, exactly: bool = False) -> set[tuple[str, str]]:
    """Return the imports of a part of the project, or of one module, as pairs: who imports, and what."""
    importing = [module for module in GRAPH if module == part or (is_in(module, part) and not exactly)]
    return {(module, other) for module in importing for other in GRAPH[module]}


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the members of a circle, or nothing."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_core_imports_torch_and_little_else() -> None:
    found = list(imports(CORE))
    assert any(top(module) == "torch" for module, _ in found)
    others = {(place.partition(":")[0], top(module)) for module, place in found if top(module) not in CORE_MAY_IMPORT}
    # Two modules import something optional as they are called; the third is itself imported at the first launch.
    assert others == {("natten.py", "natten"), ("factory.py", "timm"), ("kernels.py", "triton")}


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
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torchvision import ops",
    ],
)
def test_an_import_is_found_wherever_it_hides(code: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(code, encoding="utf-8")
    assert "torchvision" in {top(module) for module, _ in imports(tmp_path)}


@pytest.mark.parametrize("package", sorted({top(module) for module in MODULES}))
def test_packages_import_downwards(package: str) -> None:
    allowed = [package, *PACKAGES_MAY_IMPORT[package]]
    edges = sorted(edges_from(package))
    assert edges
    assert [edge for edge in edges if not any(is_in(edge[1], part) for part in allowed)] == []


@pytest.mark.parametrize("wing", sorted({module.split(".")[1] for module in MODULES if "eyetoy_train." in module}))
def test_wings_of_the_engine_import_what_the_table_allows(wing: str) -> None:
    allowed = [wing, *WINGS_MAY_IMPORT[wing]]
    found = [
        (module, other.removeprefix("eyetoy_train.")) for module, other in sorted(edges_from(f"eyetoy_train.{wing}"))
    ]
    assert [edge for edge in found if not any(is_in(edge[1], part) for part in allowed)] == []


def test_the_table_of_wings_has_no_circle() -> None:
    table = {wing: {part.partition(".")[0] for part in parts} for wing, parts in WINGS_MAY_IMPORT.items()}
    assert circle_in(table) == []


def test_modules_import_each_other_in_no_circle() -> None:
    assert circle_in({module: {other for _, other in edges_from(module, exactly=True)} for module in GRAPH}) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("from package.one import f", encoding="utf-8")
    (tmp_path / "package" / "one.py").write_text("def f():\n    from package import two", encoding="utf-8")
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from package.one import f"
    (tmp_path / "package" / "two.py").write_text(hidden, encoding="utf-8")
    assert set(circle_in(graph_of(modules_of([tmp_path])))) == {"package.one", "package.two"}


@pytest.mark.parametrize(
    ("libraries", "places"),
    [
        (("av", "torchcodec"), ("packages/eyetoy_train/media",)),
        # The app for audio writes wav files by it as well, in two places.
        (
            ("soundfile",),
            (
                "packages/eyetoy_train/media",
                "apps/audio/src/eyetoy_audio/figures.py",
                "apps/audio/src/eyetoy_audio/datasets/spoken_keywords.py",
            ),
        ),
    ],
)
def test_libraries_that_decode_are_imported_in_media_alone(libraries: tuple[str, ...], places: tuple[str, ...]) -> None:
    files = [file for folder in ("packages", "apps", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    found = {file for file in files for module, _ in imports_of(file) if top(module) in libraries}
    assert {place for place in places for file in found if file.is_relative_to(ROOT / place)} == set(places)
    assert sorted(file for file in found if not any(file.is_relative_to(ROOT / place) for place in places)) == []


def hidden_modules(modules: Mapping[str, Path]) -> list[str]:
    """Return the modules that cannot be reached as attributes, since their package gives the name to something else."""
    hidden = []
    for package, file in modules.items():
        if file.name != "__init__.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            given: dict[str, str] = {}  # the name, and what it stands for
            if isinstance(node, ast.ImportFrom):
                given = {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                given = {node.name: "a definition"}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                given = {node.id: "a value"}
            hidden += [
                f"{package}.{name} is {what}"
                for name, what in given.items()
                if f"{package}.{name}" in modules and what != f"{package}.{name}"
            ]
    return hidden


def test_no_module_is_hidden_by_a_name_of_its_package() -> None:
    assert hidden_modules(MODULES) == []


@pytest.mark.parametrize(
    ("code", "is_hidden"),
    [
        ("from package.module import module", True),
        ("from package.other import other as module", True),
        ("def module(): ...", True),
        ("module = 1", True),
        ("from package import module", False),
        ("from package.module import other", False),
    ],
)
def test_a_hidden_module_is_found(code: str, is_hidden: bool, tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text(code, encoding="utf-8")
    (tmp_path / "package" / "module.py").touch()
    assert bool(hidden_modules(modules_of([tmp_path]))) is is_hidden


STARTED = """
import contextlib, io, json, runpy, sys
import eyetoy, eyetoy_train.commands.cli
early = {}
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    assert "--model.name" in shown.getvalue(), shown.getvalue()
    early[script] = sorted(sys.modules)
import torch
before = {*sys.modules}
from eyetoy import *
create_model("eyetoy2d_pico", num_classes=2)(torch.randn(1, 3, 32, 32)).sum().backward()
print(json.dumps({"early": early, "late": sorted({*sys.modules} - before)}))
"""
HEAVY = ("torch", "torchvision", "torchaudio", "accelerate", "datasets", "matplotlib", "sklearn", "skimage", "pandas")
COMPILERS = ("torch._dynamo", "torch._inductor", "torch.nn.attention.flex_attention", "triton", "sympy", "natten")


def test_nothing_slow_is_imported_before_it_is_needed() -> None:
    scripts = [str(ROOT / "apps" / app / "train.py") for app in APPS if app != OVER_ALL]
    result = subprocess.run(
        [sys.executable, "-c", STARTED, *scripts], capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stderr == ""
    imported = json.loads(result.stdout)
    assert len(imported["early"]) == 3
    # `--help`, of all apps, and the name of the library need no torch.
    for script, modules in imported["early"].items():
        assert "jsonargparse" in modules
        assert [module for module in HEAVY if module in modules] == [], script
    # What is imported beyond torch for a model on a CPU: no compiler, no modality, no engine.
    assert "eyetoy.classifier" in imported["late"]
    others = [*HEAVY, *COMPILERS, "timm", "eyetoy_train.engine"]
    assert [module for module in others if module in imported["late"]] == []


def lazy_names_of(file: Path) -> dict[str, list[str]]:
    """Return the names that a package imports later, as its source says in three places: for mypy, to run, to list."""
    imported, found = [], {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            imports = [inner for inner in node.body if isinstance(inner, ast.ImportFrom)]
            imported += [f"{inner.module}.{alias.name}" for inner in imports for alias in inner.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_names":
            modules: dict[str, list[str]] = ast.literal_eval(node.args[1])
            found["run"] = sorted(f"{module}.{name}" for module, names in modules.items() for name in names)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            found["listed"] = ast.literal_eval(node.value)
    return found | {"typed": sorted(imported)}


LAZY = [name for name, file in MODULES.items() if "import lazy_names" in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("package", LAZY)
def test_lazy_packages_have_the_names_that_type_checkers_see(package: str) -> None:
    assert len(LAZY) >= 5
    found = lazy_names_of(MODULES[package])
    assert found["typed"] == [f"{package}.{name}" for name in found["run"]]
    assert found["listed"] == sorted(name.rpartition(".")[2] for name in found["run"])
    module = importlib.import_module(package)
    assert {*found["listed"]} <= {*dir(module)}
    for name in found["run"]:
        home, _, member = name.rpartition(".")
        assert getattr(module, member) is getattr(importlib.import_module(f"{package}.{home}"), member)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        _ = module.nothing
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec(f"from {package} import nothing")  # noqa: S102


def test_public_names_exist_and_are_documented() -> None:
    import eyetoy

    assert eyetoy.__all__ == sorted(eyetoy.__all__)
    assert [name for name in eyetoy.__all__ if not getattr(eyetoy, name).__doc__] == []
