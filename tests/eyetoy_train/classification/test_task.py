"""What a classification task does beside one label and one view of a sample."""

from __future__ import annotations

import json

import pytest
import torch
from accelerate import Accelerator
from torch.nn import functional as F

import eyetoy_train.classification.task as task_module
from eyetoy_train import ClassificationApp, ClassificationRecipe, evaluate, train


@pytest.fixture
def views(slopes, toy_recipe):
    class Views(slopes):
        num_views = 3

        def example(self, raw, *, training):
            return {"input": raw if training else torch.stack([raw, -raw, raw + 1])}

    return Views(toy_recipe())


def test_probabilities_of_views_are_averaged(views):
    torch.manual_seed(0)
    model = views.build_model().eval()
    batch = {"input": torch.stack([views.dataset("val")[i]["input"] for i in range(4)]), "label": torch.zeros(4)}
    with torch.no_grad():
        outputs = views.outputs(model, batch)
        expected = sum(model(batch["input"][:, view]).softmax(-1) for view in range(3)) / 3
    torch.testing.assert_close(outputs.softmax(-1), expected)
    torch.testing.assert_close(views.probabilities(outputs), expected)


def test_an_evaluation_counts_samples_not_views(views):
    scores = evaluate(views, views.build_model(), views.dataset("val"), Accelerator(), batch_size=4)
    assert scores["count"] == views.sizes["val"]


def test_a_sample_of_several_labels_is_right_if_all_of_them_are(toy, slopes, toy_recipe, tmp_path, monkeypatch):
    class SeveralSource(toy.SlopeSource):
        multi_label = True

        def split(self, split):
            return [(source, [0, 1]) for source, _ in super().split(split)]

    class Several(slopes):
        source_class = SeveralSource

        def outputs(self, model, batch):
            sure = torch.tensor([[4.0, 3.0, -4.0], [4.0, -1.0, -4.0], [-1.0, -1.0, -4.0]])
            return sure[: len(batch["input"])]

    drawn = []
    monkeypatch.setattr(task_module, "draw_samples", lambda samples, path: drawn.extend(samples))
    task = Several(toy_recipe())
    task.write_samples(task.build_model(), "val", tmp_path / "samples.png", count=3)
    first, second, both = *task.classes[:2], ", ".join(task.classes[:2])
    assert [(one.truth, one.prediction) for one in drawn] == [(both, both), (both, first), (both, "(no label)")]
    assert second not in drawn[1].prediction
    # As in the list of predictions: of the surest wrong decision, or of the least sure one where all are right.
    assert [one.confidence for one in drawn] == pytest.approx([0.9526, 0.7311, 0.7311], abs=1e-4)


def test_several_labels_have_a_loss_each(toy, slopes, toy_recipe):
    class SeveralSource(toy.SlopeSource):
        multi_label = True

        def split(self, split):
            return [(source, [label, 2]) for source, label in super().split(split)]

    class Several(slopes):
        source_class = SeveralSource

    task = Several(toy_recipe(label_smoothing=0.0))
    sample = task.dataset("val")[1]
    assert sample["label"].tolist() == [0, 1, 1]
    torch.manual_seed(0)
    model = task.build_model().eval()
    batch = {"input": sample["input"][None], "label": sample["label"][None], "seed": torch.zeros(1, dtype=torch.long)}
    logits = model(batch["input"])
    expected = -(F.logsigmoid(logits[0, 1:]).sum() + F.logsigmoid(-logits[0, :1]).sum()) / 3
    torch.testing.assert_close(task.loss(model, batch), expected)
    torch.testing.assert_close(task.probabilities(logits), logits.sigmoid())
    assert task.score == "mAP"


def test_the_best_five_of_five_classes_are_no_score(slopes, toy_recipe):
    task = slopes(toy_recipe(eval_metric="top5"))
    with pytest.raises(ValueError, match="top5 is 100 % of any model with 3 classes; it needs six or more"):
        task.build_model()


def test_a_protocol_stands_beside_every_score(slopes, toy_recipe, tmp_path, capsys):
    class Said(slopes):
        protocol = "3 <long> looks"

    recipe = toy_recipe(epochs=1)
    train(Said(recipe), recipe)
    assert "13 samples by 3 <long> looks;" in capsys.readouterr().out
    assert "by 3 &lt;long&gt; looks" in (tmp_path / "run" / "report.html").read_text()
    ClassificationApp(ClassificationRecipe, Said, ()).validate([str(tmp_path / "run")])
    assert json.loads(capsys.readouterr().out)["protocol"] == "3 <long> looks"
