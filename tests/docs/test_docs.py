"""The docs say what is true: code runs, commands parse, figures are what is drawn, and the site builds."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import eyetoy
import eyetoy_train
from eyetoy_audio.app import APP as AUDIO
from eyetoy_cli.commands import COMMANDS as EYETOY
from eyetoy_image.app import APP as IMAGE
from eyetoy_image.app import app_of
from eyetoy_train.types import MODALITIES
from eyetoy_video.app import APP as VIDEO
from helpers.commands import save_untrained, write_pictures
from helpers.dense import save_run
from helpers.docs import app_command
from helpers.forks import FORKS
from helpers.paths import REPOSITORY

pytestmark = pytest.mark.first

DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("*/*.md")])
READMES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("apps/*/README.md"))]
EXTENDING = DOCS / "extending.md"
"""Its code and commands need its diffs, and are run by test_extending.py; only the example in docs is run here."""
OWN = "runs/own-pictures"
VECTORS = "vectors.parquet"
DETECTOR = "runs/composed-detection"
CONFIGS = {path.stem: path for path in sorted(REPOSITORY.glob("apps/*/src/*/configs/*.yaml"))}


def named(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def is_run_here(code: str) -> bool:
    return not code.startswith("# python ")  # those are run with what export.py wrote


WITH_PYTHON = [page for page in PAGES if page != EXTENDING and any(map(is_run_here, blocks(page, "python")))]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=named)
def test_python_runs(page, tmp_path):
    code = [block for block in blocks(page, "python") if is_run_here(block)]
    if any(OWN in block for block in code) or any(VECTORS in block for block in code):
        write_pictures(tmp_path / "data", any_size=True)
        save_untrained(
            tmp_path / OWN / "checkpoints" / "best",
            app_of("classification"),
            CONFIGS["own_pictures"],
            tmp_path / "data",
            (),
        )
        Image.new("RGB", (70, 50)).save(tmp_path / "street.jpg")
    if any(VECTORS in block for block in code):
        IMAGE.embed([str(tmp_path / OWN), str(tmp_path / "data"), "--output", str(tmp_path / VECTORS)])
    if any(DETECTOR in block for block in code):
        save_run("detector", tmp_path / DETECTOR)
        Image.new("RGB", (70, 50)).save(tmp_path / "street.jpg")
    for block in code:
        done = FORKS.run(["-c", block], cwd=tmp_path)
        assert done.returncode == 0, done.stderr


def commands(page: Path) -> list[list[str]]:
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def is_file_name(config: str) -> bool:
    """Whether `--config` has a file of somebody's own; otherwise it has the name of a shipped recipe."""
    return "/" in config or config.endswith(".yaml")


COMMANDS = [
    (page, words)
    for page in [*PAGES, *READMES]
    for words in commands(page)
    if page != EXTENDING or "docs/examples/sensors.py" in words
]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: named(value) if isinstance(value, Path) else "")
def test_a_command_names_what_there_is(page, words):
    for word in words:
        if re.fullmatch(r"(apps|benchmarks|docs)/\S+\.(py|yaml)", word) or word == "noxfile.py":
            assert (REPOSITORY / word).is_file(), word
    command = app_command(words)
    if command and words[0] == "eyetoy":
        assert command.name in EYETOY, command.name
        assert (command.app in MODALITIES) == (EYETOY[command.name].takes == "modality")
    for option, value in itertools.pairwise(words):
        if option == "--config" and not is_file_name(value):
            assert command
            assert CONFIGS[value].is_relative_to(REPOSITORY / "apps" / str(command.app)), value
    extras = re.findall(r"\.\[(.+)\]", " ".join(words))
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert [name for group in extras for name in group.split(",") if name not in known] == []


TRAINING = [
    (page, command)
    for page, words in COMMANDS
    if (command := app_command(words)) is not None and command.name == "train"
]


def test_the_docs_train():
    assert len(TRAINING) > 20


@pytest.mark.parametrize(
    ("page", "command"), TRAINING, ids=lambda value: named(value) if isinstance(value, Path) else ""
)
def test_a_training_command_gives_a_recipe(page, command, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    options = list(command.arguments)
    if {"--help", "--print_config"} & {*options}:
        return
    if "--config" in options and (value := options[options.index("--config") + 1]) == "mine.yaml":
        options[options.index(value)] = str(CONFIGS["own_pictures"])  # the page prints this one to that file
    elif "--config" in options and not is_file_name(value):
        options[options.index(value)] = str(CONFIGS[value])  # the path of a recipe means the same as its name
    app = {"audio": AUDIO, "video": VIDEO, "image": IMAGE}[command.app]
    task, recipe = app.parse_args([option for option in options if option != "--dry_run"])
    assert task.recipe is recipe


def test_figures_are_what_is_drawn(tmp_path):
    done = FORKS.run([DOCS / "figures" / "draw.py", "--output", tmp_path])
    assert done.returncode == 0, done.stderr
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_bytes() for path in (DOCS / "figures").glob("*.svg")}


def test_recipes_have_the_time_and_score_of_their_heads():
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", page, flags=re.MULTILINE))
    files = {name: path.read_text(encoding="utf-8") for name, path in CONFIGS.items()}
    assert rows.keys() == files.keys()
    for name, text in files.items():
        head = "".join(re.findall(r"^# (?:Time|Score): (.*)\n", text, flags=re.MULTILINE))
        for number in re.findall(r"[\d.,]*\d(?: %| min| s\b)", rows[name]):
            assert number in head, f"{name}: {number}"
        assert ("not run" in rows[name]) == ("not run" in head), name


def test_every_line_of_what_we_work_with_has_its_test():
    rows = [line for line in (DOCS / "works_with.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row != "| tool | how | test |"]
    assert len(rows) > 40
    for row in rows:
        found = re.search(r"\| `(test_\w+\.py)::(test_\w+)` \|$", row)
        assert found, row
        code = (REPOSITORY / "tests" / "eyetoy" / found[1]).read_text(encoding="utf-8")
        assert re.search(rf"^def {found[2]}\(", code, re.MULTILINE), row


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere_in_the_repository_too(page):
    links = re.findall(r"\]\(([^)#:]+)[^)]*\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("package", [eyetoy, eyetoy_train], ids=lambda package: package.__name__)
def test_the_reference_has_every_public_name(package):
    page = (DOCS / "reference" / f"{package.__name__}.md").read_text(encoding="utf-8")
    named_there = set(re.findall(r"\w+", page))
    assert [name for name in package.__all__ if name not in named_there] == []


def test_the_site_is_built_without_a_warning(tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'eyetoy[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", "mkdocs.yml", "-d", tmp_path]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference" / "eyetoy" / "index.html").read_text(encoding="utf-8")
    assert 'id="eyetoy.na2d"' in reference
    assert 'id="eyetoy.param_groups"' in reference
    assert "class SeriesClassification" in re.sub("<[^>]+>", "", (tmp_path / "extending/index.html").read_text())
    served = [path for path in tmp_path.rglob("*.html") if re.search(r'(src|href)="https?://fonts', path.read_text())]
    assert served == []


def write_series(root: Path) -> None:
    generator, time = np.random.default_rng(0), np.arange(100)[:, None]
    for name, rate in (("slow", 0.1), ("fast", 0.6)):
        (root / name).mkdir(parents=True)
        for index in range(30):
            series = np.sin(rate * time + generator.uniform(0, 6, 3)) + generator.normal(0, 0.3, (100, 3))
            np.savetxt(root / name / f"{index}.csv", series, delimiter=",", fmt="%.3f")


def test_the_modality_of_the_docs_learns(tmp_path):
    script = DOCS / "examples" / "sensors.py"
    assert len(script.read_text().splitlines()) < 100
    write_series(tmp_path / "series")

    def run(*arguments: str) -> str:
        done = FORKS.run([script, *arguments], cwd=tmp_path, env=os.environ | {"ACCELERATE_USE_CPU": "1"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("train", "--data.root", "series", "--epochs", "6", "--output_dir", "run")
    assert json.loads((tmp_path / "run/results.json").read_text())["test"]["accuracy"] > 0.9
    assert run("predict", "run", "series/fast/3.csv", "--top_k", "1").split()[1] == "fast"
    assert "series float32 [batch, 3, 128] to probabilities" in run("export", "run", "--format", "pt2")
