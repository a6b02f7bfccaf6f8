"""Weight decay where it belongs, for any model, and the layers' own learning rates."""

from __future__ import annotations

import pytest
import torch

from eyetoy import create_model, param_groups
from eyetoy_train import Recipe, build_classifier
from eyetoy_train.optim.build import build_optimizer
from eyetoy_train.optim.schedule import set_learning_rate


def test_only_matrices_and_kernels_decay():
    model = create_model("eyetoy2d_pico", num_classes=3)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = param_groups(model, weight_decay=0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0]
    decayed, spared = ([names[parameter] for parameter in group["params"]] for group in groups)
    learned_tokens = ["encoder.global_attention.global_tokens"]
    vectors = [name for parameter, name in names.items() if parameter.ndim == 1]
    assert sorted(spared) == sorted(vectors + learned_tokens)
    assert sorted(decayed + spared) == sorted(names.values())


def test_frozen_parameters_are_left_out():
    model = create_model("eyetoy2d_pico", num_classes=3)
    model.encoder.requires_grad_(False)
    assert sum(len(group["params"]) for group in param_groups(model, weight_decay=0.1)) == 2


def test_layers_far_from_the_head_learn_more_slowly():
    model = create_model("eyetoy2d_pico", num_classes=3)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = param_groups(model, weight_decay=0.1, layer_decay=0.5)
    set_learning_rate(groups, 1.0)
    rates = {names[parameter]: group["lr"] for group in groups for parameter in group["params"]}
    assert rates.keys() == set(names.values())
    assert {name for name, rate in rates.items() if rate == 1} == {"head.weight", "head.bias"}
    assert rates["encoder.global_attention.global_tokens"] == rates["encoder.norm.bias"] == 0.5
    assert rates["encoder.transformer.2.norm1.weight"] == 0.25
    assert rates["encoder.transformer.0.ffn.expand.weight"] == 0.0625
    assert {rate for name, rate in rates.items() if "initial_proj" in name} == {0.03125}


@pytest.mark.parametrize("layer_decay", [0, -1, 1.5])
def test_layer_decay_out_of_range_is_refused(layer_decay):
    with pytest.raises(ValueError, match="layer_decay must be above 0 and at most 1"):
        param_groups(torch.nn.Linear(1, 1), weight_decay=0.1, layer_decay=layer_decay)


def test_layers_are_found_in_whatever_holds_the_encoder():
    model = create_model("eyetoy2d_pico", num_classes=3)
    scales = [group["lr_scale"] for group in param_groups(model, weight_decay=0.1, layer_decay=0.5)]
    wrapped = torch.nn.ModuleDict({"module": model})
    assert [group["lr_scale"] for group in param_groups(wrapped, weight_decay=0.1, layer_decay=0.5)] == scales
    with pytest.raises(ValueError, match="Linear holds none"):
        param_groups(torch.nn.Linear(1, 1), weight_decay=0.1, layer_decay=0.5)


def test_decay_shrinks_what_has_no_gradient_and_spares_the_rest():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = build_optimizer(model, Recipe(lr=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = dict(model.named_parameters())
    torch.testing.assert_close(after["0.weight"], before["0.weight"] * 0.95)
    for name in ("0.bias", "1.weight", "1.bias"):
        assert torch.equal(after[name], before[name])


def test_layers_of_a_timm_model_are_timms():
    recipe = Recipe(layer_decay=0.5)
    recipe.model.name = "timm/vit_tiny_patch16_224"
    model = build_classifier(recipe.model, num_classes=3, grid=(32, 32))
    optimizer = build_optimizer(model, recipe)
    scales = sorted({group["lr_scale"] for group in optimizer.param_groups})
    assert len(scales) == 14
    assert (scales[0], scales[-1]) == (0.5**13, 1.0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
