"""Recipes from YAML and the command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from eyetoy_train import ClassificationRecipe, EmaRecipe, Recipe, parse_recipe
from eyetoy_train.recipe import ModelRecipe, is_written_as, recipe_text


@pytest.fixture
def default(tmp_path: Path) -> Path:
    path = tmp_path / "default.yaml"
    path.write_text("epochs: 7\nlr: 0.5\nmodel:\n  name: eyetoy1d_pico\n  stem_strides: [2, [4]]\n")
    return path


def test_options_override_the_file_and_the_file_overrides_the_defaults(default):
    recipe = parse_recipe(ClassificationRecipe, default, ["--lr", "0.25", "--model.dropout=0.1"])
    assert (recipe.epochs, recipe.lr, recipe.batch_size) == (7, 0.25, Recipe().batch_size)
    assert recipe.model.dropout == 0.1
    assert recipe.model.stem_strides == [2, [4]]


def test_a_config_takes_the_place_of_the_default_one(default, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("lr: 0.125\n")
    recipe = parse_recipe(ClassificationRecipe, default, ["--config", str(other)])
    assert (recipe.lr, recipe.epochs) == (0.125, Recipe().epochs)


def test_an_option_overrides_a_config_that_comes_after_it(default, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("lr: 0.125\nepochs: 3\n")
    for given in (["--config", str(other)], [f"--config={other}"]):
        recipe = parse_recipe(ClassificationRecipe, default, ["--lr", "0.25", *given])
        assert (recipe.lr, recipe.epochs) == (0.25, 3)


def test_of_two_configs_the_second_overrides_the_first(default, tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("lr: 0.125\nepochs: 3\n")
    second.write_text("epochs: 4\n")
    arguments = ["--config", str(first), "--batch_size", "5", f"--config={second}"]
    recipe = parse_recipe(ClassificationRecipe, default, arguments)
    assert (recipe.lr, recipe.epochs, recipe.batch_size) == (0.125, 4, 5)


def test_what_a_run_writes_is_read_back_equal(default, tmp_path):
    recipe = parse_recipe(ClassificationRecipe, default, ["--betas", "[0.8, 0.9]"])
    written = tmp_path / "written.yaml"
    written.write_text(recipe_text(recipe))
    assert parse_recipe(ClassificationRecipe, written, []) == recipe


@pytest.mark.parametrize("name", ["3e-4", "1e3", "1E5", "+1e5", "1.e5", "-2.5e03", "1_0e2", "1e", "5", "no", ".nan"])
def test_a_name_that_looks_like_a_number_stays_a_name(default, tmp_path, name):
    recipe = parse_recipe(ClassificationRecipe, default, [f"--name={name}"])
    written = tmp_path / "written.yaml"
    written.write_text(recipe_text(recipe))
    assert parse_recipe(ClassificationRecipe, written, []).name == name
    assert is_written_as(recipe, yaml.safe_load(recipe_text(recipe)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epoch", "3"], "Did you mean --epochs?"),
        (["--model.drop_pth", "3"], "Did you mean --model.drop_path?"),
        (["--zzzz", "3"], "The keys are: "),
        (["--epochs", "three"], "epochs"),
        (["--epochs", "0"], "epochs must be at least 1; got 0"),
        (["--label_smoothing", "10"], "label_smoothing must be at least 0 and below 1; got 10"),
        (["--label_smoothing", "-0.5"], "label_smoothing must be at least 0 and below 1; got -0.5"),
        (["--betas", "[0.9, 1.0]"], "betas must be two numbers, each at least 0 and below 1; got"),
        (["--lr", "2e-7"], "the cosine schedule ends at min_lr=1e-06, above lr=2e-07"),
        (["--schedule", "one_cycle", "--min_lr", "9"], "the one_cycle schedule ends at min_lr=9, above lr="),
        (["--mixed_precision", "fp8"], "mixed_precision"),
        (["--lr", ".inf"], "lr must be a finite number; got inf"),
        (["--ema.decay", ".nan"], "ema.decay must be a finite number; got nan"),
        (["--epochs", "null"], "epochs"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_wrong_option_ends_the_program_with_words(default, capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        parse_recipe(ClassificationRecipe, default, arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochz: 3\n", "Did you mean --epochs?"),
        ("model:\n  nam: x\n", "Did you mean --model.name?"),
        ("lr: [1, 2]\n", "lr"),
        ("epochs: null\n", "epochs needs a value; got null"),
        ("trackers: null\n", "trackers needs a value; got null"),
        ("model: {name: null}\n", "model.name needs a value; got null"),
        ("model: !!python/object/apply:os.system ['touch pwned']\n", ""),
    ],
)
def test_a_wrong_recipe_ends_the_program_with_words(tmp_path, capsys, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    with pytest.raises(SystemExit) as stop:
        parse_recipe(ClassificationRecipe, wrong, ["--config", str(wrong)])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "pwned").exists()


def test_help_shows_the_docstring_of_every_field(default, capsys):
    with pytest.raises(SystemExit):
        parse_recipe(ClassificationRecipe, default, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for phrase in ("Passes over the training set.", "Share of the context's channels", "Share of the target"):
        assert phrase in shown


def test_print_config_prints_a_recipe(default, capsys):
    with pytest.raises(SystemExit):
        parse_recipe(ClassificationRecipe, default, ["--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["epochs"] == 7


def test_a_recipe_is_known_again_from_the_file_of_an_earlier_version():
    recipe = ClassificationRecipe(epochs=3, trackers=["tensorboard"])
    written = dict(reversed(yaml.safe_load(recipe_text(recipe)).items()))
    assert is_written_as(recipe, written)
    del written["log_steps"], written["ema"]  # keys that came later, at their defaults
    assert is_written_as(recipe, written)
    assert not is_written_as(dataclasses.replace(recipe, log_steps=7), written)
    assert not is_written_as(dataclasses.replace(recipe, ema=EmaRecipe(decay=0.9)), written)
    assert not is_written_as(recipe, written | {"epochs": 4})
    assert not is_written_as(recipe, written | {"model": {"name": "eyetoy2d_nano"}})
    assert not is_written_as(recipe, written | {"unknown": 1})
    assert not is_written_as(recipe, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: {root: a}\nlr: 0.1\ndata: {cache: true}\n", "the key 'data' stands in line 1 and in line 3"),
        ("model:\n  name: a\n  dropout: 0.1\n  name: b\n", "the key 'name' stands in line 2 and in line 4"),
        ("model: {options: {a: [{x: 1, x: 2}]}}\n", "the key 'x' stands in line 1 and in line 1"),
        ("'lr': 1\nlr: 2\n", "the key 'lr' stands in line 1 and in line 2"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path, capsys, text, told):
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(SystemExit):
        parse_recipe(ClassificationRecipe, path, [])
    assert told in capsys.readouterr().err


def test_a_key_may_stand_in_several_places(tmp_path):
    path = tmp_path / "fine.yaml"
    path.write_text("name: name\nmodel: {name: name, options: {b: {name: [name, name]}, name: {name: 1}}}\n")
    assert parse_recipe(ClassificationRecipe, path, []).model.options == {
        "b": {"name": ["name", "name"]},
        "name": {"name": 1},
    }


def test_a_value_where_keys_belong_is_told_in_words(tmp_path, capsys):
    path = tmp_path / "ema.yaml"
    path.write_text("ema: 0.999\n")
    with pytest.raises(SystemExit):
        parse_recipe(ClassificationRecipe, path, [])
    assert "ema has keys of its own (decay, warmup); got the value 0.999" in capsys.readouterr().err


def test_a_tilde_is_the_users_folder_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "home.yaml"
    path.write_text("model: {weights: ~/w, options: {folder: ~/o, mark: a~/b}}\nname: ~x\n")
    recipe = parse_recipe(ClassificationRecipe, path, ["--output_dir=~/runs/x"])
    assert recipe.output_dir == f"{tmp_path}/runs/x"
    assert recipe.model.weights == f"{tmp_path}/w"
    assert recipe.model.options == {"folder": f"{tmp_path}/o", "mark": "a~/b"}
    assert recipe.name == "~x"


@pytest.mark.parametrize("value", [True, False, "default", "reduce-overhead", "max-autotune-no-cudagraphs"])
def test_compile_is_a_switch_or_a_mode(value):
    recipe = parse_recipe(Recipe, None, ["--model.compile", str(value).lower()])
    assert recipe.model.compile == value
    assert type(recipe.model.compile) is type(value)
    assert is_written_as(recipe, yaml.safe_load(recipe_text(recipe)))


def test_cuda_graphs_and_accumulated_gradients_are_refused_together():
    with pytest.raises(ValueError, match="^model.compile=reduce-overhead .*gradient_accumulation_steps=2"):
        Recipe(gradient_accumulation_steps=2, model=ModelRecipe(compile="reduce-overhead"))
    Recipe(gradient_accumulation_steps=2, model=ModelRecipe(compile=True))
