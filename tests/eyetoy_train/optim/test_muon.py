"""Muon against PyTorch's own, and AdamW's part against AdamW."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from eyetoy_train import Recipe, build_classifier, train
from eyetoy_train.optim.build import build_optimizer
from eyetoy_train.optim.muon import Muon, orthogonalize


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
