"""Samples that cannot be stacked: a data set's own batches, in training and in an evaluation."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from eyetoy_train.data.loading import Loading, training_data
from eyetoy_train.engine.evaluation import _first, evaluate


class Ragged(Dataset):
    """The numbers from 0 to n, for n from 0 to 6."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return {"numbers": torch.arange(index + 1), "name": f"sample {index}"}

    @staticmethod
    def collate(samples):
        return {key: [sample[key] for sample in samples] for key in samples[0]}


class Total:
    """Adds up all numbers, as the model gives them back, and counts samples."""

    def __init__(self):
        self.sums = {"total": torch.tensor(0), "count": torch.tensor(0)}

    def update(self, outputs, batch):
        assert [len(output) for output in outputs] == [len(numbers) for numbers in batch["numbers"]]
        assert len(batch["name"]) == len(outputs)
        self.sums["total"] += sum(int(output.sum()) for output in outputs)
        self.sums["count"] += len(outputs)

    def compute(self, sums):
        return {name: float(value) for name, value in sums.items()}


class Sums:
    def outputs(self, model, batch):
        return [model(numbers) for numbers in batch["numbers"]]

    def metrics(self):
        return Total()


@pytest.mark.parametrize("batch_size", [1, 3, 10])
def test_an_evaluation_counts_every_sample_whole(batch_size):
    scores = evaluate(Sums(), nn.Identity(), Ragged(), Accelerator(cpu=True), batch_size=batch_size)
    assert scores == {"total": sum(n * (n + 1) / 2 for n in range(7)), "count": 7}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_training_takes_the_batches_of_the_set(num_workers):
    data = training_data(Ragged(), Loading(batch_size=3, seed=0, num_workers=num_workers))
    for batch in data.micro_batches(0, skip=0, count=2):
        assert len(batch["numbers"]) == len(batch["seed"]) == 3
        assert [f"sample {len(numbers) - 1}" for numbers in batch["numbers"]] == batch["name"]


def test_a_process_takes_its_own_samples_of_lists_tensors_and_what_holds_them():
    values = {"list": ["a", "b", "c"], "tensor": torch.arange(3), "dict": {"list": [torch.arange(9)] * 3}, "one": 4}
    found = _first(values, 2)
    assert found["list"] == ["a", "b"]
    assert found["tensor"].tolist() == [0, 1]
    assert [len(entry) for entry in found["dict"]["list"]] == [9, 9]
    assert found["one"] == 4
