"""benchmarks/launches.py: models stay within their numbers of operations, and the count is right."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn

from helpers.paths import REPOSITORY


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("timm")
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("launches")


# 243, 337, 331 and 318 when this was written.
@pytest.mark.parametrize(
    ("name", "most"),
    [("eyetoy2d_nano", 250), ("eyetoy2d_tiny", 420), ("eyetoy1d_tiny", 350), ("eyetoy3d_tiny", 330)],
)
def test_a_forward_pass_takes_few_operations(launches: Any, name: str, most: int) -> None:
    found = launches.count(name)
    assert 100 < found.total() <= most
    attended = sum(number for (_, operation), number in found.items() if operation == "benchmark.attention.default")
    model = launches.build(name, launches.MODELS[name])
    # One for each head group, and one in the global stack.
    assert attended == 1 + sum(len(block.heads) for block in model.encoder.params.transformer)


def test_counts_what_is_no_view(launches: Any) -> None:
    class Toy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.transpose(0, 1).flatten().view(2, 3)[0]  # the second one copies
            y.add_(1)
            return y.exp()

    model = Toy()
    x = torch.empty(3, 2, device="meta")
    with launches.Operations(model) as operations:
        model(x)
    found = {operation: number for (_, operation), number in operations.found.items()}
    assert found == {"aten.clone.default": 1, "aten.add_.Tensor": 1, "aten.exp.default": 1}
    assert {module for module, _ in operations.found} == {"Toy"}
