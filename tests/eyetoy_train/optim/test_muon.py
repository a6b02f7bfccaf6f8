"""Muon against PyTorch's own, and AdamW's part against AdamW."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from eyetoy_train import Recipe, build_classifier, train
from eyetoy_train.optim.build import build_optimizer
from eyetoy_train.optim.muon import Muon, orthogonalize, orthogonalize_all


class Calls(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def steps(model, optimizer, count=5):
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("momentum", [0.95, 0.8])
def test_matrices_take_the_steps_of_pytorchs_muon(momentum):
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(12, 30, bias=False), nn.Linear(30, 12, bias=False), nn.Linear(12, 30, bias=False))
    theirs = copy.deepcopy(ours)
    start = [parameter.detach().clone() for parameter in ours.parameters()]
    group = {"params": list(ours.parameters()), "is_matrix": True, "weight_decay": 0.1}
    options = {"lr": 0.02, "momentum": momentum}
    expected = torch.optim.Muon(theirs.parameters(), weight_decay=0.1, adjust_lr_fn="match_rms_adamw", **options)
    pairs = zip(start, steps(ours, Muon([group], **options)), steps(theirs, expected), strict=True)
    for before, mine, other in pairs:
        # PyTorch's iterates in bfloat16.
        torch.testing.assert_close(mine - before, other - before, atol=0.003, rtol=0.03)


def test_others_take_the_steps_of_adamw():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7))
    theirs = copy.deepcopy(ours)
    group = {"params": list(ours.parameters()), "weight_decay": 0.1}
    expected = torch.optim.AdamW(theirs.parameters(), lr=0.02, weight_decay=0.1, fused=True)
    for mine, other in zip(steps(ours, Muon([group], lr=0.02)), steps(theirs, expected), strict=True):
        torch.testing.assert_close(mine, other, atol=0, rtol=0)


@pytest.mark.parametrize("shape", [(3, 10, 40), (2, 40, 10), (1, 16, 16)])
def test_an_orthogonal_matrix_has_singular_values_near_one(device, shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape, device=device)
    values = torch.linalg.svdvals(orthogonalize(matrices).float())
    assert 0.3 < float(values.min()) <= float(values.max()) < 1.3
    one_by_one = torch.cat([orthogonalize(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(orthogonalize(matrices), one_by_one, atol=1e-5 if device == "cpu" else 1e-2, rtol=0)


def test_matrices_of_any_shapes_take_the_steps_that_each_takes_alone():
    """Wide, tall and square ones and kernels, in groups with learning rates of their own; some have no gradient."""
    shapes = [(6, 18), (18, 6), (6, 18), (6, 3, 3, 2), (18, 2, 3), (7, 7), (18, 6), (1, 5), (5, 1)]
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in shapes]
    gradients = [torch.randn(shape) for shape in shapes]

    def optimize(members):
        parameters = [nn.Parameter(start[i].clone()) for i in members]
        groups = [
            {"params": [parameter], "is_matrix": True, "lr": 0.01 * (1 + i % 3), "weight_decay": 0.1 * (i % 2)}
            for i, parameter in zip(members, parameters, strict=True)
        ]
        optimizer = Muon(groups, lr=1.0)
        for factor in (1.0, -0.4):
            for i, parameter in zip(members, parameters, strict=True):
                parameter.grad = factor * gradients[i] if i != 2 else None
            optimizer.step()
        return [parameter.detach() for parameter in parameters]

    together = optimize(range(len(shapes)))
    for i, found in enumerate(together):
        torch.testing.assert_close(found, optimize([i])[0], atol=1e-6, rtol=1e-5)
        assert torch.equal(found, start[i]) == (i == 2)


def test_accelerators_turn_tall_matrices_and_take_few_operations():
    shapes = [(6, 18), (18, 6), (18, 6), (7, 7), (5, 1)]
    matrices = [torch.empty(shape, device="meta") for shape in shapes]
    with Calls() as calls:
        found = {
            i: step for members, steps in orthogonalize_all(matrices) for i, step in zip(members, steps, strict=True)
        }
    assert [tuple(found[i].shape) for i in range(len(shapes))] == shapes
    assert all(step.is_contiguous() for step in found.values())
    assert calls.names.count("aten.stack.default") == 3
    assert calls.names.count("aten.baddbmm.default") == 3 * 2 * 5


@pytest.mark.parametrize("layer_decay", [1.0, 0.8])
@pytest.mark.parametrize("name", ["eyetoy2d_pico", "timm/test_vit"])
def test_matrices_and_kernels_of_a_model_go_to_muon(name, layer_decay):
    recipe = Recipe(optimizer="muon", layer_decay=layer_decay, weight_decay=0.0)
    recipe.model.name = name
    model = build_classifier(recipe.model, num_classes=3, grid=(32, 32))
    optimizer = build_optimizer(model, recipe)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {
        wanted: {names[p] for group in optimizer.param_groups if group["is_matrix"] == wanted for p in group["params"]}
        for wanted in (True, False)
    }
    assert found[True] | found[False] == set(names.values())
    assert not found[True] & found[False]
    assert all(p.ndim >= 2 for p, name in names.items() if name in found[True])
    assert all(
        p.ndim == 1 or "token" in name or "pos_embed" in name for p, name in names.items() if name in found[False]
    )


def test_a_run_goes_on_exactly(toy, toy_recipe, tmp_path):
    def run(task, name):
        recipe = toy_recipe(optimizer="muon", epochs=3, output_dir=str(tmp_path / name))
        train(task(recipe), recipe)

    run(toy.Slopes, "whole")
    with pytest.raises(toy.Interrupted):
        run(toy.Killed, "part")
    run(toy.Slopes, "part")
    whole, part = (
        (tmp_path / name / "checkpoints" / "best" / "model.safetensors").read_bytes() for name in ("whole", "part")
    )
    assert whole == part
