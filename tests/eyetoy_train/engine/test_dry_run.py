"""A dry run shows a batch and what a step costs, and starts nothing."""

from __future__ import annotations

import re

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from eyetoy_train import ClassificationApp, ClassificationRecipe, train
from eyetoy_train.engine.dry_run import dry_run


def test_it_writes_a_picture_and_says_what_a_run_would_cost(slopes, toy_recipe, tmp_path, capsys):
    recipe = toy_recipe(gradient_accumulation_steps=2, log_steps=1)
    dry_run(slopes(recipe), recipe)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["batch.png"]
    said = capsys.readouterr().out
    assert "a step of 8 samples takes " in said
    assert "; 4 epochs of 5 steps are 20 steps, about " in said
    assert said.rstrip().endswith(f"{tmp_path / 'run' / 'batch.png'} shows the first batch; no run was started")


def test_its_loss_is_that_of_the_first_step_of_the_run_that_follows_in_the_folder(
    slopes, toy_recipe, tmp_path, capsys, runs
):
    recipe = toy_recipe(log_steps=1, epochs=1)
    dry_run(slopes(recipe), recipe)
    loss = float(re.search(r"loss ([\d.]+);", capsys.readouterr().out)[1])
    train(slopes(recipe), recipe)
    assert loss == pytest.approx(runs.lines(tmp_path / "run" / "steps.jsonl")[0]["loss"], abs=1e-4)


def test_an_unfinished_run_stays_as_it_is(toy, slopes, toy_recipe, tmp_path, runs):
    recipe = toy_recipe(epochs=2, checkpoints={"every_steps": 1})
    with pytest.raises(toy.Interrupted):
        train(toy.Killed(recipe), recipe)
    dry_run(slopes(recipe), recipe)
    train(slopes(recipe), recipe)
    other = toy_recipe(epochs=2, checkpoints={"every_steps": 1}, output_dir=str(tmp_path / "other"))
    train(slopes(other), other)
    runs.assert_equal(tmp_path / "run", tmp_path / "other")


def test_mixed_samples_have_the_shares_of_their_classes(slopes, toy_recipe, tmp_path, monkeypatch):
    class Mixed(slopes):
        mixes = True

        def augment(self, batch):
            return batch | {"label": torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0], [0.004, 0.0, 0.996]])}

    drawn, savefig = [], Figure.savefig

    def save(figure, *arguments, **options):
        drawn.extend(axes.get_title() for axes in figure.axes)
        savefig(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", save)
    batch = {"input": torch.randn(3, 1, 64), "label": torch.tensor([0, 1, 2])}
    Mixed(toy_recipe()).write_batch(batch, tmp_path / "batch.png")
    assert drawn[:3] == ["70% falling\n30% rising", "rising", "100% flat"]
    assert Image.open(tmp_path / "batch.png").size[0] > 500


def test_a_loss_that_is_not_finite_and_a_command_end_as_they_should(slopes, toy_recipe, tmp_path, monkeypatch, capsys):
    class Broken(slopes):
        def loss(self, model, batch):
            return super().loss(model, batch) * float("nan")

    monkeypatch.chdir(tmp_path)
    options = ["--model.name", "eyetoy1d_pico", "--model.stem_strides", "[8]", "--batch_size", "8"]
    for task, code in ((Broken, 2), (slopes, 0)):
        app = ClassificationApp(ClassificationRecipe, task, ())
        with pytest.raises(SystemExit) as raised:
            app.train(["--dry_run", *options])
        assert raised.value.code == code
        assert any(tmp_path.rglob("*")) == (code == 0)
    assert "error: the loss of the first batch is nan; it should be finite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*.*")] == ["batch.png"]
    with pytest.raises(SystemExit, match="0"):
        app.train(["--help"])
    assert "--dry_run: build the data" in capsys.readouterr().out
