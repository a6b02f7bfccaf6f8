"""The card of a trained model: what it says of the run, in the hub's format, and that it goes along with a push."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from scipy.stats import binomtest

from eyetoy import Classifier
from eyetoy_train import train
from eyetoy_train.checkpoint.atomic import check_folder
from eyetoy_train.commands import export as export_command
from eyetoy_train.report.model_card import FinishedRun, card_text
from eyetoy_train.types import About, about_data
from eyetoy_train.utils.statistics import interval


class Described:
    """What a modality adds."""

    about = About(
        data="slopes with noise",
        hub_dataset="someone/slopes",
        pipeline_tag="audio-classification",
        predict="eyetoy predict",
        limits=("It knows slopes alone.",),
    )


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory) -> SimpleNamespace:
    task_class = type("DescribedSlopes", (Described, toy.Slopes), {})
    recipe = toy.build_recipe(epochs=2, output_dir=str(tmp_path_factory.mktemp("card") / "run"))
    results = train(task_class(recipe), recipe)
    best = Path(recipe.output_dir) / "checkpoints" / "best"
    return SimpleNamespace(best=best, results=results, recipe=recipe, text=(best / "README.md").read_text())


def test_the_hub_reads_the_score_from_the_front_matter(finished):
    card = ModelCard(finished.text)
    assert card.data.license is None, "whoever publishes a model chooses"
    assert card.data.library_name == "eyetoy"
    assert card.data.pipeline_tag == "audio-classification"
    assert card.data.datasets == ["someone/slopes"]
    scores = {result.metric_type: result for result in card.data.eval_results}
    assert scores["accuracy"].metric_value == pytest.approx(finished.results["test"]["accuracy"], abs=1e-6)
    assert scores["accuracy"].dataset_split == "test"
    assert scores["accuracy"].dataset_name == "slopes with noise"
    assert yaml.safe_load(finished.text.split("---")[1])["model-index"][0]["name"] == "toy"


def test_it_says_data_recipe_score_hardware_and_limits(finished):
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", finished.text, flags=re.MULTILINE))
    assert (rows["train"], rows["val"], rows["test"]) == ("40", "11", "13")
    assert rows["batch size"] == "8"
    assert rows["seed"] == str(finished.recipe.seed)
    assert rows["torch"] == torch.__version__
    accuracy = finished.results["test"]["accuracy"]
    exact = binomtest(round(accuracy * 13), 13).proportion_ci(method="wilson")
    assert f"{accuracy:.2%} ({exact.low:.1%} to {exact.high:.1%})" in finished.text
    assert "- It knows slopes alone." in finished.text
    assert "13 held-out samples" in finished.text
    assert str(finished.best.parents[1]) not in finished.text, "a card is published, a path is not"


def test_a_score_that_the_test_set_does_not_have_is_left_empty(slopes, toy_recipe):
    """As the loss of a detector on pictures without an object."""
    scores = {"val": {"loss": 0.5, "count": 11}, "test": {"accuracy": 1.0, "count": 13}}
    about = {"best_epoch": 1, "parameters": 1, "training_seconds": 1.0, "environment": {"torch": "2"}}
    stability = {"stability": {"steps": 1, "grad_norm_max": 1.0}}
    recipe = toy_recipe()
    text = card_text(FinishedRun(slopes(recipe), recipe, torch.nn.Linear(1, 1), scores | about | stability, 40))
    assert re.findall(r"^\| (loss|accuracy) \| (.*) \|$", text, flags=re.MULTILINE) == [
        ("loss", "0.5 | "),
        ("accuracy", " | 100.00% (77.2% to 100.0%)"),
    ]


def test_its_code_loads_the_model(finished):
    (code,) = re.findall(r"^```python\n(.*?)^```$", finished.text, flags=re.MULTILINE | re.DOTALL)
    found: dict = {}
    exec(code.replace("OWNER/NAME", str(finished.best)), found)  # noqa: S102
    assert isinstance(found["model"], Classifier)


def test_the_checkpoint_is_whole_with_its_card(finished):
    check_folder(finished.best)
    assert "README.md" in json.loads((finished.best / "manifest.json").read_text())


def test_a_push_takes_the_card_along(finished, tmp_path, monkeypatch):
    sent: dict[str, bytes] = {}

    class Hub:
        def create_repo(self, name, exist_ok):
            return SimpleNamespace(repo_id=name, __str__=lambda: "")

        def upload_folder(self, repo_id, folder_path, ignore_patterns):
            files = [file for file in Path(folder_path).rglob("*") if file.name not in ignore_patterns]
            sent.update({file.name: file.read_bytes() for file in files})

    monkeypatch.setattr(export_command, "HfApi", Hub)
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "model.onnx").write_bytes(b"graph")
    export_command.push("someone/toy", finished.best, tmp_path / "exported")
    assert sent["README.md"].decode() == finished.text
    assert {"model.safetensors", "config.json", "labels.json", "recipe.yaml", "model.onnx"} <= sent.keys()
    assert "manifest.json" not in sent


@pytest.mark.parametrize(("count", "total"), [(0, 5), (3, 7), (360, 360), (9904, 10_000)])
def test_the_interval_is_wilsons(count, total):
    exact = binomtest(count, total).proportion_ci(method="wilson")
    assert interval(count / total, total) == pytest.approx((exact.low, exact.high), abs=1e-4)


@pytest.mark.parametrize(
    ("source", "root", "said"),
    [
        ("folder", "/home/someone/pictures", "pictures of the folder pictures"),
        ("hub", "uoft-cs/cifar10", "uoft-cs/cifar10, a set of Hugging Face's hub"),
        ("fashion_mnist", "/data", "the set fashion mnist"),
        ("hub", "/home/someone/pictures", "pictures of the folder pictures"),
        ("hub", "here/scans", "pictures of the folder scans"),
    ],
)
def test_data_are_named_without_their_place(source, root, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "scans").mkdir(parents=True)
    assert about_data("pictures", source, root) == said
    about = About.of_data("pictures", SimpleNamespace(source=source, root=root))
    assert about.hub_dataset == (root if "hub" in said else None)
