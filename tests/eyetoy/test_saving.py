"""Saved models: in their own dtype, without a head, and as an encoder for a model of another kind."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eyetoy import Classifier, Encoder, FeaturePyramid, inflated
from eyetoy.encoder import ENCODERS
from eyetoy.hub import HubModel

GRIDS = {1: (45,), 2: (13, 18), 3: (5, 9, 11)}
KINDS: dict[str, Callable[[Any], Any]] = {
    "encoder": lambda params: ENCODERS[params.num_spatial_dims](params),
    "classifier": lambda params: Classifier(params, num_classes=5),
    "pyramid": FeaturePyramid,
}


def encoder_of(model: HubModel) -> Encoder:
    return model if isinstance(model, Encoder) else model.encoder  # type: ignore[return-value]


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[HubModel, str], str]:
    """Save a model to a folder, or to a hub, and return what `from_pretrained` takes."""

    def download(repo_id: str, filename: str, **_: object) -> str:
        return str(tmp_path / repo_id / filename)

    for module in ("huggingface_hub.hub_mixin", "eyetoy.hub"):
        monkeypatch.setattr(f"{module}.hf_hub_download", download)

    def save(model: HubModel, place: str) -> str:
        model.save_pretrained(tmp_path / "someone" / "something")
        return "someone/something" if place == "hub" else str(tmp_path / "someone" / "something")

    return save


@pytest.mark.parametrize("place", ["folder", "hub"])
@pytest.mark.parametrize("target", KINDS)
@pytest.mark.parametrize("source", KINDS)
def test_the_encoder_of_one_kind_is_loaded_into_another(
    dimension: int,
    source: str,
    target: str,
    place: str,
    encoders: Any,
    elsewhere: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, other = (KINDS[kind](encoders.encoder_params(dimension)) for kind in (source, target))
    name = elsewhere(model, place)
    options = {"num_classes": 5} if target == "classifier" else {}
    with caplog.at_level(logging.WARNING):
        loaded = type(other).from_pretrained(name, strict=False, **options)
    assert type(loaded) is type(other)
    torch.testing.assert_close(encoder_of(loaded).state_dict(), encoder_of(model).state_dict(), rtol=0, atol=0)
    own = {"encoder": "", "classifier": "head.bias, head.weight", "pyramid": "norms.0.bias, norms.0.weight"}
    dropped, new = ("", "") if source == target else (own[source], own[target])
    assert (f"not loaded from {name}: {dropped}" in logged(caplog)) == bool(dropped)
    assert (f"new in {type(loaded).__name__}, not in {name}: {new}" in logged(caplog)) == bool(new)
    assert len(caplog.records) == bool(dropped) + bool(new)
    loaded.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["kind"] == target
    again = type(other).from_pretrained(tmp_path / "again")
    torch.testing.assert_close(again.state_dict(), loaded.state_dict(), rtol=0, atol=0)
    if source != target and "" in (own[source], own[target]):
        with pytest.raises(RuntimeError, match=f"{name} holds a model of another kind than {type(other).__name__}"):
            type(other).from_pretrained(name, **options)


def test_an_encoder_of_images_is_inflated_from_a_classifier(encoders: Any, tmp_path: Path) -> None:
    params = encoders.encoder_params(2)
    model = Classifier(params, num_classes=5).eval()
    model.save_pretrained(tmp_path)
    video = ENCODERS[3].from_pretrained(tmp_path, strict=False, params=inflated(params))
    x = torch.randn(1, 3, 1, 13, 18)
    torch.testing.assert_close(video(x).context, model.encoder(x[:, :, 0]).context, rtol=1e-4, atol=1e-5)


def test_the_encoder_inside_a_larger_model_is_found(dimension: int, encoders: Any, tmp_path: Path) -> None:
    model = Classifier(encoders.encoder_params(dimension), num_classes=5)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({f"module.backbone.{name}": weight for name, weight in weights.items()}, tmp_path / "model.safetensors")
    for kind in (ENCODERS[dimension], FeaturePyramid, Classifier):
        loaded = encoder_of(kind.from_pretrained(tmp_path, strict=False))
        torch.testing.assert_close(loaded.state_dict(), model.encoder.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_which_none_fits_are_refused(dimension: int, kind: str, encoders: Any, tmp_path: Path) -> None:
    model = KINDS[kind](encoders.encoder_params(dimension))
    model.save_pretrained(tmp_path)
    save_file({"blocks.0.weight": torch.ones(2), "head.weight": torch.ones(3, 3)}, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"holds no weight of .*: it holds blocks\.0\.weight, head\.weight, and the"):
        type(model).from_pretrained(tmp_path, strict=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_comes_back_in_its_dtype(
    dimension: int, kind: str, dtype: torch.dtype, encoders: Any, tmp_path: Path
) -> None:
    model = KINDS[kind](encoders.encoder_params(dimension)).to(dtype)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    for asked in (torch.float32, "float32", "torch.float32"):
        single = type(model).from_pretrained(tmp_path, dtype=asked)
        torch.testing.assert_close(single.state_dict(), model.float().state_dict(), rtol=0, atol=0)
    x = torch.randn(1, 3, *GRIDS[dimension])
    assert all(part.isfinite().all() for part in tensors(single(x)))


def tensors(output: Any) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else list(output)


def test_each_weight_keeps_its_dtype_and_a_new_head_has_that_of_most(
    dimension: int, encoders: Any, tmp_path: Path
) -> None:
    model = Classifier(encoders.encoder_params(dimension), num_classes=5).to(torch.bfloat16)
    model.encoder.norm.float()
    model.save_pretrained(tmp_path)
    loaded = Classifier.from_pretrained(tmp_path, num_classes=3)
    kinds = {name: weight.dtype for name, weight in loaded.state_dict().items()}
    assert {name for name, kind in kinds.items() if kind == torch.float32} == {
        "encoder.norm.weight",
        "encoder.norm.bias",
    }
    assert kinds["head.weight"] == torch.bfloat16
    encoder = ENCODERS[dimension].from_pretrained(tmp_path, strict=False, dtype="float16")
    assert {weight.dtype for weight in encoder.state_dict().values()} == {torch.float16}


def test_weights_in_eight_bits_are_widened(encoders: Any, tmp_path: Path) -> None:
    model = Classifier(encoders.encoder_params(2), num_classes=5)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    eight = {name: weight.to(torch.float8_e4m3fn) for name, weight in weights.items()}
    save_file(eight, tmp_path / "model.safetensors")
    loaded = Classifier.from_pretrained(tmp_path)
    assert torch.equal(loaded.head.weight, eight["head.weight"].float())


@pytest.mark.parametrize("dtype", ["int8", "nonsense", torch.int64, 16])
def test_a_dtype_that_holds_no_weights_is_refused(dtype: Any, encoders: Any, tmp_path: Path) -> None:
    Classifier(encoders.encoder_params(2), num_classes=5).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"dtype must be one of floating point.*got .*{dtype}"):
        Classifier.from_pretrained(tmp_path, dtype=dtype)


def test_a_model_without_a_head_gives_the_context(dimension: int, encoders: Any, tmp_path: Path) -> None:
    params, x = encoders.encoder_params(dimension), torch.randn(2, 3, *GRIDS[dimension])
    bare, by_hand, reset = Classifier(params, 0), Classifier(params, 5), Classifier(params, 5)
    by_hand.head = nn.Identity()
    reset.reset_classifier(0)
    for place, model in enumerate((bare, by_hand, reset)):
        context = model.eval().encoder(x).context
        torch.testing.assert_close(model(x), context)
        model.save_pretrained(tmp_path / str(place))
        loaded = Classifier.from_pretrained(tmp_path / str(place))
        assert loaded.num_classes == 0
        assert torch.equal(loaded(x), model(x))
        assert Classifier.from_pretrained(tmp_path / str(place), num_classes=3)(x).shape == (2, 3)
    assert (bare.num_classes, reset.num_classes) == (0, 0)


def test_a_saved_head_is_left_out_if_none_is_asked_for(
    dimension: int, encoders: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, x = Classifier(encoders.encoder_params(dimension), 5).eval(), torch.randn(2, 3, *GRIDS[dimension])
    model.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        bare = Classifier.from_pretrained(tmp_path, num_classes=0)
    assert logged(caplog) == "head.weight left out, [5, 16]\nhead.bias left out, [5]"
    assert torch.equal(bare(x), model.encoder(x, context_only=True).context)
    weights = {name: weight for name, weight in load_file(tmp_path / "model.safetensors").items() if "head" not in name}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"head\.weight"):  # the config says that there is one
        Classifier.from_pretrained(tmp_path)


@pytest.mark.parametrize("head", [nn.Identity(), nn.Sequential(nn.Linear(16, 4), nn.ReLU()), nn.Linear(16, 2)])
def test_a_head_of_ones_own_is_replaced(dimension: int, head: nn.Module, encoders: Any) -> None:
    model = Classifier(encoders.encoder_params(dimension), num_classes=5).double()
    model.head = head
    model.reset_classifier(7)
    assert model.num_classes == 7
    assert model.head.weight.dtype == torch.float64
    assert model(torch.randn(2, 3, *GRIDS[dimension], dtype=torch.float64)).shape == (2, 7)
    with pytest.raises(ValueError, match="num_classes .*got -1"):
        model.reset_classifier(-1)
    assert model.get_classifier().out_features == 7


def test_a_linear_head_of_ones_own_is_saved_with_its_classes(dimension: int, encoders: Any, tmp_path: Path) -> None:
    model = Classifier(encoders.encoder_params(dimension), num_classes=5).eval()
    model.head = nn.Linear(16, 9)
    model.save_pretrained(tmp_path)
    x = torch.randn(2, 3, *GRIDS[dimension])
    assert torch.equal(Classifier.from_pretrained(tmp_path)(x), model(x))


def test_what_the_config_does_not_describe_is_named(
    dimension: int, encoders: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Classifier(encoders.encoder_params(dimension), num_classes=5)
    with caplog.at_level(logging.WARNING):
        model.save_pretrained(tmp_path / "plain")
    assert logged(caplog) == ""
    model.head = nn.Sequential(nn.Linear(16, 5))
    state = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        model.save_pretrained(tmp_path / "head")
    assert torch.equal(torch.get_rng_state(), state)
    assert "Classifier does not describe all of its weights" in logged(caplog)
    assert "head.0.bias, head.0.weight, head.bias, head.weight" in logged(caplog)
    with pytest.raises(RuntimeError, match=r"head\.0\.weight"):
        Classifier.from_pretrained(tmp_path / "head")
    loaded = Classifier.from_pretrained(tmp_path / "head", strict=False)
    torch.testing.assert_close(loaded.encoder.state_dict(), model.encoder.state_dict(), rtol=0, atol=0)
    caplog.clear()
    model.encoder.transformer = model.encoder.transformer[:1]
    with caplog.at_level(logging.WARNING):
        model.encoder.save_pretrained(tmp_path / "blocks")
    assert "transformer.1." in logged(caplog)


@pytest.mark.parametrize("saved", ["classifier", "encoder"])
def test_another_pooling_comes_with_the_new_head(dimension: int, saved: str, encoders: Any, tmp_path: Path) -> None:
    model, x = (
        Classifier(encoders.encoder_params(dimension), num_classes=5).eval(),
        torch.randn(2, 3, *GRIDS[dimension]),
    )
    before = model.encoder(x)
    model.reset_classifier(3, "avg")
    after = model.encoder(x)
    torch.testing.assert_close(after.context, before.features.flatten(2).mean(-1))
    torch.testing.assert_close(model.encoder(x, context_only=True).context, after.context)
    part = model if saved == "classifier" else model.encoder
    part.save_pretrained(tmp_path)
    torch.testing.assert_close(encoder_of(type(part).from_pretrained(tmp_path))(x), after)
    model.reset_classifier(3, "token")
    torch.testing.assert_close(model.encoder(x).context, before.context)
    with pytest.raises(ValueError, match="global_pool must be 'token' or 'avg'; got 'max'"):
        model.reset_classifier(3, "max")  # type: ignore[arg-type]


def test_a_pooling_that_the_encoder_has_not_is_refused(dimension: int, encoders: Any) -> None:
    model = Classifier(encoders.encoder_params(dimension, global_attention=None), num_classes=5)
    model.reset_classifier(3, "avg")
    with pytest.raises(ValueError, match="no context token, and global_pool must be 'avg'; got 'token'"):
        model.reset_classifier(4, "token")
    assert model.num_classes == model.head.out_features == 3


def test_other_channels_keep_the_names_of_the_classes_and_drop_the_preprocessing(tmp_path, encoders):
    model = Classifier(encoders.encoder_params(2), num_classes=2)
    model.id2label, model.preprocessing = {0: "cat", 1: "dog"}, {"modality": "image", "channels": 3}
    model.save_pretrained(tmp_path)
    assert Classifier.from_pretrained(tmp_path).preprocessing == model.preprocessing
    grey = Classifier.from_pretrained(tmp_path, in_channels=1)
    assert (grey.id2label, grey.preprocessing) == ({0: "cat", 1: "dog"}, {})
