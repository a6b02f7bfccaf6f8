"""The format of saved models: a kind in the config, and folders from before there was one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from eyetoy import Classifier, Encoder, FeaturePyramid, create_encoder, create_model, create_pyramid
from eyetoy_train import CheckpointError, ModelRecipe, SavedModel, build_classifier, load_classifier, load_model
from eyetoy_train.models.saved import KINDS, ExternalModel, save_model

CONV = {"kernel_size": 4, "stride": 4, "spread_bias": False}
PARAMS = {
    "num_spatial_dims": 1,
    "in_channels": 1,
    "stem_channels": 8,
    "initial_proj": [CONV],
    "transformer": [
        {
            "heads": [
                {
                    "conv_params": {"kernel_size": 1, "stride": 1, "spread_bias": False},
                    "attn_params": {"attention_window": [3], "dilation": 1, "is_causal": False},
                    "num_heads": 2,
                    "intermediate_channels": 8,
                }
            ],
            "out_channels": 8,
            "scale_factor": 1.0,
            "mlp_ratio": 3.0,
            "dropout": 0.0,
            "drop_path": 0.0,
            "layer_scale": None,
        }
    ],
    "global_attention": None,
    "positional_embedding": True,
}
ARGUMENTS = {"num_classes": 3, "in_channels": 1, "drop_path": 0.0, "dropout": 0.0}
OLD = {
    "classifier": {"dropout": 0.1, "num_classes": 3, "params": PARAMS},
    "encoder": {"params": PARAMS},
    "pyramid": {"out_indices": None, "params": PARAMS},
    "mine": {"mine": "net", "arguments": ARGUMENTS, "grid": [20]},
    "summed": {"summed": {"bias": True}, "num_classes": 3},
}
"""Configs as they were written without a kind."""


def build(name, arguments, grid):
    return nn.Sequential(nn.Flatten(), nn.Linear(grid[0] * arguments["in_channels"], arguments["num_classes"]))


class Summed(SavedModel):
    """A kind that an app adds."""

    kind = "summed"

    def __init__(self, num_classes: int, *, bias: bool) -> None:
        super().__init__()
        self.config = {"summed": {"bias": bias}, "num_classes": num_classes}
        self.head = nn.Linear(1, num_classes, bias=bias)

    @classmethod
    def from_config(cls, config):
        return cls(config["num_classes"], **config["summed"])

    def forward(self, x):
        return self.head(x.sum(-1))


FAMILIES = {"mine": build}
ALL = {"kinds": {**KINDS, "summed": Summed.from_pretrained}, "families": FAMILIES}
NEW = {
    "classifier": lambda: Classifier(PARAMS, 3, 0.1),
    "encoder": lambda: Encoder(PARAMS),
    "pyramid": lambda: FeaturePyramid(PARAMS),
    "mine": lambda: ExternalModel("mine", "net", ARGUMENTS, (20,), FAMILIES),
    "summed": lambda: Summed(3, bias=True),
}


def outputs(model: nn.Module) -> list[torch.Tensor]:
    x = torch.randn(2, 1, 20, generator=torch.Generator().manual_seed(0))
    found = model(x)
    return [found] if isinstance(found, torch.Tensor) else list(found)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(outputs(one), outputs(other), strict=True))


@pytest.mark.parametrize("kind", OLD)
def test_a_folder_without_a_kind_loads_as_before(kind, tmp_path):
    torch.manual_seed(1)
    model = NEW[kind]().eval()
    (tmp_path / "config.json").write_text(json.dumps(OLD[kind]))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded = load_model(tmp_path, **ALL)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert same(loaded, model)


@pytest.mark.parametrize("kind", NEW)
def test_a_kind_is_written_beside_the_keys_of_before(kind, tmp_path):
    model = NEW[kind]().eval()
    save_model(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.pop("kind") == kind
    assert config == OLD[kind]
    loaded = load_model(tmp_path, **ALL)
    assert type(loaded) is type(model)
    assert same(loaded, model)
    save_model(loaded, tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == {"kind": kind, **OLD[kind]}


@pytest.mark.parametrize("create", [create_model, create_encoder, create_pyramid])
def test_the_cores_models_read_their_own_folders_with_a_kind(create, tmp_path):
    options = {"num_classes": 3} if create is create_model else {}
    model = create("eyetoy1d_pico", stem_strides=[4], **options).eval()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["kind"] == type(model).kind
    loaded = type(model).from_pretrained(tmp_path)
    assert same(loaded, model)
    assert "kind" not in loaded._hub_mixin_config


def test_a_folder_of_another_kind_is_refused_by_name(tmp_path):
    save_model(NEW["summed"](), tmp_path)
    with pytest.raises(ValueError, match="holds no classifier or timm: its config.json is of the kind 'summed'"):
        load_classifier(tmp_path)
    save_model(NEW["encoder"](), tmp_path)
    with pytest.raises(ValueError, match="holds no summed: its config.json is of the kind 'encoder'"):
        load_model(tmp_path, kinds={"summed": Summed.from_pretrained}, families={})


@pytest.mark.parametrize("config", [{"kind": ["classifier"]}, {"kind": None}, {"num_classes": 3}, [], "classifier", 3])
def test_a_config_that_tells_no_kind_is_refused(config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds no classifier or encoder or pyramid or timm"):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", NEW)
def test_a_config_that_does_not_make_a_model_names_its_folder(kind, tmp_path):
    save_model(NEW[kind](), tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"kind": kind}))
    with pytest.raises(CheckpointError, match=f"cannot load the model in {tmp_path}"):
        load_model(tmp_path, **ALL)


def test_what_cannot_save_itself_is_refused(tmp_path: Path):
    with pytest.raises(TypeError, match=r"must have save_pretrained\(folder\) to be saved; Linear has not"):
        save_model(nn.Linear(2, 2), tmp_path)


def test_channels_last_weights_are_saved(tmp_path):
    def convolution(name, arguments, grid):
        return nn.Conv2d(3, 4, 3)

    recipe = ModelRecipe(name="conv/net", channels_last=True)
    model = build_classifier(recipe, num_classes=2, families={"conv": convolution})
    assert not model.model.weight.is_contiguous()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path, families={"conv": convolution})
    assert torch.equal(loaded.model.weight, model.model.weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_any_dtype_is_loaded_for_float32_inputs(kind, dtype, tmp_path):
    model = NEW[kind]().to(dtype)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert {weight.dtype for weight in loaded.state_dict().values()} == {torch.float32}
    assert same(loaded, model.float().eval())
