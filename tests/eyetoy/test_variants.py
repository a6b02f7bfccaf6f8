"""Variants of named models for ablations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from eyetoy import create_encoder, create_model
from eyetoy.factory import encoder_params
from eyetoy.presets import MODELS
from eyetoy.variants import Changes, changed

NANO = "eyetoy2d_nano"


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": [32, 64], "depths": [1, 3]},
        {"widths": [48], "depths": [2]},
        {"window": 3},
        {"scales": [1]},
        {"scales": [1], "merging": "none"},
        {"scales": [1, 2, 4, 8]},
        {"merging": "overlapping"},
        {"merging": "coarse"},
        {"kernel_size": 5},
        {"local_kernel": 5},
        {"local_kernel": [1, 4]},
        {"global_depth": 0},
        {"global_depth": 2, "num_register_tokens": 16, "residual": "norm"},
        {"num_register_tokens": 0},
        {"context_init": "learned"},
        {"global_pool": "avg"},
        {"positional_embedding": False},
        {"stem_norm": False},
        {"norm": "group"},
        {"scales": [], "local_kernel": 5},
    ],
)
def test_a_variant_computes_and_trains(device, changes):
    torch.manual_seed(0)
    model = create_model("eyetoy2d_pico", num_classes=5, changes=changes).to(device)
    logits = model(torch.randn(2, 3, 33, 29, device=device))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_only_what_is_asked_is_changed(name):
    params = MODELS[name]()
    assert changed(params, Changes()) == params
    for block, before in zip(changed(params, Changes(window=5)).transformer, params.transformer, strict=True):
        for group, old in zip(block.heads, before.heads, strict=True):
            assert group == replace(old, attn_params=replace(old.attn_params, attention_window=5))
    for block, before in zip(changed(params, Changes(merging="patches")).transformer, params.transformer, strict=True):
        for group, old in zip(block.heads, before.heads, strict=True):
            assert group == replace(old, conv_params=group.conv_params)
            assert group.conv_params.kernel_size == group.conv_params.stride


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_tiny_is_base_of_other_widths_and_depths(dim):
    tiny = encoder_params(f"eyetoy{dim}d_tiny")
    widths = list(dict.fromkeys(block.out_channels for block in tiny.transformer))
    depths = [sum(block.out_channels == width for block in tiny.transformer) for width in widths]
    assert encoder_params(f"eyetoy{dim}d_base", changes={"widths": widths, "depths": depths}) == tiny


def test_fewer_widths_keep_the_first_stages():
    params = encoder_params(NANO, changes={"widths": [48, 96, 192], "depths": [1, 2, 3], "window": 5})
    assert [block.out_channels for block in params.transformer] == [48, 96, 96, 192, 192, 192]
    assert [block.scale_factor for block in params.transformer] == [1.0, 0.5, 1.0, 0.5, 1.0, 1.0]
    assert [len(block.heads) for block in params.transformer] == [3, 3, 3, 2, 2, 2]
    assert params.stem_channels == 48
    assert create_encoder(NANO, changes={"depths": [1, 1, 1, 1]}).params == replace(
        encoder_params(NANO), transformer=tuple(encoder_params(NANO).transformer[i] for i in (0, 1, 3, 9))
    )


def test_sizes_per_axis_may_be_lists():
    params = encoder_params("eyetoy3d_nano", changes={"scales": [[1, 1, 1], [1, 2, 2]], "window": [3, 5, 5]})
    for block in params.transformer:
        assert [group.conv_params.stride for group in block.heads] == [(1, 1, 1), (1, 2, 2)]
        assert all(group.attn_params.attention_window == (3, 5, 5) for group in block.heads)


def test_single_scale_attention_has_one_group_over_the_whole_width():
    params = encoder_params(NANO, changes={"scales": [1], "merging": "none"})
    for block in params.transformer:
        (group,) = block.heads
        assert group.conv_params is None
        assert group.intermediate_channels == block.out_channels
        assert group.intermediate_channels // group.num_heads == 16


def test_scales_and_merging_reach_every_block():
    params = encoder_params(NANO, changes=Changes(scales=(1, 4), merging="overlapping"))
    tokenizers = {tuple((g.conv_params.kernel_size, g.conv_params.stride) for g in b.heads) for b in params.transformer}
    assert tokenizers == {((3, 1), (7, 4))}


@pytest.mark.parametrize("scales", [(1,), (1, 2), (1, 2, 4), (1, 2, 4, 8), (1, 2, 2, 4, 8)])
@pytest.mark.parametrize("name", [NANO, "eyetoy2d_pico", "eyetoy2d_tiny"])
def test_head_groups_share_the_whole_width(name, scales):
    for block in encoder_params(name, changes={"scales": scales}).transformer:
        widths = [group.intermediate_channels for group in block.heads]
        assert sum(widths) == block.out_channels
        assert widths == sorted(widths, reverse=True)
        assert len(scales) == 1 or widths[0] == block.out_channels // 2


def test_shares_that_are_not_equal_are_whole_heads():
    params = encoder_params("eyetoy2d_tiny", changes={"scales": (1, 2, 4, 8)})
    assert [group.intermediate_channels for group in params.transformer[-1].heads] == [256, 96, 96, 64]


def test_coarse_merging_leaves_the_finest_group_without_tokenizer():
    params = encoder_params(NANO, changes={"merging": "coarse"})
    for block, before in zip(params.transformer, encoder_params(NANO).transformer, strict=True):
        assert block.heads[0] == replace(before.heads[0], conv_params=None)
        assert block.heads[1:] == before.heads[1:]


def test_the_kernel_is_that_of_every_tokenizer():
    params = encoder_params("eyetoy1d_pico", changes={"merging": "coarse", "kernel_size": 9})
    for block in params.transformer:
        finest, *coarser = block.heads
        assert finest.conv_params is None
        assert [(g.conv_params.kernel_size, g.conv_params.stride) for g in coarser] == [(9, 2), (9, 4)][: len(coarser)]
    params = encoder_params("eyetoy3d_nano", changes={"scales": [1, [1, 2, 2]], "kernel_size": [1, 5, 5]})
    assert {g.conv_params.kernel_size for block in params.transformer for g in block.heads} == {(1, 5, 5)}


def test_the_global_stack_is_left_out_or_changed():
    assert encoder_params(NANO, changes={"global_depth": 0}).global_attention is None
    changes = {"global_depth": 3, "num_register_tokens": 1, "global_pool": "avg"}
    stack = encoder_params(NANO, changes=changes).global_attention
    assert (stack.depth, stack.num_register_tokens, stack.global_pool) == (3, 1, "avg")
    assert create_encoder(NANO, changes={"positional_embedding": False}).params.positional_embedding is False


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("nat_tiny", {"num_register_tokens": 4}, "has no global stack, of which to change num_register_tokens"),
        (NANO, {"widths": [32, 64]}, r"4 stages, so .*; got widths \[32, 64\], depths \[1, 2, 6, 1\]"),
        (NANO, {"widths": [32] * 5, "depths": [1] * 5}, "lists of one length from 1 to 4"),
        (NANO, {"widths": [], "depths": []}, "lists of one length from 1 to 4"),
        (NANO, {"widths": [32, 64, 128, 249]}, "cannot share a width of 249; a multiple of 32 would do"),
        (NANO, {"depths": [1, 2, 0, 1]}, r"depths must hold integers of at least 1; got \[1, 2, 0, 1\]"),
        (NANO, {"widths": [32, 64, 128, 2.5]}, "widths must hold integers of at least 1"),
        (NANO, {"widths": 64}, "widths must be a list with one integer for each stage; got 64"),
        (NANO, {"depths": "1262"}, "depths must be a list with one integer for each stage; got '1262'"),
        (NANO, {"kernel_size": 1}, "kernel_size must be at least the stride"),
        ("nat_nano", {"kernel_size": 3}, "no head group of this model has a tokenizer, of which to change kernel_size"),
        (NANO, {"scales": [1], "merging": "none", "kernel_size": 3}, "no head group of this model has a tokenizer"),
        (
            NANO,
            {"global_depth": 0, "num_register_tokens": 0, "global_pool": "avg"},
            "global_depth 0 removes the global stack, of which to change num_register_tokens, global_pool",
        ),
        (NANO, {"stem_norm": "false"}, "stem_norm must be True or False; got 'false'"),
        (NANO, {"norm": ""}, "norm must be 'layer' or 'group'; got ''"),
        (NANO, {"merging": "none"}, "merging 'none' is for a stride of 1; got 2"),
        (
            NANO,
            {"merging": "Overlapping"},
            "merging must be one of patches, overlapping, none, coarse; got 'Overlapping'",
        ),
        ("eyetoy1d_pico", {"scales": []}, "heads must hold at least one HeadParams, or a local_kernel be given"),
        (
            "eyetoy1d_pico",
            {"scales": [], "local_kernel": 9, "window": 3, "merging": "coarse"},
            "blocks without attention have no merging, window to change",
        ),
    ],
)
def test_what_cannot_be_changed_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        encoder_params(name, changes=changes)
