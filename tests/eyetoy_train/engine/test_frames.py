"""The way from `train` to a model's forward is short: a reader follows it through few functions."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

import eyetoy_train
from eyetoy_train import train

ENGINE = Path(eyetoy_train.__file__).parent / "engine"


class ReachedError(Exception):
    pass


@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation_steps": 2}, {"ema": {"decay": 0.9}}])
def test_three_calls_of_the_engine_lead_to_the_loss(slopes, toy_recipe, changes):
    class Reaching(slopes):
        def build_model(self):
            model = super().build_model()

            def forward(*_, **__):
                raise ReachedError

            model.encoder.forward = forward
            return model

    recipe = toy_recipe(**changes)
    with pytest.raises(ReachedError) as caught:
        train(Reaching(recipe), recipe)
    frames = traceback.extract_tb(caught.value.__traceback__)
    names = [frame.name for frame in frames if Path(frame.filename).parent == ENGINE]
    assert names == ["train", "fit", "train_step"]
