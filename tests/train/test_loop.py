"""What a run leaves behind, and that it can be continued and repeated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from eyetoy_train import ModelRecipe, train


def weights(run: Path, checkpoint: str = "last") -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / checkpoint / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    expected, actual = weights(first), weights(second)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), name


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_times(lines: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_a_run_learns_and_leaves_everything_in_its_folder(slopes, toy_recipe, tmp_path):
    recipe = toy_recipe(epochs=12)
    results = train(slopes(recipe), recipe)
    run = tmp_path / "run"
    assert results["test"]["accuracy"] > 0.8
    assert results["test"]["count"] == 13
    assert results["val"]["count"] == 11
    assert json.loads((run / "results.json").read_text())["test"] == results["test"]
    assert [line["epoch"] for line in metrics(run)] == list(range(1, 13))
    assert yaml.safe_load((run / "recipe.yaml").read_text())["epochs"] == 12
    for picture in ("curves.png", "samples.png"):
        assert (run / picture).read_bytes().startswith(b"\x89PNG")
    assert list((run / "tensorboard").glob("events*"))
    assert weights(run, "best").keys() == weights(run, "last").keys()
    assert not list(run.rglob("*.partial"))
    assert not list(run.rglob("*.backup"))


def test_the_same_seed_gives_the_same_run(slopes, toy_recipe, tmp_path):
    for name in ("first", "second"):
        recipe = toy_recipe(output_dir=str(tmp_path / name), epochs=2)
        train(slopes(recipe), recipe)
    assert_equal_weights(tmp_path / "first", tmp_path / "second")
    assert without_times(metrics(tmp_path / "first")) == without_times(metrics(tmp_path / "second"))


def test_another_seed_gives_another_run(slopes, toy_recipe, tmp_path):
    for seed in (0, 1):
        recipe = toy_recipe(output_dir=str(tmp_path / str(seed)), epochs=1, seed=seed)
        train(slopes(recipe), recipe)
    first, second = weights(tmp_path / "0"), weights(tmp_path / "1")
    assert not torch.equal(first["head.weight"], second["head.weight"])


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(slopes, killed, interrupted, toy_recipe, tmp_path):
    whole = toy_recipe(output_dir=str(tmp_path / "whole"))
    train(slopes(whole), whole)
    recipe = toy_recipe()
    with pytest.raises(interrupted):
        train(killed(recipe), recipe)
    run = tmp_path / "run"
    assert not (run / "results.json").exists()
    assert [line["epoch"] for line in metrics(run)] == [1]
    train(slopes(recipe), recipe)
    assert_equal_weights(tmp_path / "whole", run)
    assert without_times(metrics(tmp_path / "whole")) == without_times(metrics(run))


def test_accumulated_passes_equal_one_large_pass(slopes, toy_recipe, tmp_path):
    model = ModelRecipe(name="eyetoy1d_pico", stem_strides=[8])
    for passes in (1, 4):
        recipe = toy_recipe(
            output_dir=str(tmp_path / str(passes)), epochs=2, gradient_accumulation_steps=passes, model=model
        )
        train(slopes(recipe), recipe)
    first, second = metrics(tmp_path / "1"), metrics(tmp_path / "4")
    assert [line["step"] for line in first] == [line["step"] for line in second] == [5, 10]
    for a, b in zip(first, second, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-4)


def test_max_steps_cuts_the_run_short(slopes, toy_recipe, tmp_path):
    recipe = toy_recipe(max_steps=7)
    train(slopes(recipe), recipe)
    assert [line["step"] for line in metrics(tmp_path / "run")] == [5, 7]


def test_a_finished_run_is_never_overwritten(slopes, toy_recipe, tmp_path):
    recipe = toy_recipe(epochs=1)
    train(slopes(recipe), recipe)
    before = (tmp_path / "run" / "results.json").read_text()
    with pytest.raises(FileExistsError, match="output_dir=.*finished run"):
        train(slopes(recipe), recipe)
    assert (tmp_path / "run" / "results.json").read_text() == before


def test_without_output_dir_a_second_run_gets_a_folder_of_its_own(slopes, toy_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        recipe = toy_recipe(output_dir=None, epochs=1, name="twice")
        train(slopes(recipe), recipe)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["twice", "twice-2"]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(slopes, toy_recipe, tmp_path):
    class Diverging(slopes):
        passes = 0

        def loss(self, model, batch):
            self.passes += 1
            return super().loss(model, batch) * (float("nan") if self.passes > 5 else 1.0)

    recipe = toy_recipe()
    with pytest.raises(FloatingPointError, match="epoch 2"):
        train(Diverging(recipe), recipe)
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_a_batch_size_that_passes_cannot_share_is_refused(slopes, toy_recipe):
    recipe = toy_recipe(batch_size=9, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="batch_size=9 .* multiple of 2"):
        train(slopes(recipe), recipe)


@pytest.mark.parametrize("precision", ["bf16"])
def test_mixed_precision_trains(slopes, toy_recipe, precision):
    recipe = toy_recipe(epochs=2, mixed_precision=precision)
    results = train(slopes(recipe), recipe)
    assert results["test"]["loss"] < 2


def test_a_run_that_cannot_start_leaves_nothing_behind(slopes, toy_recipe, tmp_path):
    class Unreadable(slopes):
        def samples(self, split):
            raise FileNotFoundError("there is no folder data")

    recipe = toy_recipe()
    with pytest.raises(FileNotFoundError, match="no folder data"):
        train(Unreadable(recipe), recipe)
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_to_make_its_data_equals_one_that_finds_them(slopes, toy_recipe, tmp_path):
    class Making(slopes):
        def prepare(self):
            torch.rand(5)

    for name, task in (("made", Making), ("found", slopes)):
        recipe = toy_recipe(output_dir=str(tmp_path / name), epochs=1)
        train(task(recipe), recipe)
    assert_equal_weights(tmp_path / "made", tmp_path / "found")
