"""Parameters go to JSON and back, refuse what cannot be built; named models are what they say."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eyetoy import (
    AttentionParams,
    Classifier,
    ConvParams,
    Encoder,
    EncoderParams,
    GlobalAttentionParams,
    HeadParams,
    TransformerParams,
    create_encoder,
    create_model,
    encoder_params,
    list_models,
)
from eyetoy.params import from_dict

NAMES = (
    *(f"eyetoy{dim}d_{size}" for dim in (1, 2, 3) for size in ("pico", "nano", "tiny", "small", "base")),
    "eyetoy2d_preliminary",
    "eyetoy2d_preliminary_35m",
    "nat_nano",
    "nat_tiny",
)
HEAD = HeadParams(
    conv_params=ConvParams(), attn_params=AttentionParams(attention_window=3), num_heads=2, intermediate_channels=6
)


def sizes(low: int, high: int) -> st.SearchStrategy[Any]:
    return st.integers(low, high) | st.tuples(st.integers(low, high), st.integers(low, high))


def conv_params() -> st.SearchStrategy[ConvParams]:
    return st.builds(ConvParams, kernel_size=sizes(4, 7), stride=sizes(1, 4))


def shares(**bounds: float) -> st.SearchStrategy[float]:
    return st.floats(0, 0.9, allow_nan=False, **bounds)


def head_params() -> st.SearchStrategy[HeadParams]:
    attention = st.builds(AttentionParams, attention_window=sizes(1, 17), dilation=sizes(1, 3), is_causal=st.booleans())
    return st.builds(
        HeadParams,
        conv_params=conv_params(),
        attn_params=attention,
        num_heads=st.sampled_from((1, 2, 4)),
        intermediate_channels=st.sampled_from((4, 8, 32)),
    )


def transformer_params() -> st.SearchStrategy[TransformerParams]:
    return st.builds(
        TransformerParams,
        heads=st.lists(head_params(), min_size=1, max_size=3).map(tuple),
        out_channels=st.integers(6, 64),
        scale_factor=st.sampled_from((1.0, 0.5, (0.5, 1.0), (1 / 3, 0.25))),
        mlp_ratio=st.floats(0.5, 4),
        dropout=shares(),
        drop_path=shares(),
        local_kernel=st.none() | sizes(1, 9),
        layer_scale=st.none() | st.floats(1e-6, 1),
        norm=st.sampled_from(("layer", "group")),
    )


def two_dimensional_params() -> st.SearchStrategy[EncoderParams]:
    stack = st.builds(
        GlobalAttentionParams,
        depth=st.integers(1, 3),
        num_heads=st.just(1),
        num_register_tokens=st.integers(1, 8),
        context_token=st.booleans(),
        residual=st.sampled_from(("input", "norm")),
        context_init=st.sampled_from(("learned", "mean")),
        global_pool=st.sampled_from(("token", "avg")),
    )
    return st.builds(
        EncoderParams,
        num_spatial_dims=st.just(2),
        in_channels=st.integers(1, 4),
        stem_channels=st.sampled_from((16, 32)),
        initial_proj=st.lists(conv_params(), min_size=1, max_size=3).map(tuple),
        transformer=st.lists(transformer_params(), min_size=1, max_size=3).map(tuple),
        global_attention=st.none() | stack,
        positional_embedding=st.booleans(),
        stem_norm=st.booleans(),
        norm=st.sampled_from(("layer", "group")),
    )


@given(params=two_dimensional_params())
@settings(max_examples=40)
def test_params_come_back_equal_from_json(params: EncoderParams) -> None:
    assert from_dict(EncoderParams, json.loads(json.dumps(dataclasses.asdict(params)))) == params
    assert from_dict(EncoderParams, dataclasses.asdict(params)) == params


@pytest.mark.parametrize("name", NAMES)
def test_named_params_come_back_equal_from_json(name: str) -> None:
    params = encoder_params(name, drop_path=0.1)
    assert from_dict(EncoderParams, json.loads(json.dumps(dataclasses.asdict(params)))) == params


def test_params_cannot_be_changed_and_can_be_compared(encoders: Any) -> None:
    params = encoders.encoder_params(2)
    assert params == encoders.encoder_params(2)
    assert hash(params) == hash(encoders.encoder_params(2))
    assert params != encoders.encoder_params(2, in_channels=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.in_channels = 1


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (ConvParams, {"kernel": 3}, "ConvParams has no field kernel; it has kernel_size, stride"),
        (AttentionParams, {"attention_window": 3, "shift": 1}, "AttentionParams has no field shift; it has attention"),
    ],
)
def test_unknown_field_is_refused_and_the_known_ones_are_listed(cls: type, values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(cls, values)


def test_unknown_field_is_found_at_any_depth(encoders: Any) -> None:
    values = dataclasses.asdict(encoders.encoder_params(2))
    values["transformer"][0]["heads"][1]["attn_params"]["windows"] = 3
    with pytest.raises(ValueError, match="AttentionParams has no field windows"):
        from_dict(EncoderParams, values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvParams(kernel_size=2, stride=3), "kernel_size .*at least the stride.*kernel_size=2, stride=3"),
        (lambda: ConvParams(kernel_size=(3, 1), stride=(1, 2)), r"kernel_size=\(3, 1\), stride=\(1, 2\)"),
        (lambda: ConvParams(kernel_size=(3, 3), stride=(1, 1, 1)), r"one per axis; got \(3, 3\)"),
        (lambda: ConvParams(kernel_size=0), "kernel_size .*at least 1; got 0"),
        (lambda: ConvParams(stride=0), "stride .*at least 1; got 0"),
        (lambda: ConvParams(kernel_size=3.0), r"kernel_size .*3\.0"),
        (lambda: dataclasses.replace(HEAD, num_heads=4), "intermediate_channels .*multiple of num_heads; got 6 and 4"),
        (lambda: dataclasses.replace(HEAD, num_heads=0), "num_heads .*0"),
        (lambda: TransformerParams(heads=(), out_channels=8), "heads .*at least one HeadParams"),
        (
            lambda: GlobalAttentionParams(depth=1, num_heads=2, num_register_tokens=0, context_token=False),
            "global token.*num_register_tokens=0, context_token=False",
        ),
        (lambda: GlobalAttentionParams(depth=1, num_heads=2, residual="post"), "'input' or 'norm'; got 'post'"),
        (lambda: GlobalAttentionParams(depth=1, num_heads=2, context_init="sum"), "'learned' or 'mean'; got 'sum'"),
        (lambda: GlobalAttentionParams(depth=1, num_heads=2, global_pool="max"), "'token' or 'avg'; got 'max'"),
        (lambda: GlobalAttentionParams(depth=1, num_heads=2, num_register_tokens=-1), "num_register_tokens=-1"),
    ],
)
def test_impossible_params_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_spatial_dims": 0}, "num_spatial_dims must be 1, 2 or 3; got 0"),
        ({"num_spatial_dims": 4}, "num_spatial_dims must be 1, 2 or 3; got 4"),
        ({"initial_proj": ()}, "at least one convolution in initial_proj"),
        ({"transformer": ()}, "one transformer block"),
        ({"in_channels": 0}, "in_channels"),
        ({"stem_channels": 0}, "channels.*0"),
        ({"stem_channels": 3}, "at least 4 channels; got channels=3"),
        pytest.param(
            {"stem_channels": 4, "initial_proj": (ConvParams(),) * 4}, "stem_channels", id="first width normalised to 0"
        ),
        ({"initial_proj": (ConvParams(kernel_size=(2, 2, 2)),)}, r"kernel_size .*got \(2, 2, 2\)"),
        ({"global_attention": GlobalAttentionParams(depth=1, num_heads=5)}, "multiple of num_heads; got 16 and 5"),
    ],
    ids=str,
)
def test_encoder_that_cannot_be_built_is_refused(changes: dict[str, Any], message: str, encoders: Any) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(encoders.encoder_params(2, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_channels": 0}, "out_channels"),
        ({"local_kernel": 0}, "local_kernel must hold integers of at least 1; got 0"),
        ({"local_kernel": (3, 2.5)}, "local_kernel must hold integers"),
        ({"heads": ()}, "heads must hold at least one HeadParams, or a local_kernel be given; got neither"),
        ({"norm": "batch"}, "norm must be 'layer' or 'group'; got 'batch'"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": 1.5}, "dropout"),
        ({"drop_path": -0.1}, "drop_path"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"scale_factor": 0.3}, r"scale_factor must be 1/n .*got 0\.3"),
        ({"scale_factor": 2.0}, r"scale_factor must be 1/n .*got 2\.0"),
        ({"scale_factor": 0.0}, r"scale_factor must be 1/n .*got 0\.0"),
        ({"scale_factor": (0.5, 0.4)}, r"scale_factor must be 1/n .*0\.4"),
    ],
    ids=str,
)
def test_block_that_cannot_be_built_is_refused(changes: dict[str, Any], message: str, encoders: Any) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(encoders.encoder_params(2, transformer=(encoders.block(**changes),)))


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        ({"window": 0}, "window .*at least 1; got 0"),
        ({"dilation": 0}, "dilation .*at least 1; got 0"),
        ({"window": (3, 3, 3)}, r"window .*got \(3, 3, 3\)"),
    ],
    ids=str,
)
def test_window_is_checked_before_the_first_input(attention: dict[str, Any], message: str, encoders: Any) -> None:
    with pytest.raises(ValueError, match=message):
        Encoder(encoders.encoder_params(2, transformer=(encoders.block(heads=(encoders.head_group(**attention),)),)))


@pytest.mark.parametrize("changes", [{"depth": 0}, {"num_heads": 0}, {"dropout": 1.5}, {"drop_path": 1.0}], ids=str)
def test_global_stack_that_cannot_be_built_is_refused(changes: dict[str, Any], encoders: Any) -> None:
    def build() -> Encoder:
        stack = GlobalAttentionParams(**({"depth": 1, "num_heads": 2} | changes))
        return Encoder(encoders.encoder_params(2, global_attention=stack))

    with pytest.raises(ValueError, match=next(iter(changes))):
        build()


def test_out_grid_rounds_up_at_every_step(encoders: Any) -> None:
    params = encoders.encoder_params(
        2,
        initial_proj=(ConvParams(kernel_size=3, stride=2), ConvParams(kernel_size=3, stride=(1, 3))),
        transformer=(encoders.block(), encoders.block(scale_factor=(0.5, 1.0))),
    )
    assert params.out_grid((9, 20)) == (3, 4)
    assert params.out_grid((1, 1)) == (1, 1)
    assert params.out_channels == 12


def test_models_are_listed_by_pattern() -> None:
    assert list_models() == sorted(NAMES)
    assert len(list_models()) == len(set(list_models()))
    assert set(list_models("eyetoy2d_*")) == {name for name in list_models() if name.startswith("eyetoy2d_")}
    assert set(list_models("*_pico")) >= {"eyetoy1d_pico", "eyetoy2d_pico", "eyetoy3d_pico"}
    assert list_models("eyetoy2d_preliminary") == ["eyetoy2d_preliminary"]
    assert list_models("eyetoy4d_*") == []


@pytest.mark.parametrize("make", [encoder_params, create_encoder, lambda name: create_model(name, num_classes=2)])
def test_unknown_name_lists_the_names_there_are(make: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="'eyetoy2d_giant'") as error:
        make("eyetoy2d_giant")
    assert all(name in str(error.value) for name in list_models())


def test_preliminary_model_is_the_proposals() -> None:
    params = encoder_params("eyetoy2d_preliminary")
    assert len(params.transformer) == 4
    assert params.global_attention is None
    for block in params.transformer:
        assert [group.num_heads for group in block.heads] == [2, 2, 2, 2]
        assert [group.conv_params.stride for group in block.heads] == [1, 2, 4, 8]
        assert [group.attn_params.attention_window for group in block.heads] == [17, 13, 11, 7]
    weights = sum(weight.numel() for weight in create_model("eyetoy2d_preliminary", num_classes=10).parameters())
    assert 2.7e6 <= weights <= 3.3e6


@pytest.mark.parametrize("name", NAMES)
def test_name_says_the_dimensions_and_defaults_the_channels(name: str) -> None:
    params = encoder_params(name)
    assert params.num_spatial_dims == (2 if name.startswith("nat_") else int(name[len("eyetoy")]))
    assert params.in_channels == (1 if params.num_spatial_dims == 1 else 3)
    assert encoder_params(name, in_channels=5).in_channels == 5


def test_stem_strides_set_the_grid() -> None:
    assert encoder_params("eyetoy2d_pico", stem_strides=(2,)).out_grid((16, 16)) == encoder_params(
        "eyetoy2d_pico", stem_strides=(2, 2)
    ).out_grid((32, 32))
    params = encoder_params("eyetoy2d_pico", stem_strides=(2,))
    assert len(params.initial_proj) == 1
    encoder = create_encoder("eyetoy2d_pico", stem_strides=(2,), in_channels=1).eval()
    assert encoder(torch.zeros(1, 1, 16, 16)).features.shape[2:] == params.out_grid((16, 16))


def test_drop_path_grows_linearly_to_the_last_block() -> None:
    rates = [block.drop_path for block in encoder_params("eyetoy2d_nano", drop_path=0.3).transformer]
    steps = [after - before for before, after in itertools.pairwise(rates)]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(0.3)
    assert steps == pytest.approx([steps[0]] * len(steps))


@pytest.mark.parametrize("drop_path", [-0.1, 1.0])
def test_drop_path_must_be_a_share(drop_path: float) -> None:
    with pytest.raises(ValueError, match=rf"drop_path .*got {drop_path}"):
        encoder_params("eyetoy2d_nano", drop_path=drop_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_classes": -1}, "num_classes .*got -1"), ({"num_classes": 2, "dropout": 1.5}, "dropout")],
)
def test_classifier_that_cannot_be_built_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("eyetoy2d_pico", **options)


@pytest.mark.parametrize("name", ["eyetoy1d_pico", "eyetoy2d_pico", "eyetoy3d_pico"])
def test_same_seed_gives_the_same_weights(name: str) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return create_model(name, num_classes=3).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", ["eyetoy1d_pico", "eyetoy2d_pico", "eyetoy3d_pico", "eyetoy2d_preliminary"])
def test_named_classifier_returns_logits(name: str, device: str) -> None:
    model = create_model(name, num_classes=7).to(device)
    assert isinstance(model, Classifier)
    params = encoder_params(name)
    grid = {1: (700,), 2: (30, 41), 3: (3, 20, 17)}[params.num_spatial_dims]
    logits = model(torch.randn(2, params.in_channels, *grid, device=device))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
