"""Evaluation on several processes, some of which have nothing to count."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch.utils.data import TensorDataset

from eyetoy_train.engine.evaluation import _batches, _join


def test_processes_without_rows_join_none():
    """As of detectors that find nothing."""
    every = SimpleNamespace(num_processes=3, device=torch.device("cpu"), gather=lambda own: own.repeat(3))
    assert _join(torch.zeros(0, 4), every).shape == (0, 4)


def test_indices_are_whole_numbers_where_a_process_has_no_sample_of_its_own():
    last = SimpleNamespace(process_index=2, num_processes=3)
    indices = [own for _, own in _batches(TensorDataset(torch.zeros(1)), last, batch_size=4, num_workers=0)]
    assert [(len(own), own.dtype) for own in indices] == [(0, torch.long)]
