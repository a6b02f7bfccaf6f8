"""Clips of several lengths in one batch: each gets what it gets alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eyetoy import (
    Classifier,
    ConvParams,
    Encoder1D,
    GlobalAttentionParams,
    create_model,
    global_attention,
    neighborhood_attention,
)
from eyetoy.conv import upsample
from eyetoy.lengths import mean_over_tokens
from eyetoy.neighborhood.varlen import varlen_attention

EXACT = {"rtol": 1e-9, "atol": 1e-9}
SINGLE = {"rtol": 1e-5, "atol": 1e-5}
LONGEST = 90
LENGTHS = (1, 90, 2, 7, 31, 89, 64)


@torch.no_grad()
def randomize(module: nn.Module) -> nn.Module:
    """Move biases and norms off their initial values: what padding becomes is not zero by luck."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator).to(parameter))
    return module


def padded(
    lengths: Sequence[int],
    longest: int = LONGEST,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float64,
    channels: int = 3,
    fill: float = torch.nan,
) -> tuple[Tensor, list[Tensor]]:
    """Return the batch and each of its clips alone."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(lengths), channels, longest, generator=generator).to(device, dtype)
    clips = [x[i : i + 1, :, :length].clone() for i, length in enumerate(lengths)]
    for row, length in zip(x, lengths, strict=True):
        row[:, length:] = fill
    return x, clips


def assert_clips_get_what_they_get_alone(model: Any, x: Tensor, clips: list[Tensor], tolerance: Any) -> None:
    features, context = model(x, torch.tensor([clip.shape[-1] for clip in clips], device=x.device))
    for row, clip in enumerate(clips):
        alone = model(clip)
        tokens = alone.features.shape[-1]
        torch.testing.assert_close(context[row], alone.context[0], **tolerance)
        torch.testing.assert_close(features[row, :, :tokens], alone.features[0], **tolerance)
        assert not features[row, :, tokens:].any()


def blocks(encoders: Any, *tokenizers: ConvParams | None, window: int = 5, **attention: Any) -> dict[str, Any]:
    group = encoders.head_group(window=window, **attention)
    heads = tuple(dataclasses.replace(group, conv_params=tokenizer) for tokenizer in tokenizers)
    return {"transformer": (encoders.block(heads=heads), encoders.block(heads=heads, scale_factor=0.5))}


PATCHES = [ConvParams(kernel_size=stride, stride=stride) for stride in (1, 2, 4)]
OVERLAPPING = [ConvParams(kernel_size=kernel, stride=stride) for kernel, stride in ((3, 1), (3, 2), (7, 4), (5, 2))]
VARIANTS: dict[str, Any] = {
    "the usual": lambda encoders: {},
    "patches": lambda encoders: blocks(encoders, *PATCHES, window=6),
    "no tokenizer": lambda encoders: blocks(encoders, None, window=7),
    "overlapping tokenizers": lambda encoders: blocks(encoders, None, *OVERLAPPING),
    "windows wider than most clips": lambda encoders: blocks(encoders, *PATCHES, window=40),
    "causal": lambda encoders: blocks(encoders, *PATCHES, is_causal=True),
    "dilation": lambda encoders: blocks(encoders, None, *PATCHES, dilation=3, window=3),
    "local convolutions": lambda encoders: {
        "transformer": (encoders.block(local_kernel=7), encoders.block(scale_factor=0.5, local_kernel=4))
    },
    "no attention": lambda encoders: {
        "transformer": (encoders.block(heads=(), local_kernel=5), encoders.block(heads=(), local_kernel=3))
    },
    "group norms": lambda encoders: {
        "transformer": (encoders.block(norm="group"), encoders.block(scale_factor=0.5, norm="group")),
        "norm": "group",
    },
    "mean": lambda encoders: {"global_attention": None},
    "mean after registers": lambda encoders: {
        "global_attention": GlobalAttentionParams(depth=2, num_heads=2, context_token=False)
    },
    "stem without overlap": lambda encoders: {"initial_proj": (ConvParams(kernel_size=4, stride=4), ConvParams())},
    "no stem stride": lambda encoders: {"initial_proj": (ConvParams(kernel_size=5),), "positional_embedding": False},
}


def make_encoder(encoders: Any, variant: str = "the usual") -> Encoder1D:
    torch.manual_seed(0)
    encoder = Encoder1D(encoders.encoder_params(1, **VARIANTS[variant](encoders)))
    randomize(encoder)
    return encoder.double()


@st.composite
def batches(draw: st.DrawFn, longest: int) -> tuple[list[int], int]:
    """Draw lengths, and the length of the batch: at times longer than its longest clip."""
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=4))
    return lengths, draw(st.just(max(lengths)) | st.integers(max(lengths), longest))


@given(data=st.data())
@settings(max_examples=200)
def test_attention_of_a_clip_is_that_of_the_clip_alone(data: st.DataObject, device: str, double: torch.dtype) -> None:
    lengths, longest = data.draw(batches(40))
    options: dict[str, Any] = {
        "window": data.draw(st.integers(1, 9) | st.integers(1, 43)),
        "dilation": data.draw(st.just(1) | st.integers(1, 4)),
        "is_causal": data.draw(st.booleans()),
    }
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    x = torch.randn(len(lengths), longest, 2, 11, generator=generator).to(device, double).requires_grad_()
    query, key, value = x.split((3, 3, 5), -1)
    together = varlen_attention(query, key, value, torch.tensor(lengths, device=device), **options)
    alone = torch.zeros_like(value)
    for row, length in enumerate(lengths):
        together[row, length:] = 0
        clip = (tokens[row : row + 1, :length] for tokens in (query, key, value))
        alone[row, :length] = neighborhood_attention(*clip, **options, backend="reference")[0]
    torch.testing.assert_close(together, alone, **EXACT)
    weights = torch.randn(value.shape, generator=generator).to(x)
    torch.testing.assert_close(
        *(torch.autograd.grad((out * weights).sum(), x)[0] for out in (together, alone)), **EXACT
    )


@given(batch=batches(40), stride=st.integers(1, 5))
def test_upsampling_of_a_clip_is_that_of_the_clip_alone(batch: tuple[list[int], int], stride: int) -> None:
    lengths, longest = batch
    x = torch.randn(len(lengths), -(-longest // stride), 2, generator=torch.Generator().manual_seed(0))
    together = upsample(x, (stride,), (longest,), torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = upsample(x[row : row + 1, : -(-length // stride)], (stride,), (length,))
        torch.testing.assert_close(together[row : row + 1, :length], alone)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_clip_in_a_batch_gets_what_it_gets_alone(device: str, double: torch.dtype, encoders: Any, variant: str) -> None:
    x, clips = padded(LENGTHS, device=device, dtype=double)
    assert_clips_get_what_they_get_alone(make_encoder(encoders, variant).to(device, double), x, clips, EXACT)


@pytest.mark.parametrize("variant", ["group norms", "the usual"])
@torch.no_grad()
def test_a_wrapped_norm_knows_the_lengths_too(encoders: Any, variant: str) -> None:
    encoder = make_encoder(encoders, variant)
    x, clips = padded(LENGTHS)
    for name, module in list(encoder.named_modules()):
        if type(module).__name__ in ("GroupNorm", "LayerNorm"):
            parent, _, attribute = name.rpartition(".")
            setattr(encoder.get_submodule(parent), attribute, torch.compile(module, backend="eager"))
    assert_clips_get_what_they_get_alone(encoder, x, clips, EXACT)


@given(batch=batches(LONGEST), variant=st.sampled_from(sorted(VARIANTS)))
@settings(max_examples=40)
@torch.no_grad()
def test_any_mix_of_lengths_works(encoders: Any, batch: tuple[list[int], int], variant: str) -> None:
    x, clips = padded(*batch)
    assert_clips_get_what_they_get_alone(make_encoder(encoders, variant), x, clips, EXACT)


@pytest.mark.parametrize("name", ["eyetoy1d_pico", "eyetoy1d_nano"])
@torch.no_grad()
def test_named_classifier_gives_a_clip_the_logits_that_it_has_alone(name: str, device: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=5)
    randomize(model).to(device).eval()
    x, clips = padded((1, 64, 65, 640, 4097, 6000), 6000, device=device, dtype=torch.float32, channels=1)
    lengths = torch.tensor([clip.shape[-1] for clip in clips], device=device)
    torch.testing.assert_close(model(x, lengths), torch.cat([model(clip) for clip in clips]), **SINGLE)
    assert_clips_get_what_they_get_alone(model.forward_features, x, clips, SINGLE)


def loss(output: Any) -> Tensor:
    features, context = output
    return features.square().sum() + context.pow(3).sum()


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointing"])
@pytest.mark.parametrize("variant", ["the usual", "overlapping tokenizers", "dilation", "mean", "mean after registers"])
def test_gradients_are_those_of_the_clips_alone(
    device: str, double: torch.dtype, encoders: Any, variant: str, checkpointing: bool
) -> None:
    encoder = make_encoder(encoders, variant).to(device, double)
    x, clips = padded(LENGTHS, device=device, dtype=double)
    x.requires_grad_()
    leaves = list(encoder.parameters())
    alone = torch.autograd.grad(sum(loss(encoder(clip)) for clip in clips), leaves)
    encoder.set_grad_checkpointing(checkpointing)
    for_x, *together = torch.autograd.grad(loss(encoder(x, torch.tensor(LENGTHS, device=device))), [x, *leaves])
    torch.testing.assert_close(tuple(together), alone, **EXACT)
    for row, length in zip(for_x, LENGTHS, strict=True):
        assert row[:, :length].any()
        assert not row[:, length:].any()


@pytest.mark.parametrize("fill", [torch.nan, torch.inf, 1e30, 0.0])
@torch.no_grad()
def test_what_the_padding_holds_does_not_matter(encoders: Any, fill: float) -> None:
    encoder, lengths = make_encoder(encoders), torch.tensor(LENGTHS)
    (x, _), (ones, _) = (padded(LENGTHS, fill=value) for value in (fill, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(encoder(x, lengths), encoder(ones, lengths), strict=True))


@torch.no_grad()
def test_full_lengths_change_nothing(encoders: Any) -> None:
    encoder = make_encoder(encoders)
    x, _ = padded([LONGEST] * 3)
    for with_lengths, without in zip(encoder(x, torch.tensor([LONGEST] * 3)), encoder(x), strict=True):
        torch.testing.assert_close(with_lengths, without, **EXACT)


@torch.no_grad()
def test_padding_a_clip_without_lengths_would_change_it(encoders: Any) -> None:
    """Else the other tests would show nothing."""
    encoder = make_encoder(encoders)
    x, clips = padded((50,), fill=0.0)
    assert (encoder(x).context - encoder(clips[0]).context).abs().max() > 1e-3


@torch.no_grad()
def test_dropping_paths_is_up_to_the_clip(encoders: Any) -> None:
    """In training each clip of a batch draws as it does without lengths."""
    params = encoders.encoder_params(1, transformer=(encoders.block(drop_path=0.5),), global_attention=None)
    encoder = randomize(Encoder1D(params)).double().train()
    x, _ = padded([LONGEST] * 8)
    contexts = []
    for lengths in (None, torch.tensor([LONGEST] * 8)):
        torch.manual_seed(3)
        contexts.append(encoder(x, lengths).context)
    torch.testing.assert_close(*contexts, **EXACT)


@torch.no_grad()
def test_empty_batch_gives_an_empty_batch(encoders: Any) -> None:
    x = torch.zeros(0, 3, LONGEST, dtype=torch.float64)
    assert make_encoder(encoders)(x, torch.zeros(0, dtype=torch.int64)).context.shape == (0, 16)


@torch.no_grad()
def test_works_under_autocast(encoders: Any) -> None:
    encoder = make_encoder(encoders).float()
    x, _ = padded(LENGTHS, dtype=torch.float32)
    lengths = torch.tensor(LENGTHS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = encoder(x.bfloat16(), lengths).features
    torch.testing.assert_close(low.float(), encoder(x, lengths).features, rtol=0.2, atol=0.2)


def small_encoder(encoders: Any) -> Encoder1D:
    return Encoder1D(encoders.encoder_params(1, transformer=(encoders.block(),))).double()


@torch.no_grad()
def test_compiled_encoder_takes_lengths(encoders: Any) -> None:
    torch._dynamo.reset()
    encoder, (x, _) = small_encoder(encoders), padded(LENGTHS)
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    for lengths in (torch.tensor(LENGTHS), (torch.tensor(LENGTHS) + 1) // 2):
        torch.testing.assert_close(tuple(compiled(x, lengths)), tuple(encoder(x, lengths)), **EXACT)


@torch.no_grad()
def test_exported_encoder_takes_lengths_of_any_batch(encoders: Any) -> None:
    encoder, (x, _), lengths = small_encoder(encoders), padded(LENGTHS), torch.tensor(LENGTHS)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        encoder, (x[:2], lengths[:2]), dynamic_shapes={"x": {0: batch}, "lengths": {0: batch}}
    )
    torch.testing.assert_close(tuple(program.module()(x, lengths)), tuple(encoder(x, lengths)), **EXACT)


def test_global_attention_hears_valid_tokens_only() -> None:
    query, key, value = torch.randn(3, 2, 2, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.arange(9) < torch.tensor([[9], [6]])
    out = global_attention(query, key, value, num_global_tokens=3, key_mask=mask)
    for row, tokens in enumerate((9, 6)):
        alone = (x[row : row + 1, :, :tokens] for x in (query, key, value))
        torch.testing.assert_close(out[row, :, :tokens], global_attention(*alone, num_global_tokens=3)[0], **EXACT)
    with pytest.raises(ValueError, match="'flex' takes no key_mask; 'exact' does"):
        global_attention(query, key, value, num_global_tokens=3, key_mask=mask, backend="flex")


WRONG = {
    "list": ([4, 4], r"int64 tensor of shape \[batch\] = \(2,\) on cpu; got \[4, 4\]"),
    "dtype": (torch.tensor([4, 4], dtype=torch.int32), r"int64 .*; got torch\.int32 of shape \(2,\) on cpu"),
    "mask": (torch.ones(2, 30, dtype=torch.bool), r"int64 .*; got torch\.bool of shape \(2, 30\)"),
    "batch": (torch.tensor([4, 4, 4]), r"\[batch\] = \(2,\).*; got torch\.int64 of shape \(3,\)"),
    "device": (torch.ones(2, dtype=torch.int64, device="meta"), r"on cpu; got .* on meta"),
    "nothing": (torch.tensor([4, 0]), r"lengths must be from 1 to 30.*got \[0\]"),
    "too long": (torch.tensor([31, 30]), r"lengths must be from 1 to 30.*got \[31\]"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_lengths_are_refused_by_name(encoders: Any, wrong: str) -> None:
    lengths, message = WRONG[wrong]
    model = Classifier(encoders.encoder_params(1), num_classes=2)
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(2, 3, 30), lengths)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_lengths_are_for_one_dimension(encoders: Any, num_axes: int) -> None:
    model = Classifier(encoders.encoder_params(num_axes), num_classes=2)
    message = f"lengths is for inputs of one dimension, [batch, channels, length]; Encoder{num_axes}D takes {num_axes}"
    with pytest.raises(ValueError, match=re.escape(message)):
        model(torch.zeros(2, 3, *(9,) * num_axes), torch.tensor([9, 9]))


def test_a_mean_in_half_precision_does_not_overflow() -> None:
    x = torch.full((2, 8, 3), 6e4, dtype=torch.float16)
    assert mean_over_tokens(x, torch.tensor([8, 3])).tolist() == x[:, 0].tolist()
