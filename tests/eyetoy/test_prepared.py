"""Warnings of unprepared input name the line that gave it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eyetoy import Classifier


class Wrapped(nn.Module):
    """A model inside of a module of one's own, which is the user's code."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


CALLS: dict[str, tuple[Callable[[Classifier, Tensor], Any], Callable[..., Any] | None]] = {
    "call": (lambda model, x: model(x), None),
    "forward": (lambda model, x: model.forward(x), None),
    "features": (lambda model, x: model.forward_features(x), None),
    "in a container": (lambda model, x: nn.Sequential(model)(x), None),
    "in a module of one's own": (lambda model, x: Wrapped(model)(x), Wrapped.forward),
}


@pytest.mark.parametrize("way", CALLS)
def test_a_warning_names_the_line_of_the_caller(way: str, encoders: Any) -> None:
    call, found = CALLS[way]
    model = Classifier(encoders.encoder_params(2), num_classes=3).eval()
    model.preprocessing = {"mean": 0.5, "std": 0.25}
    with pytest.warns(UserWarning, match="so its answer is likely wrong") as caught:
        call(model, torch.arange(3072.0).view(1, 3, 32, 32))
    lines, start = inspect.getsourcelines(found or call)
    assert [warning.filename for warning in caught] == [__file__]
    assert start <= caught[0].lineno < start + len(lines)
