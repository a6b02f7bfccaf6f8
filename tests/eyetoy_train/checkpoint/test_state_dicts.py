"""An optimizer that was saved goes on as if it had not been."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from eyetoy_train import ClassificationRecipe
from eyetoy_train.checkpoint.state_dicts import load_optimizer, optimizer_tensors
from eyetoy_train.optim.build import build_optimizer


def model_and_optimizer(name: str, layout: torch.memory_format) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(128, 5)).to(memory_format=layout)
    return model, build_optimizer(model, ClassificationRecipe(name="toy", optimizer=name, lr=0.1))


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, layout: torch.memory_format) -> None:
    optimizer.zero_grad()
    model(torch.randn(4, 3, 6, 6).to(memory_format=layout)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_goes_on_whatever_the_order_of_channels_in_memory(name, layout, tmp_path):
    (straight, optimizer), (broken, first) = (model_and_optimizer(name, layout) for _ in range(2))
    for model, steps in ((straight, optimizer), (broken, first)):
        torch.manual_seed(1)
        take_step(model, steps, layout)
    tensors = {key: value.contiguous() for key, value in optimizer_tensors(broken, first).items()}
    save_file(tensors, tmp_path / "optimizer.safetensors")
    second = build_optimizer(broken, ClassificationRecipe(name="toy", optimizer=name, lr=0.1))
    load_optimizer(broken, second, tmp_path / "optimizer.safetensors")
    for model, steps in ((straight, optimizer), (broken, second)):
        torch.manual_seed(2)
        take_step(model, steps, layout)
    for expected, found in zip(straight.parameters(), broken.parameters(), strict=True):
        assert torch.equal(expected, found)
