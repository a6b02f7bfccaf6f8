"""Encoders of pictures made encoders of clips: what a still clip shows, what fits, what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eyetoy import Classifier, Inflation, create_encoder, create_model, encoder_params, inflated
from eyetoy.inflation import inflated_weight

PICO, LOCAL = "eyetoy2d_pico", {"local_kernel": 3}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A classifier of pictures with weights that are nobody's defaults, and its folder."""
    torch.manual_seed(0)
    model = create_model(PICO, num_classes=4, changes=LOCAL).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    folder = tmp_path_factory.mktemp("inflation") / "pictures"
    model.save_pretrained(folder)
    return model, folder


def of_clips(folder, inflation: Inflation | None = None, **options) -> Classifier:
    params = inflated(encoder_params(PICO, changes=LOCAL, **options), inflation)
    return Classifier.from_pretrained(folder, params=params)


@given(
    times=st.sampled_from(((1, 1), (1, 3), (2, 3), (2, 5))),
    window=st.integers(1, 4),
    grid=st.tuples(st.integers(1, 9), st.integers(8, 40), st.integers(8, 40)),
)
@settings(max_examples=25, deadline=None)
def test_every_moment_of_a_still_clip_is_the_picture(pictures, times, window, grid):
    model, folder = pictures
    stride, kernel = times
    inflation = Inflation(temporal_stride=stride, temporal_kernel=kernel, temporal_window=window)
    clips = of_clips(folder, inflation).double()
    picture = torch.randn(1, 3, *grid[1:], dtype=torch.float64)
    still = picture[:, :, None].expand(1, 3, *grid)
    with torch.inference_mode():
        expected = model.double().encoder.forward_stages(picture)
        for found, right in zip(clips.encoder.forward_stages(still), expected, strict=True):
            assert found.shape[1] == -(-grid[0] // stride)
            torch.testing.assert_close(found, right[:, None].expand_as(found))


def test_a_clip_of_one_token_of_time_gets_the_pictures_logits(pictures):
    model, folder = pictures
    picture = torch.randn(2, 3, 24, 24)
    with torch.inference_mode():
        logits = of_clips(folder)(picture[:, :, None].expand(2, 3, 2, 24, 24))
        torch.testing.assert_close(logits, model.float()(picture), rtol=1e-4, atol=1e-5)


def test_an_inflated_model_sees_motion_and_learns_it(pictures):
    _, folder = pictures
    model = of_clips(folder).train()
    clip = torch.randn(1, 3, 6, 16, 16)
    assert not torch.allclose(model(clip), model(clip.flip(2)), atol=1e-4)
    model(clip).sum().backward()
    gradient = model.encoder.initial_proj.convs[0].weight.grad
    assert all(gradient[:, moment].abs().sum() > 0 for moment in range(3))


def test_what_changes_is_said(pictures, caplog):
    _, folder = pictures
    of_clips(folder, in_channels=1)
    assert [record.message for record in caplog.records] == [
        "encoder.initial_proj.convs.0.weight adapted, [32, 3, 3, 3] to [32, 3, 3, 3, 1]",
        "weights of pictures given a time axis: 15 convolutions, encoder.initial_proj.convs.0.weight first",
    ]


def test_inflated_params_are_saved_and_loaded(pictures, tmp_path):
    _, folder = pictures
    model = of_clips(folder)
    model.save_pretrained(tmp_path)
    again = Classifier.from_pretrained(tmp_path)
    assert again.encoder.params == model.encoder.params
    clip = torch.randn(1, 3, 4, 16, 16)
    with torch.inference_mode():
        assert torch.equal(again(clip), model(clip))


@pytest.mark.parametrize("name", ["eyetoy2d_nano", "eyetoy2d_tiny", "nat_nano", "eyetoy2d_preliminary"])
def test_every_model_of_pictures_can_be_inflated(name):
    options = {} if name.startswith("eyetoy2d_p") else {"drop_path": 0.1}
    flat, model = create_encoder(name, **options), create_encoder(name, inflate={}, **options)
    assert model.params == inflated(flat.params)
    assert model.params.stage_channels == flat.params.stage_channels
    assert [reduction[1:] for reduction in model.params.stage_reductions] == list(flat.params.stage_reductions)
    # One kernel has three frames, all else is as large as before.
    added = 2 * flat.initial_proj.convs[0].weight.numel()
    count = [sum(p.numel() for p in encoder.parameters()) for encoder in (flat, model)]
    assert count[1] - count[0] == added


def test_weights_of_other_shapes_are_left_alone():
    weight = torch.randn(4, 3, 3, 2)
    assert inflated_weight(weight, torch.Size((4, 3, 3, 3, 1))) is None
    assert inflated_weight(weight, torch.Size((4, 2, 3, 3, 2))) is None, "no middle frame"
    assert inflated_weight(weight, torch.Size((4, 3, 3, 2))) is None
    assert inflated_weight(torch.randn(4, 2), torch.Size((4, 3, 2))) is None, "no convolution"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: inflated(encoder_params("eyetoy3d_pico")),
            "only an encoder of images can be inflated; got num_spat",
        ),
        (lambda: create_encoder("eyetoy1d_pico", inflate={}), "num_spatial_dims=1"),
        (lambda: Inflation(temporal_kernel=2), "temporal_kernel must be odd and at least temporal_stride, 2; got 2"),
        (lambda: Inflation(temporal_kernel=1), "at least temporal_stride, 2; got 1"),
        (lambda: Inflation(temporal_stride=3), "temporal_stride must be 1 or 2; got 3"),
        (lambda: Inflation(temporal_window=0), "temporal_window"),
        (lambda: encoder_params(PICO, changes={"positional_embedding": "space"}), "in 3 dimensions, 'space'"),
    ],
)
def test_what_cannot_be_inflated_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
