"""Which parameters decay and how fast layers learn: here, and as timm's factory asks the models for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from eyetoy import Classifier, Encoder, FeaturePyramid, param_groups
from eyetoy.encoder import ENCODERS

KINDS: dict[str, Callable[[Any], nn.Module]] = {
    "encoder": Encoder,
    "classifier": lambda params: Classifier(params, num_classes=5),
    "pyramid": FeaturePyramid,
    "part of a pyramid": lambda params: FeaturePyramid(params, out_indices=(0,)),
}


def settings(groups: list[dict[str, Any]]) -> dict[nn.Parameter, tuple[float, float]]:
    return {p: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [0, 2])
def test_timms_factory_finds_our_layers_and_our_tokens(dimension: int, kind: str, depth: int, encoders: Any) -> None:
    timm_optim = pytest.importorskip("timm.optim")
    params = encoders.encoder_params(dimension, **({} if depth else {"global_attention": None}))
    model = KINDS[kind](params)
    optimizer = timm_optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.1, layer_decay=0.5)
    ours, theirs = settings(param_groups(model, weight_decay=0.1, layer_decay=0.5)), settings(optimizer.param_groups)
    assert ours.keys() == theirs.keys() == {p for p in model.parameters() if p.requires_grad}
    assert {p: theirs[p] for p in ours} == {p: pytest.approx(ours[p]) for p in ours}
    assert len({scale for scale, _ in theirs.values()}) > len(params.transformer) - (kind == "part of a pyramid")
    plain = timm_optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.1)
    decays = {p: group["weight_decay"] for group in plain.param_groups for p in group["params"]}
    assert {p: decays[p] for p in ours} == {p: decay for p, (_, decay) in ours.items()}


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimizer_of_pytorch_takes_the_rate_of_every_layer(dimension: int, optimizer: Any, encoders: Any) -> None:
    model = Classifier(encoders.encoder_params(dimension, transformer=(encoders.block(),) * 3), num_classes=5)
    groups = optimizer(param_groups(model, lr=0.08, weight_decay=0.1, layer_decay=0.5)).param_groups
    rates = {p: group["lr"] for group in groups for p in group["params"]}
    named = {name: rates[p] for name, p in model.named_parameters()}
    for name, expected in {
        "encoder.initial_proj.convs.0.weight": 0.0025,
        "encoder.transformer.0.norm1.weight": 0.005,
        "encoder.transformer.2.ffn.expand.weight": 0.02,
        "encoder.global_attention.global_tokens": 0.04,
        "head.bias": 0.08,
    }.items():
        assert named[name] == pytest.approx(expected), name
    assert {group["lr"] for group in param_groups(model, lr=0.08, weight_decay=0.1)} == {0.08}
    assert not any("lr" in group for group in param_groups(model, weight_decay=0.1, layer_decay=0.5))


@pytest.mark.parametrize("lr", [0.0, -1e-4, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(lr: float) -> None:
    with pytest.raises(ValueError, match=f"lr must be positive and finite; got {lr}"):
        param_groups(nn.Linear(2, 2), lr=lr, weight_decay=0.1)


@pytest.mark.parametrize("kind", ["encoder", "classifier", "pyramid"])
def test_a_coarse_matcher_has_one_group_of_blocks(dimension: int, kind: str, encoders: Any) -> None:
    manipulate = pytest.importorskip("timm.models")
    model: Any = KINDS[kind](encoders.encoder_params(dimension))
    groups = manipulate.group_parameters(model, model.group_matcher(coarse=True))
    stem, blocks, *rest = groups.values()
    prefix = "" if kind == "encoder" else "encoder."
    assert {name.removeprefix(prefix).split(".")[0] for name in stem} == {"initial_proj"}
    assert {name.removeprefix(prefix).split(".")[0] for name in blocks} == {"transformer"}
    assert {name for group in groups.values() for name in group} == dict(model.named_parameters()).keys()
    assert rest


def test_each_of_two_encoders_has_layers_of_its_own(dimension: int, encoders: Any) -> None:
    deep = encoders.encoder_params(dimension, transformer=(encoders.block(),) * 4)
    shallow = encoders.encoder_params(2, transformer=(encoders.block(),))
    towers = nn.ModuleDict(
        {
            "deep": nn.Sequential(ENCODERS[dimension](deep)),
            "other": Classifier(shallow, 3),
            "temperature": nn.Linear(1, 1),
        }
    )
    scales = {
        p: group["lr_scale"]
        for group in param_groups(towers, weight_decay=0.1, layer_decay=0.5)
        for p in group["params"]
    }
    named = {name: scales[p] for name, p in towers.named_parameters()}
    assert scales.keys() == set(towers.parameters())
    for name, expected in {
        "deep.0.initial_proj.convs.0.weight": 0.5**6,
        "deep.0.transformer.0.norm1.weight": 0.5**5,
        "deep.0.transformer.3.norm1.weight": 0.5**2,
        "deep.0.global_attention.global_tokens": 0.5,
        "other.encoder.initial_proj.convs.0.weight": 0.5**3,
        "other.encoder.transformer.0.norm1.weight": 0.5**2,
        "other.encoder.norm.weight": 0.5,
        "other.head.weight": 1,
        "temperature.weight": 1,
    }.items():
        assert named[name] == expected, name


class LowRank(nn.Module):
    """A weight as a product of two matrices."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left @ right

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weight, torch.eye(weight.shape[1])


RENAMED: dict[str, tuple[Callable[[nn.Module], Any], set[str]]] = {
    "weight norm": (parametrizations.weight_norm, {"parametrizations.weight.original1"}),
    "older weight norm": (nn.utils.weight_norm, {"weight_v"}),
    "spectral norm": (parametrizations.spectral_norm, {"parametrizations.weight.original"}),
    "older spectral norm": (nn.utils.spectral_norm, {"weight_orig"}),
    "pruning": (lambda module: prune.l1_unstructured(module, "weight", amount=0.5), {"weight_orig"}),
    "two factors": (
        lambda module: nn.utils.parametrize.register_parametrization(module, "weight", LowRank()),
        {"parametrizations.weight.original0", "parametrizations.weight.original1"},
    ),
}


@pytest.mark.parametrize("change", RENAMED)
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_weight_decays_under_whatever_name(dimension: int, change: str, encoders: Any) -> None:
    rename, expected = RENAMED[change]
    model = nn.ModuleDict({"model": Classifier(encoders.encoder_params(dimension), num_classes=3)})
    linear: Any = model["model"].encoder.transformer[1].ffn.expand
    embedding, before = nn.Embedding(4, 3), param_groups(model, weight_decay=0.1)[0]["params"]
    model["embedding"] = embedding
    rename(linear)
    if change != "two factors":
        rename(embedding)
    decays = {p for group in param_groups(model, weight_decay=0.1) if group["weight_decay"] for p in group["params"]}
    assert {name for name, p in linear.named_parameters() if p in decays} == expected
    assert not decays & set(embedding.parameters())
    assert len(decays) == len(before) - 1 + len(expected)
    layers = {p: g["lr_scale"] for g in param_groups(model, weight_decay=0.1, layer_decay=0.5) for p in g["params"]}
    assert {layers[p] for p in linear.parameters()} == {0.25}


def test_a_weight_norm_of_kernels_decays_the_kernels(dimension: int, encoders: Any) -> None:
    model = ENCODERS[dimension](encoders.encoder_params(dimension))
    conv: Any = model.initial_proj.convs[0]
    parametrizations.weight_norm(conv)
    groups = param_groups(model, weight_decay=0.1)
    decays = {p for group in groups if group["weight_decay"] for p in group["params"]}
    assert conv.parametrizations.weight.original0.ndim == dimension + 2
    assert [p in decays for p in conv.parametrizations.weight.parameters()] == [False, True]
