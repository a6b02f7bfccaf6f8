"""A toy modality for the engine: telling rising from falling sequences."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn

from eyetoy_train import ClassificationRecipe, ClassificationTask, ModelRecipe


class Slopes(ClassificationTask):
    classes = ("falling", "rising", "flat")
    sizes = {"train": 40, "val": 11, "test": 13}

    def prepare(self):
        pass

    def samples(self, split):
        size = self.sizes[split]
        return [((split, i), i % 3) for i in range(size)]

    def load_sample(self, source, *, training):
        split, index = source
        generator = torch.Generator().manual_seed(index + 1000 * len(split))
        slope = (index % 3 + 1) % 3 - 1
        return slope * torch.linspace(-1, 1, 64)[None] + 0.3 * torch.randn(1, 64, generator=generator)

    def transform(self, raw, *, training):
        return raw + 0.1 * torch.randn_like(raw) if training else raw

    def draw(self, axes, x):
        axes.plot(x[0])


class Interrupted(BaseException):
    """What a kill looks like from inside."""


class Killed(Slopes):
    """The toy task in a process that dies in the middle of an epoch."""

    passes_left = 7

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        if not self.passes_left:
            raise Interrupted
        self.passes_left -= 1
        return super().loss(model, batch)


@pytest.fixture
def slopes():
    return Slopes


@pytest.fixture
def killed():
    return Killed


@pytest.fixture
def interrupted():
    return Interrupted


@pytest.fixture
def toy_recipe(tmp_path: Path):
    def build(**changes):
        values = {
            "name": "toy",
            "output_dir": str(tmp_path / "run"),
            "epochs": 4,
            "batch_size": 8,
            "warmup_epochs": 1,
            "lr": 3e-3,
            "model": ModelRecipe(name="eyetoy1d_pico", stem_strides=[8], drop_path=0.1, dropout=0.1),
        }
        return ClassificationRecipe(**(values | changes))

    return build


@pytest.fixture(autouse=True)
def fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
