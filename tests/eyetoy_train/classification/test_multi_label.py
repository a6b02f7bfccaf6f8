"""Scores of samples with several labels against scikit-learn, on one process and on two."""

from __future__ import annotations

import json
import os

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from sklearn.metrics import average_precision_score, f1_score
from torch import nn

from eyetoy_train import evaluate
from eyetoy_train.classification.metrics import MultiLabelMetrics, average_precision
from helpers.forks import FORKS

TWO_PROCESSES = '''
import json, sys
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from eyetoy_train import SampleStream, evaluate
from eyetoy_train.classification.metrics import MultiLabelMetrics

found = load_file(sys.argv[1])
samples = [{"input": x, "label": y} for x, y in zip(found["logits"], found["labels"])]

class Stream(SampleStream):
    """The first process gets the outer shards, all but one sample."""
    num_shards = 3
    def read(self, shard):
        return iter([samples[:5], samples[5:6], samples[6:]][shard])
    def decode(self, raw):
        return raw

class Stored:
    def metrics(self):
        return MultiLabelMetrics(found["logits"].shape[1])
    def outputs(self, model, batch):
        return batch["input"]

accelerator = Accelerator()
assert accelerator.num_processes == 2
sets = {"map": samples, "stream": Stream()}
scores = {name: evaluate(Stored(), nn.Identity(), data, accelerator, batch_size=4) for name, data in sets.items()}
with open(f"{sys.argv[2]}/{accelerator.process_index}.json", "w") as file:
    json.dump(scores, file)
'''


class Stored:
    """A task whose samples are their own logits."""

    def __init__(self, classes):
        self.classes = classes

    def metrics(self):
        return MultiLabelMetrics(len(self.classes), self.classes)

    def outputs(self, model, batch):
        return batch["input"]


def drawn(samples, classes, seed, decimals=3):
    """Logits, rounded so that some are equal, and labels, of which at least one is true."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, classes, generator=generator).round(decimals=decimals)
    labels = (torch.rand(samples, classes, generator=generator) < 0.3).float()
    labels[samples // 2, classes // 2] = 1.0
    return logits, labels


def scores_of(logits, labels, batch):
    samples = [{"input": x, "label": y} for x, y in zip(logits, labels, strict=True)]
    classes = [f"class {i}" for i in range(logits.shape[1])]
    return evaluate(Stored(classes), nn.Identity(), samples, Accelerator(), batch_size=batch)


def by_sklearn(logits, labels):
    seen = labels.any(0)
    f1 = f1_score(labels.flatten(), logits.flatten() > 0, zero_division=0)
    return average_precision_score(labels[:, seen], logits[:, seen], average="macro"), f1


@given(
    samples=st.integers(1, 40),
    classes=st.integers(1, 6),
    seed=st.integers(0, 99),
    batch=st.integers(1, 17),
    decimals=st.integers(0, 2),
)
def test_scores_equal_those_of_scikit_learn(samples, classes, seed, batch, decimals):
    logits, labels = drawn(samples, classes, seed, decimals)
    scores = scores_of(logits, labels, batch)
    mean_average_precision, f1 = by_sklearn(logits, labels)
    assert scores["mAP"] == pytest.approx(mean_average_precision, abs=1e-12)
    assert scores["f1"] == pytest.approx(f1)
    assert scores["loss"] == pytest.approx(float(F.binary_cross_entropy_with_logits(logits, labels)), rel=1e-5)
    assert scores["count"] == samples


def test_torchmetrics_agrees_where_no_probability_is_rounded_to_one():
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    logits, labels = drawn(200, 5, seed=3, decimals=1)
    found = torchmetrics.multilabel_average_precision(logits, labels.long(), 5)
    assert scores_of(logits, labels, 64)["mAP"] == pytest.approx(float(found), abs=1e-6)


def test_sure_logits_keep_their_order():
    """Their probabilities in float32 are all 1."""
    logits = torch.tensor([20.0, 30.0, 25.0, 40.0])
    assert average_precision(logits, torch.tensor([False, True, False, True])) == 1


def test_a_class_without_a_positive_is_left_out_of_the_mean():
    logits, labels = drawn(20, 3, seed=0)
    labels[:, 0] = 0
    expected = [average_precision_score(labels[:, i], logits[:, i]) for i in (1, 2)]
    assert scores_of(logits, labels, 7)["mAP"] == pytest.approx(sum(expected) / 2)
    assert average_precision(logits[:, 0], labels[:, 0].bool()).isnan()


def test_equal_scores_are_worth_their_share_of_positives_in_any_order():
    labels = torch.tensor([True, False, False, True, False])
    for order in (labels, labels.flip(0)):
        assert average_precision(torch.zeros(5), order) == pytest.approx(0.4)


def test_the_table_names_the_worst_class_first(tmp_path):
    metrics = MultiLabelMetrics(3, ["good", "bad", "unseen"])
    logits = torch.tensor([[4.0, -4.0, 0.0], [-4.0, 4.0, 0.0], [-4.0, 3.0, 0.0], [-4.0, 2.0, 0.0]])
    metrics.update(logits, {"label": torch.tensor([[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]])})
    (table,) = metrics.details({name: torch.cat(parts) for name, parts in metrics.rows.items()}, tmp_path).tables
    assert table.rows == [("bad", 1, 0.25, 0.25), ("good", 1, 1.0, 0.25)]
    assert table.header == ("class", "samples", "average precision", "by chance")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1]), r"labels must be zeros and ones \[2, 3\]; got \[2\]"),
        (torch.full((2, 3), 0.5), "labels must be zeros and ones; got 0.5"),
    ],
)
def test_labels_that_are_not_zeros_and_ones_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        MultiLabelMetrics(3).update(torch.zeros(2, 3), {"label": labels})


def test_a_set_without_labels_and_an_empty_one_are_refused():
    with pytest.raises(ValueError, match="none of the 4 samples has a label"):
        scores_of(torch.zeros(4, 2), torch.zeros(4, 2), 3)
    with pytest.raises(ValueError, match="empty set"):
        scores_of(torch.zeros(0, 2), torch.zeros(0, 2), 3)


def test_two_processes_count_every_sample_once(tmp_path):
    logits, labels = drawn(13, 4, seed=1)
    save_file({"logits": logits, "labels": labels}, tmp_path / "samples.safetensors")
    command = ["-c", TWO_PROCESSES, tmp_path / "samples.safetensors", tmp_path]
    FORKS.run_several(2, command, env=os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"})
    expected, f1 = by_sklearn(logits, labels)
    for process in range(2):
        scores = json.loads((tmp_path / f"{process}.json").read_text())
        for name in ("map", "stream"):
            assert scores[name]["count"] == 13
            assert scores[name]["mAP"] == pytest.approx(expected, abs=1e-12)
            assert scores[name]["f1"] == pytest.approx(f1)
