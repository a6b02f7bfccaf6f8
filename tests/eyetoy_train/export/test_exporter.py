"""An export checks itself, and refuses tasks that do not say what their models take."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from eyetoy_train import PlainInput
from eyetoy_train.export.exporter import ExportError, export
from eyetoy_train.export.portable import ExportInput, ExportModel, model_to_export


class Mean(nn.Module):
    def forward(self, x):
        return torch.stack([x.mean(1), x.std(1)], 1)


class FixedBatch(Mean):
    def forward(self, x):
        return super().forward(x.reshape(2, -1))


class Moody(Mean):
    """Gives one thing when it is traced, another one afterwards."""

    def forward(self, x):
        return super().forward(x) + (0.0 if torch.compiler.is_compiling() else 3e-4)


def portable(module: nn.Module) -> ExportModel:
    # Below 1, as mean and deviation then are: differences are told as they are.
    examples = [torch.rand(batch, length) for batch, length in ((2, 9), (3, 5))]
    given = ExportInput(
        name="samples",
        axes=("batch", "samples"),
        varying=("batch", "samples"),
        examples=examples,
        prepare=lambda x: {"input": x},
    )
    return ExportModel(module, given, "moments", ("batch", "moments"))


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_file_is_written_with_what_is_to_be_known_of_it(kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    about = export(portable(Mean()), tmp_path / "new", kind, {"classes": ["mean", "deviation"]})
    assert json.loads((tmp_path / "new/model.json").read_text()) == about
    assert (tmp_path / "new" / about["file"]).is_file()
    assert about["input"]["shape"] == ["batch", "samples"]
    assert about["checked"]["inputs"] == [[2, 9], [3, 5]]
    assert about["checked"]["largest_difference"] < 1e-6


def test_a_file_that_gives_other_numbers_is_not_kept(tmp_path):
    with pytest.raises(ExportError, match=r"differ by 0\.0003, and 0\.0001 is allowed; nothing was written"):
        export(portable(Moody()), tmp_path, "pt2", {})
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_an_earlier_one_as_a_whole_or_leaves_it(tmp_path):
    pytest.importorskip("onnxscript")
    export(portable(Mean()), tmp_path, "onnx", {"classes": ["a"]})
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ExportError, match="nothing was written"):
        export(portable(Moody()), tmp_path, "onnx", {})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == kept
    export(portable(Mean()), tmp_path, "pt2", {"classes": ["b"]})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.json", "model.pt2"]
    assert json.loads((tmp_path / "model.json").read_text())["classes"] == ["b"]


def of_things(differences: list[float]) -> ExportModel:
    """Return a model whose file differs so from it, one number for each thing that it finds, on one input."""
    made = portable(Mean())
    given = replace(made.input, examples=made.input.examples[:1])
    return replace(made, input=given, differences=lambda expected, actual: torch.tensor(differences))


def test_one_thing_of_a_hundred_may_be_on_the_edge_of_a_threshold(tmp_path):
    about = export(of_things([*[5e-5] * 99, torch.inf]), tmp_path, "pt2", {})
    checked = about["checked"]
    assert (checked["compared"], checked["above_bound"], checked["largest_difference"]) == (100, 1, 5e-5)


@pytest.mark.parametrize(
    ("differences", "error"),
    [
        ([*[5e-5] * 98, 2e-4], r"they differ by 0\.0002, and 0\.0001 is allowed; nothing was written"),
        ([*[5e-5] * 98, 2e-4, torch.inf], r"they differ by 0\.0002"),
        ([torch.nan], "they differ by nan"),
        ([], r"the model found nothing on any of the 1 inputs.*--check_on.*nothing was written"),
    ],
    ids=["of 99", "two", "nan", "none"],
)
def test_of_fewer_things_none_may_differ(tmp_path, differences, error):
    with pytest.raises(ExportError, match=error):
        export(of_things(differences), tmp_path, "pt2", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("original", "error"),
    [
        (lambda x: [x], r"for an input of \[2, 9\] the exported model gave \[2, 2\], and the model itself \[2, 9\]"),
        (lambda x: [Mean()(x), x], r"for an input of \[2, 9\] zip\(\) argument 2 is shorter"),
    ],
    ids=["shape", "number"],
)
def test_a_file_of_other_outputs_is_not_kept(tmp_path, original, error):
    with pytest.raises(ExportError, match=error):
        export(replace(portable(Mean()), original=original), tmp_path, "pt2", {})
    assert list(tmp_path.iterdir()) == []


def test_all_outputs_are_compared_and_named(tmp_path):
    class Moments(Mean):
        def forward(self, x):
            return tuple(super().forward(x).unbind(1))

    names = {"output": "mean", "output_axes": ("batch",), "more_outputs": {"deviation": ("batch",)}}
    made = replace(portable(Moments()), **names)
    about = export(made, tmp_path, "pt2", {})
    assert about["output"] == {"name": "mean", "axes": ["batch"]}
    assert [output["name"] for output in about["outputs"]] == ["mean", "deviation"]
    wrong = replace(made, original=lambda x: [x.mean(1), x.std(1) + 1e-3])
    with pytest.raises(ExportError, match=r"differ by 0\.001"):
        export(wrong, tmp_path, "pt2", {})


def test_what_cannot_be_traced_for_any_batch_is_refused(tmp_path):
    with pytest.raises(ExportError, match="the model cannot be exported as pt2"):
        export(portable(FixedBatch()), tmp_path, "pt2", {})


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ExportError, match=r'onnx needs onnxscript: pip install "eyetoy\[export\]"'):
        export(portable(Mean()), tmp_path, "onnx", {})


class Classifier:
    """The methods of a classification task that exporting asks for; each example has two views."""

    def to_input(self, batch):
        return {"input": batch["input"] * 2}

    def model_args(self, batch):
        return (batch["input"],)

    def probabilities(self, logits):
        return logits.softmax(-1)


def two_views() -> ExportInput:
    return ExportInput(
        name="samples",
        axes=("batch", "samples"),
        examples=[torch.rand(2, 4)],
        prepare=lambda x: {"input": torch.stack([x, -x], 1).flatten(0, 1)},
        views=2,
    )


class Exporting(Classifier):
    def export_input(self):
        return two_views()


class ExportingAsBefore(Classifier):
    def plain_input(self):
        return two_views()


class OverridingAsBefore(Exporting):
    """A user's subclass of a task of the apps."""

    def export_input(self):
        raise AssertionError("the subclass has the last word")

    def plain_input(self):
        return two_views()


def test_a_classifier_gives_the_mean_probabilities_of_its_views():
    model, x = nn.Linear(4, 3), torch.rand(5, 4)
    made = model_to_export(Exporting(), model)
    expected = (model(2 * x).softmax(-1) + model(-2 * x).softmax(-1)) / 2
    torch.testing.assert_close(made.module(x), expected)
    assert (made.output, made.output_axes) == ("probabilities", ("batch", "classes"))


@pytest.mark.parametrize("kind", [ExportingAsBefore, OverridingAsBefore])
def test_the_older_name_of_the_hook_works_with_a_warning(kind):
    with pytest.warns(FutureWarning, match=f"rename {kind.__name__}.plain_input to export_input"):
        made = model_to_export(kind(), nn.Linear(4, 3))
    assert made.input.views == 2
    assert PlainInput is ExportInput


def test_a_task_may_say_itself_how_it_is_exported():
    class Task:
        def export_model(self, model):
            return portable(model)

    assert model_to_export(Task(), Mean()).output == "moments"


@pytest.mark.parametrize("task", [Classifier(), object()])
def test_a_task_that_does_not_say_what_its_models_take_is_refused(task):
    name = type(task).__name__
    with pytest.raises(ValueError, match=f"a model of {name} cannot be exported: it has neither export_input"):
        model_to_export(task, nn.Identity())


def test_a_task_may_say_why_it_cannot_be_exported():
    class Task:
        why_not_exportable = "its boxes depend on the picture"

    with pytest.raises(ValueError, match="a model of Task cannot be exported: its boxes depend on the picture"):
        model_to_export(Task(), nn.Identity())
