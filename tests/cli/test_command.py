"""The command `eyetoy`: it finds the app of a command line, starts without PyTorch, and says what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

from eyetoy_cli.commands import COMMANDS
from eyetoy_cli.completion import candidates
from eyetoy_cli.main import main
from eyetoy_cli.modalities import recipe_files
from eyetoy_train.types import MODALITIES
from helpers.commands import write_pictures
from helpers.paths import REPOSITORY


@pytest.fixture
def eyetoy(monkeypatch, capsys):
    """Run the command in this process, and return its exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        words = list(map(str, arguments))
        monkeypatch.setattr(sys, "argv", ["eyetoy", *words])
        try:
            main(words)
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if "{modality}" in command.place])
def test_every_command_exists_in_every_app(name, modality):
    module, _, attributes = COMMANDS[name].place.format(modality=modality).partition(":")
    found = import_module(module)
    for attribute in attributes.split("."):
        found = getattr(found, attribute)
    assert callable(found)


def test_commands_without_an_app_exist():
    for command in COMMANDS.values():
        if "{modality}" not in command.place:
            module, _, function = command.place.partition(":")
            assert callable(getattr(import_module(module), function))


def test_the_wheel_brings_the_command_and_all_that_it_imports():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"eyetoy": "eyetoy_cli.main:main"}
    packages = {path.rpartition("/")[2] for path in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    used = {command.place.partition(":")[0].partition(".")[0] for command in COMMANDS.values()}
    assert {name.format(modality=modality) for name in used for modality in MODALITIES} <= packages


def test_help_and_listings_import_no_pytorch(tmp_path):
    lines = [["--help"], ["--version"], ["recipes"], ["completion", "bash"], ["train", "--help"], ["predict", "--help"]]
    lines += [["completion", "words", "--", "train", "image", "--config", "d"]]
    code = f"""
import contextlib, sys
from eyetoy_cli.main import main
for words in {lines}:
    with contextlib.suppress(SystemExit):
        main(words)
print(sorted({{"torch", "accelerate", "numpy", "yaml"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert done.stderr == ""


def test_help_lists_every_command(eyetoy):
    code, out, _ = eyetoy("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in COMMANDS)
    assert eyetoy()[1] == out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["trian"], "eyetoy: error: there is no command 'trian'; did you mean train?"),
        (["train"], "eyetoy train: error: name what the data are first, image or audio or video"),
        (["train", "--config", "digits"], "got '--config'"),
        (["predict"], "eyetoy predict: error: give a checkpoint: eyetoy predict CHECKPOINT FILE"),
        (["validate", "--split", "val"], "val holds no checkpoint: there is no such folder; give a run"),
        (
            ["export", "nowhere"],
            "eyetoy export: error: nowhere holds no checkpoint: there is no such folder",
        ),
        (["train", "image", "--config", "digit"], "Did you mean --config digits?"),
        (["train", "audio", "--epoch", "3"], "Did you mean --epochs?"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(arguments, why, eyetoy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = eyetoy(*arguments)
    assert (code, out) == (2, "")
    assert why in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("arguments", "extra"), [(["train", "image"], "image"), (["export", "runs/mine"], "train")])
def test_a_missing_package_is_named_with_its_extra(arguments, extra, eyetoy, monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'accelerate'", name="accelerate.utils")

    monkeypatch.setattr("eyetoy_cli.main.import_module", missing)
    code, _, err = eyetoy(*arguments)
    assert code == 2
    assert f'needs the package accelerate; install it with pip install "eyetoy[{extra}]"' in err


def test_an_interrupted_start_ends_in_a_line(eyetoy, monkeypatch):
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eyetoy_cli.main.import_module", interrupted)
    assert eyetoy("train", "image") == (130, "", "eyetoy train: interrupted\n")


def test_a_model_is_trained_and_used_by_name_of_its_checkpoint_alone(eyetoy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "pictures", count=12)
    small = ("--epochs", 1, "--data.image_size", 16)
    assert eyetoy("train", "image", "--config", "own_pictures", "--data.root", "pictures", *small)[0] == 0
    code, out, _ = eyetoy("predict", "runs/own-pictures", "pictures/dark/0.png", "--top_k", 1)
    assert code == 0
    assert "pictures/dark/0.png" in out
    code, out, _ = eyetoy("validate", "--split", "val", "runs/own-pictures")
    assert code == 0
    assert json.loads(out)["split"] == "val"
    card = (tmp_path / "runs/own-pictures/checkpoints/best/README.md").read_text(encoding="utf-8")
    assert "`eyetoy predict FOLDER FILE ...`" in card


@pytest.mark.parametrize(("name", "modality"), [("audio", "audio"), ("video", "video"), ("detection", "image")])
def test_the_app_of_a_checkpoint_is_found(name, modality, eyetoy, checkpoints):
    code, out, _ = eyetoy("validate", checkpoints / "runs" / name, "--help")
    assert code == 0
    assert "usage: eyetoy validate" in out
    assert sys.argv[0] == "eyetoy validate"
    assert f"eyetoy_{modality}.app" in sys.modules


def test_recipes_are_listed_with_task_data_time_and_score(eyetoy):
    code, out, _ = eyetoy("recipes")
    assert code == 0
    names = [name for modality in MODALITIES for name in recipe_files(modality)]
    blocks = out.strip().split("\n\n")
    assert [block.partition(" ")[0] for block in blocks] == names
    for block in blocks:
        assert all(f"\n  {fact}" in block for fact in ("needs", "time", "score", "eyetoy train"))
    assert "composed_detection  (image detection)" in out
    assert eyetoy("recipes", "own_*")[1].count("eyetoy train image --config own_") == 3
    code, out, err = eyetoy("recipes", "nothing")
    assert (code, out) == (1, "")
    assert "no recipe matches 'nothing'" in err


def test_models_are_listed_with_the_sizes_of_the_docs(eyetoy):
    code, out, _ = eyetoy("models", "*_nano")
    assert code == 0
    docs = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
    for line in out.splitlines()[1:]:
        name, size, _, *shape = line.split()
        row = next(row for row in docs.splitlines() if row.startswith(f"| `{name}`"))
        assert [cell.strip() for cell in row.split("|")][2] == size
        assert " ".join(shape) == " ".join(cell.strip() for cell in row.split("|")[5:7])
    assert eyetoy("models", "resnet*")[0] == 1


@pytest.mark.parametrize(
    ("before", "some"),
    [
        ([], ["train", "predict"]),
        (["train"], ["image", "audio", "video"]),
        (["check", "video"], ["--config", "--data.root"]),
        (["train", "image"], ["--config", "--epochs", "--data.image_size"]),
        (["train", "image", "--config", "own_detection"], ["--detector.anchor_sizes"]),
        (["train", "image", "--epochs", "3", "--config"], ["digits", "own_pictures"]),
        (["train", "audio", "--config"], ["spoken_keywords"]),
        (["completion"], ["bash", "zsh", "fish"]),
    ],
)
def test_completion_knows_what_may_follow(before, some):
    assert set(some) <= set(candidates(before))


@pytest.mark.parametrize("before", [["predict", "runs/digits"], ["nothing"], ["train", "picture"]])
def test_completion_leaves_files_to_the_shell(before):
    assert [word for word in candidates(before) if not word.startswith("--")] == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path):
    """Bash itself asks for the words, as it does at a tab."""
    bash = str(shutil.which("bash"))
    program = tmp_path / "eyetoy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m eyetoy_cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = f"""
export PATH="{tmp_path}:$PATH"
source <(eyetoy completion bash)
COMP_WORDS=(eyetoy train image --config own) COMP_CWORD=4
_eyetoy
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["own_detection", "own_pictures", "own_segmentation"]
