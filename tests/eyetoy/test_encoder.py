"""Encoders end to end: any size, gradients, independence of the batch, errors, saving."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from eyetoy import (
    Classifier,
    ConvParams,
    Encoder,
    EncoderParams,
    FeaturePyramid,
    GlobalAttentionParams,
    TransformerParams,
    create_encoder,
    create_model,
    encoder_params,
)
from eyetoy.encoder import ENCODERS
from eyetoy.params import from_dict

GRIDS = {1: (45,), 2: (13, 18), 3: (5, 9, 11)}
LONGEST = {1: 200, 2: 53, 3: 13}
PICO = {1: "eyetoy1d_pico", 2: "eyetoy2d_pico", 3: "eyetoy3d_pico"}


def make_encoder(encoders: Any, dimension: int, **changes: Any) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[dimension](encoders.encoder_params(dimension, **changes))


def assert_returns_what_params_promise(encoder: Encoder, grid: tuple[int, ...], device: str) -> None:
    x = torch.randn(2, encoder.params.in_channels, *grid, device=device)
    features, context = encoder(x)
    assert features.shape == (2, encoder.params.out_channels, *encoder.params.out_grid(grid))
    assert context.shape == (2, encoder.params.out_channels)
    assert features.isfinite().all()
    assert context.isfinite().all()


@given(data=st.data())
@settings(max_examples=300)  # a stride, a window and a tile meet an edge in many ways
def test_any_size_works(data: st.DataObject, dimension: int, device: str, encoders: Any) -> None:
    grid = tuple(data.draw(st.integers(1, LONGEST[dimension])) for _ in range(dimension))
    encoder = make_encoder(encoders, dimension).to(device).eval()
    with torch.no_grad():
        assert_returns_what_params_promise(encoder, grid, device)


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("eyetoy1d_pico", (1,)),
        ("eyetoy1d_pico", (63,)),
        ("eyetoy1d_pico", (4001,)),
        ("eyetoy2d_pico", (1, 1)),
        ("eyetoy2d_pico", (37, 53)),
        ("eyetoy2d_pico", (3, 200)),
        ("eyetoy2d_preliminary", (1, 1)),
        ("eyetoy2d_preliminary", (37, 53)),
        ("eyetoy3d_pico", (1, 1, 1)),
        ("eyetoy3d_pico", (5, 17, 23)),
        ("eyetoy3d_pico", (2, 3, 1)),
    ],
)
@torch.no_grad()
def test_named_encoder_works_at_any_size(name: str, grid: tuple[int, ...], device: str) -> None:
    assert_returns_what_params_promise(create_encoder(name).to(device).eval(), grid, device)


def test_training_step_works_on_a_single_cell(dimension: int, device: str, encoders: Any) -> None:
    encoder = make_encoder(encoders, dimension).to(device)
    features, context = encoder(torch.randn(1, 3, *(1,) * dimension, device=device))
    (features.square().sum() + context.square().sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def silent_parameters(module: nn.Module) -> list[str]:
    """Return the names of the parameters that no gradient reaches."""
    return [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(
    "global_attention",
    [
        None,
        GlobalAttentionParams(depth=2, num_heads=2),
        GlobalAttentionParams(depth=2, num_heads=2, num_register_tokens=0),
        GlobalAttentionParams(depth=2, num_heads=2, num_register_tokens=1, context_token=False, residual="norm"),
    ],
    ids=["mean", "registers and context", "context", "register"],
)
def test_every_parameter_gets_a_gradient(
    dimension: int, device: str, encoders: Any, global_attention: GlobalAttentionParams | None
) -> None:
    blocks = (encoders.block(layer_scale=0.1), encoders.block(out_channels=16, scale_factor=0.5))
    encoder = make_encoder(encoders, dimension, global_attention=global_attention, transformer=blocks).to(device)
    features, context = encoder(torch.randn(2, 3, *GRIDS[dimension], device=device))
    (features * torch.randn_like(features)).sum().add((context * torch.randn_like(context)).sum()).backward()
    assert silent_parameters(encoder) == []


@pytest.mark.parametrize("name", ["eyetoy1d_pico", "eyetoy2d_pico", "eyetoy3d_pico", "eyetoy2d_preliminary"])
def test_every_parameter_of_a_named_classifier_gets_a_gradient(name: str, device: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=5).to(device)
    params = encoder_params(name)
    grid = {1: (1500,), 2: (40, 48), 3: (4, 28, 24)}[params.num_spatial_dims]
    logits = model(torch.randn(2, params.in_channels, *grid, device=device))
    nn.functional.cross_entropy(logits, torch.tensor([0, 1], device=device)).backward()
    assert silent_parameters(model) == []


@torch.no_grad()
def test_sample_alone_gives_what_it_gives_in_a_batch(dimension: int, device: str, encoders: Any) -> None:
    encoder = make_encoder(encoders, dimension).to(device).eval()
    x = torch.randn(3, 3, *GRIDS[dimension], device=device)
    together = encoder(x)
    for at in range(3):
        alone = encoder(x[at : at + 1])
        torch.testing.assert_close(alone.features[0], together.features[at], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(alone.context[0], together.context[at], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_empty_batch_gives_an_empty_batch(dimension: int, device: str, encoders: Any) -> None:
    encoder = make_encoder(encoders, dimension).to(device).eval()
    features, context = encoder(torch.zeros(0, 3, *GRIDS[dimension], device=device))
    assert features.shape == (0, 16, *encoder.params.out_grid(GRIDS[dimension]))
    assert context.shape == (0, 16)


@torch.no_grad()
def test_memory_layout_of_the_input_does_not_matter(dimension: int, device: str, encoders: Any) -> None:
    encoder = make_encoder(encoders, dimension).to(device).eval()
    x = torch.randn(2, 3, *GRIDS[dimension], device=device)
    scattered = x.movedim(1, -1).contiguous().movedim(-1, 1)
    assert not scattered.is_contiguous()
    torch.testing.assert_close(encoder(scattered).features, encoder(x).features, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_training_mode_is_evaluation_mode_without_dropout(dimension: int, device: str, encoders: Any) -> None:
    encoder = make_encoder(encoders, dimension).to(device)
    x = torch.randn(2, 3, *GRIDS[dimension], device=device)
    for trained, evaluated in zip(encoder.train()(x), encoder.eval()(x), strict=True):
        assert torch.equal(trained, evaluated)


@pytest.mark.parametrize("noise", [{"dropout": 0.3}, {"drop_path": 0.5}], ids=["dropout", "drop path"])
@pytest.mark.parametrize("where", ["block", "global stack"])
@torch.no_grad()
def test_dropout_is_for_training_only(
    dimension: int, device: str, encoders: Any, noise: dict[str, float], where: str
) -> None:
    noisy, quiet = (noise, {}) if where == "block" else ({}, noise)
    encoder = make_encoder(
        encoders,
        dimension,
        transformer=(encoders.block(**noisy),),
        global_attention=GlobalAttentionParams(depth=1, num_heads=2, **quiet),
    ).to(device)
    x = torch.randn(8, 3, *GRIDS[dimension], device=device)
    evaluated = encoder.eval()(x).features
    assert torch.equal(evaluated, encoder(x).features)
    encoder.train()
    torch.manual_seed(1)
    trained = encoder(x).features
    assert not torch.allclose(trained, evaluated)
    assert not torch.allclose(trained, encoder(x).features)
    torch.manual_seed(1)
    assert torch.equal(trained, encoder(x).features)


@torch.no_grad()
def test_dropout_before_the_head_is_for_training_only(encoders: Any) -> None:
    torch.manual_seed(0)
    model = Classifier(encoders.encoder_params(1), num_classes=4, dropout=0.5)
    x = torch.randn(4, 3, 30)
    assert not torch.equal(model.train()(x), model.train()(x))
    assert torch.equal(model.eval()(x), model.eval()(x))


def test_classifier_is_a_linear_head_on_the_context(dimension: int, encoders: Any) -> None:
    torch.manual_seed(0)
    model = Classifier(encoders.encoder_params(dimension), num_classes=4).eval()
    x = torch.randn(2, 3, *GRIDS[dimension])
    torch.testing.assert_close(model(x), model.head(model.encoder(x).context))


def test_context_without_a_global_stack_is_the_mean_of_the_features(dimension: int, device: str, encoders: Any) -> None:
    encoder = make_encoder(encoders, dimension, global_attention=None).to(device).eval()
    features, context = encoder(torch.randn(2, 3, *GRIDS[dimension], device=device))
    torch.testing.assert_close(context, features.flatten(2).mean(-1), rtol=1e-5, atol=1e-5)


def test_feature_sees_the_pixels_around_it_and_no_others(
    dimension: int, device: str, double: torch.dtype, encoders: Any, oracle: Any
) -> None:
    """Without strides, positions and a global stack a feature's reach is its window: the door swaps no axes."""
    grid = {1: (9,), 2: (4, 6), 3: (3, 4, 5)}[dimension]
    encoder = make_encoder(
        encoders,
        dimension,
        initial_proj=(ConvParams(),),
        transformer=(encoders.block(heads=(encoders.head_group(window=3),)),),
        global_attention=None,
    )
    encoder = encoder.to(device, double).eval()
    x = torch.randn(1, 3, *grid, dtype=double, device=device, requires_grad=True)
    features = encoder(x).features[0].flatten(1)
    reach = oracle.neighbor_mask(grid, [oracle.Axis(window=3)] * dimension)
    weights = torch.randn(len(features), dtype=double, device=device)
    for place, row in enumerate(reach):
        (gradient,) = torch.autograd.grad(weights @ features[:, place], x, retain_graph=True)
        assert torch.equal(gradient[0].abs().sum(0).flatten().cpu() > 0, row), f"feature {place}"


@torch.no_grad()
def test_positions_tell_equal_inputs_apart(dimension: int, device: str, encoders: Any) -> None:
    x = torch.ones(1, 3, *(9,) * dimension, device=device)
    plain = {"initial_proj": (ConvParams(),), "transformer": (encoders.block(heads=(encoders.head_group(),)),)}
    with_positions, without = (
        make_encoder(encoders, dimension, positional_embedding=use, **plain).to(device).eval()(x).features.flatten(2)
        for use in (True, False)
    )
    torch.testing.assert_close(without, without[..., :1].expand_as(without), rtol=1e-4, atol=1e-5)
    rows = with_positions[0].T.double().cpu()
    assert (torch.cdist(rows, rows) + torch.eye(len(rows))).min() > 1e-4


WRONG_SHAPES = {
    "too few axes": lambda grid: (3, *grid),
    "too many axes": lambda grid: (1, 3, *grid, 4),
    "channels": lambda grid: (1, 4, *grid),
    "channels last": lambda grid: (1, *grid, 3),
    "empty axis": lambda grid: (1, 3, *grid[:-1], 0),
}


@pytest.mark.parametrize("wrong", WRONG_SHAPES)
def test_wrong_shape_is_refused_by_name(dimension: int, encoders: Any, wrong: str) -> None:
    encoder = make_encoder(encoders, dimension)
    shape = WRONG_SHAPES[wrong](GRIDS[dimension])
    names = {1: "length", 2: "height, width", 3: "time, height, width"}[dimension]
    message = rf"Encoder{dimension}D takes \[batch, 3 channels, {names}\].*got shape {re.escape(str(tuple(shape)))}"
    with pytest.raises(ValueError, match=message):
        encoder(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float64])
def test_wrong_dtype_is_refused_by_name(dimension: int, encoders: Any, dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match=rf"float32.*{re.escape(str(dtype))}"):
        make_encoder(encoders, dimension)(torch.zeros(1, 3, *GRIDS[dimension], dtype=dtype))


@torch.no_grad()
def test_half_precision_input_works_under_autocast(dimension: int, device: str, encoders: Any) -> None:
    encoder = make_encoder(encoders, dimension).to(device).eval()
    x = torch.randn(1, 3, *GRIDS[dimension], device=device)
    with torch.autocast(device, dtype=torch.bfloat16):
        low = encoder(x.bfloat16()).features
    torch.testing.assert_close(low.float(), encoder(x).features, rtol=0.1, atol=0.1)


@torch.no_grad()
def test_autocast_does_not_cast_float64(dimension: int, encoders: Any) -> None:
    encoder = make_encoder(encoders, dimension).eval()
    x = torch.randn(1, 3, *GRIDS[dimension])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with pytest.raises(ValueError, match=r"takes input of torch\.float32; got torch\.float64"):
            encoder(x.double())
        encoder.double()
        with pytest.raises(ValueError, match=r"takes input of torch\.float64; got torch\.float32"):
            encoder(x)
        assert encoder(x.double()).features.dtype == torch.float64


def test_classifier_refuses_what_its_encoder_refuses(encoders: Any) -> None:
    with pytest.raises(ValueError, match=r"Encoder.*3 channels.*got shape \(1, 5, 9, 9\)"):
        Classifier(encoders.encoder_params(2), num_classes=2)(torch.zeros(1, 5, 9, 9))


def test_params_of_another_dimension_are_refused(dimension: int, encoders: Any) -> None:
    other = dimension % 3 + 1
    message = rf"Encoder{dimension}D needs params with num_spatial_dims={dimension}; got num_spatial_dims={other}"
    with pytest.raises(ValueError, match=message):
        ENCODERS[dimension](encoders.encoder_params(other))


def test_named_encoder_is_the_general_one(dimension: int, encoders: Any) -> None:
    named = make_encoder(encoders, dimension).eval()
    general = Encoder(encoders.encoder_params(dimension)).eval()
    general.load_state_dict(named.state_dict())
    x = torch.randn(1, 3, *GRIDS[dimension])
    assert all(torch.equal(a, b) for a, b in zip(named(x), general(x), strict=True))


def assert_equal_weights(first: nn.Module, second: nn.Module) -> None:
    before, after = first.state_dict(), second.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("general", [False, True], ids=["by rank", "general"])
@torch.no_grad()
def test_saved_encoder_comes_back_bit_equal(dimension: int, encoders: Any, tmp_path: Path, general: bool) -> None:
    cls = Encoder if general else ENCODERS[dimension]
    torch.manual_seed(0)
    blocks = (encoders.block(layer_scale=0.1, scale_factor=(0.5,) * dimension),)
    encoder = cls(encoders.encoder_params(dimension, transformer=blocks)).eval()
    encoder.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path).eval()
    assert type(again) is cls
    assert again.params == encoder.params
    assert_equal_weights(encoder, again)
    x = torch.randn(2, 3, *GRIDS[dimension])
    assert all(torch.equal(a, b) for a, b in zip(encoder(x), again(x), strict=True))


@torch.no_grad()
def test_saved_classifier_comes_back_bit_equal(dimension: int, encoders: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Classifier(encoders.encoder_params(dimension), num_classes=5, dropout=0.25).eval()
    model.save_pretrained(tmp_path)
    again = Classifier.from_pretrained(tmp_path).eval()
    assert_equal_weights(model, again)
    x = torch.randn(2, 3, *GRIDS[dimension])
    assert torch.equal(model(x), again(x))
    assert not torch.equal(again.train()(x), again.train()(x))


def test_saved_folder_holds_safetensors_and_readable_params(dimension: int, encoders: Any, tmp_path: Path) -> None:
    encoder = make_encoder(encoders, dimension)
    encoder.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert from_dict(EncoderParams, config["params"]) == encoder.params


def test_params_may_be_a_dict_from_json(dimension: int, encoders: Any) -> None:
    params = encoders.encoder_params(dimension)
    values = json.loads(json.dumps(dataclasses.asdict(params)))
    assert ENCODERS[dimension](values).params == params
    assert Classifier(values, num_classes=2).encoder.params == params


TOKENS = {
    1: [(3_125,), (12_500,), (50_000,), (200_000,)],
    2: [(56, 56), (112, 112), (224, 224), (448, 448)],
    3: [(14, 14, 16), (28, 28, 16), (56, 56, 16), (112, 112, 16)],
}


def count_flops(encoder: Encoder, grid: tuple[int, ...]) -> int:
    """Count on shapes alone; torch counts attention only where it is made of matrix products."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(torch.zeros(1, 1, *grid, device="meta"))
    return counter.get_total_flops()


def thin_encoder(encoders: Any, dimension: int, block: TransformerParams, **global_attention: Any) -> Encoder:
    """Return an encoder of one block and one global layer, whose stem keeps the grid."""
    return make_encoder(
        encoders,
        dimension,
        in_channels=1,
        initial_proj=(ConvParams(),),
        transformer=(block,),
        global_attention=GlobalAttentionParams(depth=1, num_heads=2, **global_attention),
    )


def test_cost_is_linear_up_to_200000_tokens(dimension: int, encoders: Any) -> None:
    encoder = thin_encoder(encoders, dimension, encoders.block(out_channels=12)).to("meta")
    flops = [count_flops(encoder, grid) for grid in TOKENS[dimension]]
    growth = [after / before for before, after in itertools.pairwise(flops)]
    assert all(3.5 <= factor <= 4.3 for factor in growth), growth


def test_flops_count_both_attentions(dimension: int, encoders: Any) -> None:
    """Wider windows and more registers cost more, so a count of linear cost includes them."""

    def flops(window: int, num_registers: int) -> int:
        block = encoders.block(heads=(encoders.head_group(window=window),))
        encoder = thin_encoder(encoders, dimension, block, num_register_tokens=num_registers)
        return count_flops(encoder.to("meta"), TOKENS[dimension][0])

    wide = {1: 129, 2: 9, 3: 5}[dimension]
    assert flops(wide, 4) > 1.1 * flops(3, 4)
    assert flops(3, 40) > 1.1 * flops(3, 4)


@pytest.mark.parametrize("scale_factor", [1.0, 0.5])
def test_a_block_that_is_appended_runs(dimension: int, scale_factor: float, encoders: Any) -> None:
    blocks = tuple(encoders.block(out_channels=16, scale_factor=scale) for scale in (1.0, 0.5, scale_factor))
    whole = make_encoder(encoders, dimension, transformer=blocks).eval()
    encoder = make_encoder(encoders, dimension, transformer=blocks[:2]).eval()
    encoder.transformer.append(whole.transformer[2])
    encoder.load_state_dict(whole.state_dict())
    x = torch.randn(2, 3, *GRIDS[dimension])
    torch.testing.assert_close(encoder(x), whole(x))
    torch.testing.assert_close(encoder.forward_stages(x), whole.forward_stages(x))
    assert encoder.stages == whole.params.stages
    if dimension == 1:
        lengths = torch.tensor([45, 17])
        torch.testing.assert_close(encoder(x, lengths), whole(x, lengths))


def test_blocks_that_are_cut_off_do_not_run(dimension: int, encoders: Any) -> None:
    blocks = tuple(encoders.block(out_channels=16, scale_factor=scale) for scale in (1.0, 1.0, 0.5))
    encoder = make_encoder(encoders, dimension, transformer=blocks).eval()
    x = torch.randn(2, 3, *GRIDS[dimension])
    stages = encoder.forward_stages(x)
    encoder.transformer = encoder.transformer[:2]
    torch.testing.assert_close(encoder(x), encoder.finish(stages[0]))
    assert encoder.stages == (range(2),)


@pytest.mark.parametrize("model", ["encoder", "classifier", "pyramid"])
def test_reset_parameters_make_a_model_from_the_meta_device_a_new_one(
    dimension: int, model: str, encoders: Any
) -> None:
    """Large models are built so: FSDP allots their memory, and calls `reset_parameters` of every module."""
    conv = ConvParams(kernel_size=3, stride=2, spread_bias=True)
    params = encoders.encoder_params(
        dimension,
        initial_proj=(conv, conv),
        transformer=(encoders.block(layer_scale=0.1, norm="group"), encoders.block(out_channels=16, scale_factor=0.5)),
        global_attention=GlobalAttentionParams(depth=2, num_heads=2, layer_scale=0.2),
    )
    build = {"encoder": Encoder, "classifier": lambda p: Classifier(p, 5), "pyramid": FeaturePyramid}[model]
    with torch.device("meta"):
        empty = build(params)
    assert [name for name, part in empty.named_modules() if has_own_weights(part) and not can_reset(part)] == []
    empty.to_empty(device="cpu")
    for parameter in empty.parameters():
        parameter.detach().fill_(torch.nan)
    torch.manual_seed(1)
    for part in empty.modules():
        if can_reset(part):
            part.reset_parameters()
    torch.manual_seed(1)
    torch.testing.assert_close(empty.state_dict(), build(params).state_dict(), rtol=0, atol=0)


def has_own_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters(recurse=False))


def can_reset(module: nn.Module) -> bool:
    return hasattr(module, "reset_parameters")


@torch.no_grad()
def test_a_stem_without_norms_tells_how_loud_a_token_is(dimension: int, device: str, encoders: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *(12, 9, 8)[:dimension], device=device)
    for stem_norm in (True, False):
        stem = Encoder(encoders.encoder_params(dimension, stem_norm=stem_norm)).to(device).initial_proj
        for conv in stem.convs:
            conv.bias.zero_()
        tokens, louder = (stem(factor * x.movedim(1, -1)) for factor in (1, 100))
        ratio = louder.square().mean().sqrt() / tokens.square().mean().sqrt()
        assert ratio < 1.1 if stem_norm else ratio > 50
        if not stem_norm:
            first, second = stem.convs
            torch.testing.assert_close(tokens, second(nn.functional.gelu(first(x.movedim(1, -1)))))
