"""What the field expects of a backbone: features, heads, pyramids, checkpointing, freezing, other classes."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from eyetoy import (
    Classifier,
    FeaturePyramid,
    GlobalAttentionParams,
    create_encoder,
    create_model,
    create_pyramid,
    param_groups,
    register_timm_models,
)

GRIDS = {1: (500,), 2: (45, 67), 3: (5, 20, 24)}


def inputs(dimension: int, channels: int = 3) -> torch.Tensor:
    return torch.randn(2, channels, *GRIDS[dimension], generator=torch.Generator().manual_seed(0))


def test_features_and_head_make_up_the_logits(dimension: int, encoders: Any) -> None:
    model, x = Classifier(encoders.encoder_params(dimension), num_classes=7).eval(), inputs(dimension)
    features = model.forward_features(x)
    torch.testing.assert_close(model.forward_head(features), model(x))
    assert model.forward_head(features, pre_logits=True).shape == (2, model.num_features)
    assert model.get_classifier().out_features == 7


def test_context_only_leaves_the_context_as_it_is(dimension: int, encoders: Any) -> None:
    encoder, x = Classifier(encoders.encoder_params(dimension), num_classes=7).encoder.eval(), inputs(dimension)
    features, context = encoder(x)
    given, alone = encoder(x, context_only=True)
    torch.testing.assert_close(alone, context)
    assert given.shape == features.shape
    assert not torch.allclose(given, features)


def test_new_head_is_saved_with_the_model(dimension: int, encoders: Any, tmp_path: Path) -> None:
    model = Classifier(encoders.encoder_params(dimension), num_classes=7).eval()
    model.reset_classifier(4)
    model.save_pretrained(tmp_path)
    loaded = Classifier.from_pretrained(tmp_path)
    assert torch.equal(loaded(inputs(dimension)), model(inputs(dimension)))
    assert loaded(inputs(dimension)).shape == (2, 4)


def test_pyramid_has_the_grids_and_channels_that_it_states(dimension: int) -> None:
    model, x = create_pyramid(f"eyetoy{dimension}d_nano", in_channels=3), inputs(dimension)
    levels = model(x)
    assert len(levels) == len(model.feature_info) == 4
    for level, info in zip(levels, model.feature_info, strict=True):
        assert level.shape[1] == info.num_chs
        grid = tuple(-(-n // reduction) for n, reduction in zip(x.shape[2:], info.reduction, strict=True))
        assert tuple(level.shape[2:]) == grid
    sum(level.square().mean() for level in levels).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None]
    assert idle == []


@pytest.mark.parametrize("out_indices", [(0,), (2, 0), (1,), None])
def test_pyramid_trains_what_its_levels_need_and_computes_no_more(dimension: int, out_indices: Any) -> None:
    """On several processes a parameter that waits for its gradient in vain is an error."""
    model, x = create_pyramid(f"eyetoy{dimension}d_nano", in_channels=3, out_indices=out_indices), inputs(dimension)
    sum(level.square().sum() for level in model(x)).backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            nn.init.constant_(parameter, torch.nan)
    assert all(level.isfinite().all() for level in model(x))


def test_image_pyramid_has_the_usual_strides() -> None:
    assert [info.reduction for info in create_pyramid("eyetoy2d_nano").feature_info] == [(s, s) for s in (4, 8, 16, 32)]


def test_last_level_is_what_the_encoder_gives(dimension: int, encoders: Any) -> None:
    model, x = FeaturePyramid(encoders.encoder_params(dimension), out_indices=(-1,)).eval(), inputs(dimension)
    (level,) = model(x)
    assert torch.equal(level, model.encoder(x).features)


@pytest.mark.parametrize("out_indices", [(), (0, 0), (0, -4), (4,), (-5,)])
def test_stages_that_are_not_there_are_refused(out_indices: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="out_indices must name stages from 0 to 3, each once"):
        create_pyramid("eyetoy2d_nano", out_indices=out_indices)


def test_checkpointing_changes_no_gradient(dimension: int, encoders: Any) -> None:
    model, x = Classifier(encoders.encoder_params(dimension), num_classes=3), inputs(dimension)

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(model(x).square().sum(), list(model.parameters())))

    plain = gradients()
    model.set_grad_checkpointing()
    torch.testing.assert_close(gradients(), plain)


def test_frozen_stages_do_not_train(dimension: int) -> None:
    encoder = create_encoder(f"eyetoy{dimension}d_nano", in_channels=3)
    encoder.freeze(2)
    encoder(inputs(dimension)).context.sum().backward()
    trained = {name for name, p in encoder.named_parameters() if p.grad is not None}
    stages = encoder.params.stages
    assert not any(name.startswith("initial_proj") for name in trained)
    blocks = {int(name.split(".")[1]) for name in trained if name.startswith("transformer.")}
    assert blocks == set(range(stages[1].stop, stages[-1].stop))
    with pytest.raises(ValueError, match="num_stages must be from 0 to 4; got 5"):
        encoder.freeze(5)
    encoder.freeze()
    assert not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize("mode", ["train, then freeze", "freeze, then train"])
def test_frozen_stages_drop_nothing(dimension: int, mode: str, encoders: Any) -> None:
    rates = {"dropout": 0.5, "drop_path": 0.5}
    blocks = (encoders.block(**rates), encoders.block(out_channels=16, scale_factor=0.5, **rates))
    stack = GlobalAttentionParams(depth=1, num_heads=2, **rates)
    params = encoders.encoder_params(dimension, transformer=blocks, global_attention=stack)
    model, x = Classifier(params, num_classes=3), inputs(dimension)
    encoder, evaluated = model.encoder, model.eval().encoder.forward_stages(x)
    model.train()

    def freeze(num_stages: int | None) -> None:
        encoder.freeze(num_stages)
        if mode == "freeze, then train":
            model.train()

    freeze(1)
    first, last = encoder.forward_stages(x)
    assert torch.equal(first, evaluated[0])
    assert not torch.equal(last, encoder.forward_stages(x)[1])  # the second stage still draws
    freeze(None)
    assert torch.equal(encoder(x).context, encoder(x).context)
    assert model.training
    encoder.requires_grad_(True)
    model.train()
    assert all(module.training for module in model.modules())


def test_loads_for_other_classes_and_channels_and_says_so(
    dimension: int, encoders: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Classifier(encoders.encoder_params(dimension), num_classes=7).eval()
    model.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        loaded = Classifier.from_pretrained(tmp_path, num_classes=4, in_channels=6)
    x = inputs(dimension)
    said = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("head.weight initialised anew, [7, 16] to [4, 16]") for text in said)
    assert any(text.startswith("encoder.initial_proj.convs.0.weight adapted") for text in said)
    twice = loaded.forward_features(torch.cat([x, x], dim=1))
    torch.testing.assert_close(twice.context, model.forward_features(x).context, rtol=1e-4, atol=1e-5)
    assert loaded(torch.cat([x, x], dim=1)).shape == (2, 4)


def test_weights_of_another_model_are_refused(encoders: Any, tmp_path: Path) -> None:
    Classifier(encoders.encoder_params(2), num_classes=7).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match="size mismatch"):
        Classifier.from_pretrained(tmp_path, params=encoders.encoder_params(2, stem_channels=16))


def test_timm_builds_the_models_by_name() -> None:
    timm = pytest.importorskip("timm")
    assert "eyetoy_nano" in register_timm_models()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "eyetoy_nano" in register_timm_models()  # another library may have called it, too
    model = timm.create_model("eyetoy_nano", num_classes=5, in_chans=1)
    assert model(torch.randn(1, 1, 64, 64)).shape == (1, 5)
    levels = timm.create_model("eyetoy_nano", features_only=True, out_indices=(1, 3))(torch.randn(1, 3, 64, 64))
    assert [tuple(level.shape[1:]) for level in levels] == [(64, 8, 8), (256, 2, 2)]
    with pytest.raises(ValueError, match="no pretrained weights of eyetoy_nano"):
        timm.create_model("eyetoy_nano", pretrained=True)
    assert isinstance(create_model("eyetoy2d_nano", num_classes=5).get_classifier(), nn.Linear)


def test_feature_info_is_read_like_timms(dimension: int) -> None:
    """Detectors and segmenters ask for `channels()`, `reduction()`, or the keys of a level."""
    pyramid = create_pyramid(f"eyetoy{dimension}d_nano", in_channels=3, out_indices=(-1, 1))
    info, stages = pyramid.feature_info, pyramid.encoder.params
    assert [level.index for level in info] == [level["index"] for level in info] == [3, 1]
    assert info.channels() == [level["num_chs"] for level in info] == [level.num_chs for level in info]
    assert info.channels() == [level.shape[1] for level in pyramid(inputs(dimension))]
    expected = [r[0] if len(set(r)) == 1 else r for r in stages.stage_reductions]
    assert info.reduction() == [level["reduction"] for level in info] == [expected[3], expected[1]]
    assert [level.reduction for level in info] == [stages.stage_reductions[3], stages.stage_reductions[1]]
    assert info.channels(0) == stages.stage_channels[0]
    assert info.reduction([0, 2]) == [expected[0], expected[2]]
    assert info.get_dicts(["num_chs"], [0]) == [{"num_chs": stages.stage_channels[0]}]
    assert info.get_dicts() == [dict(level) for level in info]
    assert info.out_indices == pyramid.out_indices == (3, 1)
    modules = dict(pyramid.named_modules())
    assert [modules[name] for name in info.module_name()] == [
        pyramid.encoder.transformer[stages.stages[i][-1]] for i in (3, 1)
    ]
    for other in (copy.copy(info), copy.deepcopy(info)):
        assert other == info
        assert other.channels() == info.channels()
    with pytest.raises(KeyError):
        info[0]["channels"]


def test_timms_and_our_feature_info_have_the_same_methods(dimension: int) -> None:
    features = pytest.importorskip("timm.models")
    info = create_pyramid(f"eyetoy{dimension}d_nano", in_channels=3, out_indices=(1, 2)).feature_info
    if any(isinstance(reduction, tuple) for reduction in info.reduction(range(4))):
        return  # timm compares reductions with integers
    theirs = features.FeatureInfo([dict(stage) for stage in info.info], info.out_indices)
    for method in ("channels", "reduction", "module_name", "get_dicts"):
        assert getattr(info, method)() == getattr(theirs, method)()
    for method in ("channels", "reduction", "module_name"):
        assert getattr(info, method)(idx=2) == getattr(theirs, method)(idx=2)
        assert getattr(info, method)(idx=[0, 3]) == getattr(theirs, method)(idx=[0, 3])
    assert info.get("num_chs") == theirs.get("num_chs")


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("options", [{}, {"num_classes": 0}, {"features_only": True, "out_indices": (-2, -1)}], ids=str)
def test_timms_scripts_find_the_size_and_the_normalisation(channels: int, options: dict[str, Any]) -> None:
    timm, data = pytest.importorskip("timm"), pytest.importorskip("timm.data")
    register_timm_models()
    overlay = {"crop_pct": 0.9}
    model = timm.create_model("eyetoy_pico", in_chans=channels, pretrained_cfg_overlay=overlay, **options)
    config = data.resolve_data_config({}, pretrained_cfg=model.default_cfg)
    assert config == data.resolve_data_config({}, model=model) == data.resolve_model_data_config(model)
    assert config["crop_pct"] == 0.9
    assert config["input_size"] == (channels, 224, 224)
    assert (config["mean"], config["std"]) == ((0.5,) * channels, (0.25,) * channels)
    view = data.create_transform(**config)(Image.new("RGB" if channels == 3 else "L", (300, 250)))
    assert view.shape == (channels, 224, 224)
    out = model.eval()(view[None])
    if options.get("features_only"):
        assert [level.shape[1] for level in out] == model.feature_info.channels()
    else:
        count = options.get("num_classes", 1000)
        assert model.num_classes == model.pretrained_cfg["num_classes"] == count
        assert out.shape == (1, count or model.num_features)
        assert model.get_classifier() is model.get_submodule(model.pretrained_cfg["classifier"])
    assert model.get_submodule(model.pretrained_cfg["first_conv"]).weight.shape[-1] == channels


@pytest.mark.parametrize("channels", [3, 1])
def test_timm_prepares_pictures_as_the_recipes_for_imagenet_do(channels: int, tmp_path: Path) -> None:
    timm, data = pytest.importorskip("timm"), pytest.importorskip("timm.data")
    ours, files = (pytest.importorskip(f"eyetoy_image.{part}") for part in ("classification.transforms", "io.files"))
    register_timm_models()
    trained = create_model("eyetoy2d_pico", num_classes=4, in_channels=channels).eval()
    trained.save_pretrained(tmp_path)
    weights = str(tmp_path / "model.safetensors")
    model = timm.create_model("eyetoy_pico", num_classes=4, in_chans=channels, checkpoint_path=weights).eval()
    noise = torch.randint(256, (260, 300, 3), dtype=torch.uint8).numpy()
    picture = Image.fromarray(noise).convert("RGB" if channels == 3 else "L")
    theirs = data.create_transform(**data.resolve_model_data_config(model))(picture)
    pixels = files.to_pixels(picture, grayscale=channels == 1)
    expected = ours.normalized(ours.evaluation_transform(224, crop_pct=0.875)(pixels))
    torch.testing.assert_close(theirs, expected, rtol=0, atol=0.02)  # a step between two shades is 1 / 255 / 0.25
    torch.testing.assert_close(model(theirs[None]), trained(theirs[None]))


def test_timm_asks_for_another_pooling_and_for_weights_that_are_not_there() -> None:
    timm = pytest.importorskip("timm")
    register_timm_models()
    model, x = timm.create_model("eyetoy_pico", global_pool="avg", num_classes=0).eval(), torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(model(x), model.encoder(x).features.mean((2, 3)))
    model = timm.create_model("eyetoy_pico", pretrained_cfg={"input_size": (3, 64, 64)})
    assert model.pretrained_cfg["input_size"] == (3, 64, 64)
    assert model.pretrained_cfg["interpolation"] == "bilinear"
    with pytest.raises(ValueError, match=r"no pretrained weights eyetoy_pico\.in1k"):
        timm.create_model("eyetoy_pico.in1k")
    with pytest.raises(TypeError, match="eyetoy_pico takes no drop_block"):
        timm.create_model("eyetoy_pico", drop_block=0.1)


@pytest.mark.parametrize("layer_decay", [0.5, 0.8])
def test_timm_and_we_agree_on_the_layers(layer_decay: float) -> None:
    timm_optim = pytest.importorskip("timm.optim")
    model = create_model("eyetoy2d_nano", num_classes=5)

    def settings_by_parameter(groups: list[dict[str, Any]]) -> dict[nn.Parameter, tuple[float, float]]:
        return {p: (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}

    ours = settings_by_parameter(param_groups(model, weight_decay=0.1, layer_decay=layer_decay))
    theirs = settings_by_parameter(
        timm_optim.param_groups_layer_decay(
            model, weight_decay=0.1, layer_decay=layer_decay, no_weight_decay_list=model.no_weight_decay()
        )
    )
    assert ours.keys() == theirs.keys() == set(model.parameters())
    assert {p: ours[p] for p in ours} == {p: pytest.approx(theirs[p]) for p in ours}


def test_layer_scale_is_in_every_branch(dimension: int) -> None:
    model = create_encoder(f"eyetoy{dimension}d_pico", layer_scale=0.25)
    gammas = [p for name, p in model.named_parameters() if name.endswith("gamma")]
    assert len(gammas) == 2 * (len(model.params.transformer) + 1)
    assert all(torch.equal(gamma, torch.full_like(gamma, 0.25)) for gamma in gammas)


def test_weights_for_twice_the_channels_give_for_a_constant_what_they_gave(dimension: int, tmp_path: Path) -> None:
    create_model(f"eyetoy{dimension}d_pico", num_classes=3, in_channels=3).save_pretrained(tmp_path)
    three, six = (Classifier.from_pretrained(str(tmp_path), in_channels=channels) for channels in (None, 6))
    assert not three.training
    assert not six.training
    grid = {1: (512,), 2: (32, 32), 3: (4, 32, 32)}[dimension]
    torch.testing.assert_close(six(torch.ones(1, 6, *grid)), three(torch.ones(1, 3, *grid)), rtol=1e-3, atol=1e-4)


def test_weights_for_one_channel_see_what_three_equal_ones_show(dimension: int, tmp_path: Path) -> None:
    create_model(f"eyetoy{dimension}d_pico", num_classes=3, in_channels=3).save_pretrained(tmp_path)
    three, one = (Classifier.from_pretrained(str(tmp_path), in_channels=channels) for channels in (None, 1))
    grid = {1: (512,), 2: (32, 32), 3: (4, 32, 32)}[dimension]
    grey = torch.randn(1, 1, *grid)
    torch.testing.assert_close(one(grey), three(grey.expand(-1, 3, *grid)), rtol=1e-3, atol=1e-4)
