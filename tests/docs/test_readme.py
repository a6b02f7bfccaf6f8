"""The README says what is true: its Python runs, its commands name scripts and options that exist."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from helpers.forks import FORKS
from helpers.paths import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("apps/*/README.md"))]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_its_python_runs(tmp_path):
    code = "\n".join(blocks(README, "python"))
    assert "create_model" in code
    Image.new("L", (8, 8)).save(tmp_path / "picture.png")
    done = FORKS.run(["-c", code], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my-model" / "model.safetensors").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_its_commands_name_scripts_that_exist(page):
    commands = "\n".join(blocks(page.read_text(encoding="utf-8"), "sh"))
    scripts = set(re.findall(r"(?:apps/\S+|noxfile)\.(?:py|yaml)", commands))
    assert scripts or "eyetoy " in commands
    assert not [script for script in scripts if not (REPOSITORY / script).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_its_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def test_ci_runs_the_test_command_of_the_readme():
    command = next(line.split("#")[0].split() for line in README.splitlines() if "-s tests" in line)
    last = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-1].split()
    assert last[1:] == command[1:] == ["noxfile.py", "-s", "tests"]
