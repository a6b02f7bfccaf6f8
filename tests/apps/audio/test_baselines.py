"""The models to compare with: shapes, sizes of the papers, and that each hears what it is given."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from eyetoy import create_model
from eyetoy_baselines.audio import AST, BASELINES, M5, BCResNet, MatchboxNet, ViT1D, create_baseline, sinusoids

SMALL = {
    "m5": {"width": 8},
    "matchboxnet": {"channels": 8},
    "bcresnet": {"width": 0.5},
    "vit1d": {"dim": 16, "depth": 2, "num_heads": 2},
    "ast": {"dim": 16, "depth": 2, "num_heads": 2},
}


def small(name: str, **options):
    torch.manual_seed(0)
    return create_baseline(name, num_classes=3, sample_rate=8000, **(SMALL[name] | options))


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("sample_rate", [8000, 16_000, 22_050])
def test_any_length_gives_logits(device, name, sample_rate):
    model = create_baseline(name, num_classes=3, sample_rate=sample_rate, **SMALL[name]).eval().to(device)
    for samples in (1, 500, 2000, 2001, 8000, 16_383, 40_000):
        logits = model(torch.randn(2, 1, samples, device=device))
        assert logits.shape == (2, 3)
        assert logits.isfinite().all()


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("sample_rate", [8000, 16_000])
def test_by_default_each_has_the_parameters_of_nano(name, sample_rate):
    with torch.device("meta"):
        ours = count(create_model("eyetoy1d_nano", num_classes=10))
    assert count(create_baseline(name, num_classes=10, sample_rate=sample_rate)) == pytest.approx(ours, rel=0.04)


@pytest.mark.parametrize(
    ("blocks", "repeats", "published", "exact"),
    [(3, 1, 77_000, 77_214), (3, 2, 93_000, 92_766), (6, 2, 140_000, 138_846)],
)
def test_matchboxnets_of_the_paper_have_its_parameters(blocks, repeats, published, exact):
    kernel_sizes = tuple(range(13, 13 + 2 * blocks, 2))
    model = MatchboxNet(num_classes=30, sample_rate=16_000, kernel_sizes=kernel_sizes, repeats=repeats, channels=64)
    assert count(model) == exact
    assert exact == pytest.approx(published, rel=0.01)


def test_the_m5_of_the_paper_has_its_parameters():
    convolutions = 80 * 128 + 3 * 128 * 128 + 3 * 128 * 256 + 3 * 256 * 512
    model = M5(num_classes=10, sample_rate=8000, width=128)
    assert count(model) == convolutions + 2 * (128 + 128 + 256 + 512) + 512 * 10 + 10 == 558_090


@pytest.mark.parametrize(
    ("width", "exact", "published"), [(1, 9_232, 9_200), (3, 54_168, 54_200), (8, 321_068, 321_000)]
)
def test_bcresnets_of_the_paper_have_its_parameters(width, exact, published):
    assert count(BCResNet(num_classes=12, sample_rate=16_000, width=width)) == exact
    assert exact == pytest.approx(published, rel=0.01)


def test_the_ast_of_the_paper_has_its_parameters():
    one, two = (count(AST(num_classes=527, sample_rate=16_000, dim=768, depth=depth, num_heads=12)) for depth in (1, 2))
    positions_and_class_tokens = (12 * 101 + 2 + 2) * 768  # that ours does not learn
    norm_of_the_head = 2 * 768
    assert one + 11 * (two - one) + positions_and_class_tokens + norm_of_the_head == pytest.approx(87e6, rel=0.01)


def test_the_bands_of_a_bcresnet_hear_each_other_by_their_mean_alone():
    block = small("bcresnet").layers[3].eval()
    assert not block.changes
    torch.nn.init.zeros_(block.time[3].weight)
    x = torch.randn(2, 4, 40, 9)
    over_bands = F.conv2d(x, block.bands[0].weight, padding=(1, 0), groups=4) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(block(x), F.relu(x + over_bands))


def test_first_kernels_and_patches_span_the_same_time_at_any_rate():
    for factor in (1, 2, 6):
        first = M5(num_classes=2, sample_rate=8000 * factor, width=4).layers[0][0]
        assert (first.kernel_size, first.stride) == ((80 * factor,), (4 * factor,))
        assert ViT1D(num_classes=2, sample_rate=8000 * factor, dim=4, num_heads=1).patch_size == 80 * factor


@pytest.mark.parametrize("name", BASELINES)
def test_a_gradient_reaches_every_parameter_and_every_stretch_of_the_waveform(device, name):
    model, x = small(name).to(device), torch.randn(4, 1, 4000, device=device, requires_grad=True)
    F.cross_entropy(model(x), torch.tensor([0, 1, 2, 0], device=device)).backward()
    for parameter in model.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()
    # Up to the last hop, which a spectrogram without padding does not reach.
    assert x.grad[..., : 4000 - 80].unflatten(-1, (-1, 80)).any(-1).all()


@pytest.mark.parametrize("name", BASELINES)
def test_clips_of_a_batch_do_not_mix_when_it_is_tested(device, name):
    model, x = small(name).eval().to(device), torch.randn(3, 1, 4000, device=device)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_each_learns_to_tell_tones_apart(name):
    model, labels = small(name), torch.arange(24) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    hertz = torch.tensor([300.0, 700.0, 1500.0])[labels, None]
    for _ in range(80):
        phases = 2 * math.pi * (hertz * torch.arange(2000) / 8000 + torch.rand(24, 1))
        loss = F.cross_entropy(model(phases.sin()[:, None] + 0.1 * torch.randn(24, 1, 2000)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.4


@pytest.mark.parametrize(
    ("name", "options"),
    [(name, {"dropout": 0.5}) for name in BASELINES] + [("vit1d", {"drop_path": 0.5}), ("ast", {"drop_path": 0.5})],
)
def test_what_is_dropped_is_dropped_in_training_alone(name, options):
    model, x = small(name, **options), torch.randn(8, 1, 2000)
    assert not torch.allclose(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    whole = small(name).eval()
    whole.load_state_dict(model.state_dict())
    assert torch.equal(whole(x), model(x))


def test_drop_path_leaves_branches_out_of_whole_clips_and_keeps_the_mean():
    block = small("vit1d", drop_path=0.5).blocks[-1].train()
    assert small("vit1d", drop_path=0.5).blocks[0].drop_path == 0.0
    factors = block._dropped(torch.ones(2000, 3, 4))
    assert torch.equal(factors, factors[:, :1, :1].expand_as(factors))
    assert set(factors[:, 0, 0].tolist()) == {0.0, 2.0}
    assert float(factors.mean()) == pytest.approx(1.0, abs=0.1)


def test_the_order_of_patches_shows_through_their_positions_alone(monkeypatch):
    model, patches = small("vit1d").eval(), torch.randn(1, 30, 80)
    x, shuffled = (order.reshape(1, 1, -1) for order in (patches, patches[:, torch.randperm(30)]))
    assert not torch.allclose(model(x), model(shuffled), atol=1e-5)
    monkeypatch.setattr("eyetoy_baselines.audio.sinusoids", lambda length, dim, device: torch.zeros(length, dim))
    torch.testing.assert_close(model(x), model(shuffled), atol=1e-5, rtol=1e-4)


def test_a_transformer_block_is_that_of_pytorch():
    block = small("vit1d").blocks[0]
    layer = torch.nn.TransformerEncoderLayer(16, 2, 64, dropout=0, activation="gelu", batch_first=True, norm_first=True)
    torch.nn.init.normal_(block.qkv.weight)  # to attend here and there, not everywhere alike
    ours = (block.attention_norm, block.mlp_norm, block.project, block.mlp[0], block.mlp[2])
    theirs = (layer.norm1, layer.norm2, layer.self_attn.out_proj, layer.linear1, layer.linear2)
    for module, other in zip(ours, theirs, strict=True):
        other.load_state_dict(module.state_dict())
    layer.self_attn.in_proj_weight.data, layer.self_attn.in_proj_bias.data = block.qkv.weight, block.qkv.bias
    x = torch.randn(3, 20, 16)
    torch.testing.assert_close(block(x), layer(x))


def test_positions_are_sines_and_cosines():
    found = sinusoids(50, 8)
    for k in range(4):
        angle = torch.arange(50.0) / 10_000 ** (2 * k / 8)
        torch.testing.assert_close(found[:, k], angle.sin())
        torch.testing.assert_close(found[:, 4 + k], angle.cos())


def test_a_matchbox_block_adds_its_shortcut_before_the_last_activation():
    block = small("matchboxnet").layers[2].eval()
    torch.nn.init.zeros_(block.convolutions[-1][-1].weight)
    x = torch.randn(2, 16, 30)
    expected = F.relu(F.conv1d(x, block.shortcut[0].weight) / math.sqrt(1 + 1e-5))
    torch.testing.assert_close(block(x), expected)


def test_a_matchboxnet_hears_as_far_as_its_kernels():
    model = small("matchboxnet", channels=4, kernel_sizes=(3, 5), repeats=2).eval()
    reach = 5 + 2 * 1 + 2 * 2 + 28  # frames to each side: half of every kernel, the dilated one's twice
    spectrogram = torch.randn(1, 64, 200, requires_grad=True)
    model.layers(spectrogram)[0, :, 100].sum().backward()
    heard = spectrogram.grad[0].any(0).nonzero().flatten()
    assert (int(heard[0]), int(heard[-1])) == (100 - reach, 100 + reach)


def test_other_names_and_options_are_refused():
    with pytest.raises(ValueError, match="no baseline named 'm6'; there are ast, bcresnet, m5, matchboxnet, vit1d"):
        create_baseline("m6", num_classes=3, sample_rate=8000)
    with pytest.raises(ValueError, match=r"options \{'depth': 3\} do not fit m5"):
        create_baseline("m5", num_classes=3, sample_rate=8000, depth=3)
    with pytest.raises(ValueError, match=r"kernel_sizes are \[13, 14\]; they should be odd, unlike \[14\]"):
        small("matchboxnet", kernel_sizes=(13, 14))
    for dim in (10, 9):
        with pytest.raises(ValueError, match=f"dim is {dim}; it should be even and a multiple of num_heads, 3"):
            small("vit1d", dim=dim, num_heads=3)
