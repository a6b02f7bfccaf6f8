"""Uneven classes: weights in the loss, balanced sampling, and a score that counts all classes the same."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F

from eyetoy_train import ClassificationMetrics, train
from eyetoy_train.classification.datasets import class_weights
from eyetoy_train.classification.losses import weighted_cross_entropy
from eyetoy_train.data.loading import Classes, ShuffledSampler, balanced_order

UNEVEN = [0] * 24 + [1] * 3 + [2] * 13


@pytest.fixture
def uneven(toy, slopes):
    """The toy task with 24, 3 and 13 samples of its classes for training."""

    class UnevenSource(toy.SlopeSource):
        def split(self, split):
            samples = super().split(split)
            return samples if split != "train" else [(("train", 3 * i + y), y) for i, y in enumerate(UNEVEN)]

    class Uneven(slopes):
        source_class = UnevenSource

        def __init__(self, recipe, **options):
            self.options = options
            super().__init__(recipe)
            self.sampling = options.get("sampling", "shuffled")

    return Uneven


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_weights_are_those_of_scikit_learn(labels):
    present = sorted(set(labels))
    expected = compute_class_weight("balanced", classes=torch.tensor(present).numpy(), y=labels)
    weights = class_weights(labels, 5)
    torch.testing.assert_close(weights[present], torch.tensor(expected, dtype=torch.float32))
    assert not weights[[label for label in range(5) if label not in present]].any()


def test_smoothing_leaves_every_class_its_own_best_answer():
    """torch weighs the smoothing's share of each class: the best answer for a common class is then a rare one."""
    weights, labels = class_weights([0] * 500 + [1] * 50 + [2] * 10, 3), torch.arange(3)
    logits = torch.randn(3, 3)
    each = F.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    expected = (each * weights).sum() / weights.sum()
    torch.testing.assert_close(weighted_cross_entropy(logits, labels, weights, 0.1), expected)
    for label in labels:
        free = torch.zeros(1, 3, requires_grad=True)
        (gradient,) = torch.autograd.grad(weighted_cross_entropy(free, label[None], weights, 0.1), free)
        assert gradient.argmin() == label
        (gradient,) = torch.autograd.grad(F.cross_entropy(free, label[None], weights, label_smoothing=0.1), free)
        assert gradient.argmin() == (label if label else 2)


@pytest.mark.parametrize("mixed", [False, True])
def test_without_smoothing_the_loss_is_torchs_weighted_cross_entropy(mixed, uneven, toy_recipe):
    class Mixed(uneven):
        def augment(self, batch):
            return batch | ({"label": probabilities} if mixed else {})

    task = Mixed(toy_recipe(class_weights="balanced", label_smoothing=0.0))
    model = task.build_model().eval()
    x, labels, probabilities = torch.randn(5, 1, 64), torch.tensor([0, 0, 1, 2, 0]), torch.rand(5, 3).softmax(1)
    weights = torch.tensor([40 / (3 * count) for count in (24, 3, 13)])
    expected = F.cross_entropy(model(x), probabilities if mixed else labels, weight=weights)
    torch.testing.assert_close(task.loss(model, {"input": x, "label": labels}), expected)


def test_micro_batches_have_the_loss_of_the_whole_step(uneven, toy_recipe, tmp_path, runs):
    """A weighted mean divides by the sum of the weights, of which micro batches have more or less."""
    still = {"name": "eyetoy1d_pico", "stem_strides": [8]}  # dropout would differ
    for count in (1, 4):
        recipe = toy_recipe(
            output_dir=str(tmp_path / str(count)),
            epochs=1,
            class_weights="balanced",
            gradient_accumulation_steps=count,
            log_steps=1,
            model=still,
        )
        train(uneven(recipe), recipe)
    one, four = ([line["loss"] for line in runs.lines(tmp_path / name / "steps.jsonl")] for name in ("1", "4"))
    assert one == pytest.approx(four, rel=1e-4)


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    length=st.integers(1, 90),
    seed=st.integers(0, 5),
)
def test_a_balanced_order_has_every_class_equally_often_and_none_of_its_samples_twice_too_soon(labels, length, seed):
    order, earlier = balanced_order(Classes.of(labels), length, seed)
    classes = Counter(labels[index] for index in order)
    per_class = [classes[label] for label in set(labels)]
    assert max(per_class) - min(per_class) <= 1
    times = Counter(order)
    for label in set(labels):
        own = [times[index] for index in range(len(labels)) if labels[index] == label]
        assert max(own) - min(own) <= 1
    assert earlier == [order[:place].count(index) for place, index in enumerate(order)]


@given(share=st.integers(1, 5), processes=st.integers(1, 4), start=st.integers(0, 9), repeats=st.integers(1, 3))
def test_balanced_sampling_is_the_same_for_any_number_of_processes_and_from_any_step_on(
    share, processes, start, repeats
):
    batch_size = share * processes
    options = {"labels": UNEVEN, "repeats": repeats}
    single = ShuffledSampler(40, batch_size, 3, **options)
    single.stop = start + 3
    whole = list(single)
    assert len(set(whole)) == len(whole)  # a sample that comes again is augmented anew
    parts = []
    for process in range(processes):
        sampler = ShuffledSampler(40, batch_size, 3, process=process, num_processes=processes, **options)
        sampler.start, sampler.stop = start, start + 3
        parts.append(list(sampler))
    for batch in range(3):
        pieces = [key for part in parts for key in part[batch * share : (batch + 1) * share]]
        assert pieces == whole[(start + batch) * batch_size : (start + batch + 1) * batch_size]


def test_a_balanced_run_resumes_bit_for_bit(uneven, toy, toy_recipe, tmp_path, runs):
    seen = Counter()

    class Interrupted(uneven):
        steps = 100

        def loss(self, model, batch):
            self.steps -= 1
            if self.steps < 0:
                raise toy.Interrupted
            seen.update(batch["label"].tolist())
            return super().loss(model, batch)

    def recipe(name):
        return toy_recipe(output_dir=str(tmp_path / name), epochs=2, checkpoints={"every_steps": 1})

    train(Interrupted(recipe("whole"), sampling="balanced"), recipe("whole"))
    assert max(seen.values()) - min(seen.values()) <= 2
    stopped = Interrupted(recipe("parts"), sampling="balanced")
    stopped.steps = 7
    with pytest.raises(toy.Interrupted):
        train(stopped, recipe("parts"))
    train(Interrupted(recipe("parts"), sampling="balanced"), recipe("parts"))
    runs.assert_equal(tmp_path / "whole", tmp_path / "parts")


def test_balanced_accuracy_is_that_of_scikit_learn_and_can_choose_the_best_epoch(uneven, toy_recipe):
    truth, logits = torch.tensor([0, 0, 0, 0, 1, 2, 2]), torch.randn(7, 3)
    metrics = ClassificationMetrics(3)
    metrics.update(logits, {"label": truth})
    expected = balanced_accuracy_score(truth, logits.argmax(1))
    assert metrics.compute(metrics.sums)["mean_class_accuracy"] == pytest.approx(expected)
    assert uneven(toy_recipe(eval_metric="mean_class_accuracy")).score == "mean_class_accuracy"


def test_what_has_no_meaning_is_refused(uneven, slopes, toy, toy_recipe):
    class Several(slopes):
        multi_label = True

    with pytest.raises(ValueError, match=r"^class_weights: balanced is for sets with one label"):
        Several(toy_recipe(class_weights="balanced"))
    with pytest.raises(ValueError, match=r"^eval_metric must be one of mAP, f1 here; got top5"):
        Several(toy_recipe(eval_metric="top5"))

    class Sourced(slopes):
        def __init__(self, recipe, options):
            super(slopes, self).__init__(recipe, toy.SlopeSource(self.sizes), options)

    options = SimpleNamespace(root=".", cache=False, unreadable="refuse", sampling="balanced")
    with pytest.raises(ValueError, match="twice; use one of the two"):
        Sourced(toy_recipe(class_weights="balanced"), options)

    class StreamSource(toy.SlopeSource):
        def split(self, split):
            return toy.SlopeStream(None)

    class Streamed(slopes):
        source_class = StreamSource

    with pytest.raises(ValueError, match=r"^class_weights: balanced counts .* stream does not tell"):
        Streamed(toy_recipe(class_weights="balanced")).dataset("train")
