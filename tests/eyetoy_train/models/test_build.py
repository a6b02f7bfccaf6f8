"""Any classifier by name: this project's and timm's."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch

from eyetoy_train import ModelRecipe, build_classifier, load_classifier, train
from eyetoy_train.models.transfer import load_encoder, read_trained


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224", "timm/resnet10t"])
def test_a_model_of_timm_is_built_for_the_input_and_saved(name, tmp_path):
    options = {"depths": [1, 1, 1, 1], "embed_dim": 32, "num_heads": [1, 1, 2, 2]} if "swin" in name else {}
    recipe = ModelRecipe(name=name, options=options)
    torch.manual_seed(0)
    model = build_classifier(recipe, num_classes=5, in_channels=1, grid=(64, 64)).eval()
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        expected = model(x)
        model.save_pretrained(tmp_path / "model")
        loaded = load_classifier(tmp_path / "model")
        assert expected.shape == (2, 5)
        assert torch.equal(loaded(x), expected)
    assert not list(tmp_path.rglob("*.bin"))


def test_options_reach_the_model():
    narrow = build_classifier(ModelRecipe(name="timm/vit_tiny_patch16_224", options={"depth": 2}), num_classes=2)
    assert len(narrow.model.blocks) == 2
    scaled = build_classifier(ModelRecipe(name="eyetoy2d_pico", options={"layer_scale": 0.5}), num_classes=2)
    assert [value.max() for name, value in scaled.named_parameters() if name.endswith("gamma")]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"name": "timm/vit_tiny_patch16_225"}, "no model named 'vit_tiny_patch16_225'; near it are .*vit_"),
        ({"name": "timm/resnet10t", "options": {"depht": 3}}, "model.options do not fit timm's resnet10t: .*depht"),
        ({"name": "timm/resnet10t", "stem_strides": [2]}, "model.stem_strides is for this project's models"),
        ({"name": "eyetoy2d_pico", "options": {"depht": 3}}, "model.options .*depht.* do not fit eyetoy2d_pico"),
        ({"name": "eyetoy2d_picco"}, "eyetoy2d_pico"),
        ({"name": "tinm/resnet10t"}, r"'tinm/resnet10t' is of no known family; there are timm/\.\.\., and"),
        ({"name": "timm/lenet", "grad_checkpointing": True}, "no model named 'lenet'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(recipe, message):
    with pytest.raises(ValueError, match=message):
        build_classifier(ModelRecipe(**recipe), num_classes=2)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(("shape", "axis"), [((1, 3, 8, 8), 1), ((1, 3, 4, 8, 8), 1)])
def test_channels_last_gives_the_model_channels_innermost(shape, axis):
    name = "eyetoy2d_pico" if len(shape) == 4 else "eyetoy3d_pico"
    model = build_classifier(ModelRecipe(name=name, channels_last=True), num_classes=2)
    seen = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(torch.randn(shape).contiguous())
    assert seen[0].stride(axis) == 1


def test_a_model_of_timm_trains_by_the_same_recipe(toy, toy_recipe, tmp_path):
    class Pictures(toy.Slopes):
        in_channels = 1
        grid = (32, 32)

        def load_sample(self, source, *, training):
            sequence = super().load_sample(source, training=training)
            return sequence[:, None, ::2].expand(1, 32, 32)

        def plot(self, axes, x):
            axes.imshow(x[0])

    model = {"name": "timm/vit_tiny_patch16_224", "options": {"depth": 1, "patch_size": 8}, "drop_path": 0.1}
    recipe = toy_recipe(epochs=4, model=model, ema={"decay": 0.9})
    results = train(Pictures(recipe), recipe)
    assert results["test"]["count"] == 13
    assert (tmp_path / "run" / "report.html").exists()


def test_training_starts_from_weights_of_another_run(toy, toy_recipe, tmp_path, caplog):
    recipe = toy_recipe(epochs=6)
    train(toy.Slopes(recipe), recipe)
    given = load_classifier(tmp_path / "run" / "checkpoints" / "best")
    model = ModelRecipe(name="eyetoy1d_pico", stem_strides=[8], drop_path=0.2, weights=str(tmp_path / "run"))
    started = build_classifier(model, num_classes=3)
    assert torch.equal(started.head.weight, given.head.weight)
    assert started.training
    assert started.encoder.params.transformer[-1].drop_path == 0.2
    other = build_classifier(model, num_classes=7, in_channels=2)
    assert other.head.weight.shape == (7, 96)
    assert "head.weight initialised anew" in caplog.text
    block = "encoder.transformer.0.ffn.expand.weight"
    assert torch.equal(other.get_parameter(block), given.get_parameter(block))


NAMES = ["cat", "dog", "cow"]


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        (NAMES, None),
        (["cow", "cat", "dog"], None),
        (["cat", "dog", "ant"], r"head \(other classes: cow there alone, ant here alone\)"),
        (["cat", "dog"], r"head \(other classes: cow there alone\)"),
    ],
)
@pytest.mark.parametrize(
    "name", ["eyetoy1d_pico", "eyetoy2d_pico", "eyetoy3d_pico", "timm/test_convnext", "timm/test_vit"]
)
def test_a_head_is_taken_by_the_names_of_its_classes(name, classes, told, tmp_path, capsys):
    torch.manual_seed(1)
    grid = [64, 64] if name == "timm/test_vit" else None
    given = build_classifier(ModelRecipe(name=name), num_classes=3, grid=grid)
    given.save_pretrained(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps(NAMES))
    recipe = ModelRecipe(name=name, weights=str(tmp_path))
    started = build_classifier(recipe, num_classes=len(classes), classes=classes, grid=grid)
    old, new = ((getattr(model, "model", model)).get_classifier() for model in (given, started))
    rows = dict(zip(NAMES, old.weight, strict=True))
    assert new.weight.shape[0] == len(classes)
    for label, row in zip(classes, new.weight, strict=True):
        assert torch.equal(row, rows.get(label, row + 1)) == (told is None)
    ours = started.state_dict()
    assert sum(torch.equal(ours[key], value) for key, value in given.state_dict().items()) >= len(ours) - 2
    said = capsys.readouterr().out
    if told is not None:
        assert re.search(rf"loaded from {tmp_path} \(\w+\): encoder\nnot loaded, and new: {told}\n", said)
    else:
        assert "not loaded" not in said


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("model", ValueError, "model.weights .* are of another encoder: stem_channels"),
        ("empty", FileNotFoundError, "holds no checkpoint"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, weights, error, message):
    (tmp_path / "empty").mkdir()
    build_classifier(ModelRecipe(name="eyetoy1d_nano"), num_classes=2).save_pretrained(tmp_path / "model")
    with pytest.raises(error, match=message):
        build_classifier(ModelRecipe(name="eyetoy1d_pico", weights=str(tmp_path / weights)), num_classes=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem_strides": [4]}, "another encoder: initial_proj has 2 entries there and 1 here. Choose model.name"),
        ({"options": {"changes": {"global_depth": 0}}}, "another encoder: global_attention is "),
        ({"name": "eyetoy2d_nano"}, "stem_channels is 64 there and 32 here; transformer has "),
    ],
)
def test_weights_of_another_encoder_are_refused_by_how_it_differs(options, message, tmp_path):
    pico = ModelRecipe(name="eyetoy2d_pico")
    build_classifier(pico, num_classes=2).save_pretrained(tmp_path)
    recipe = replace(pico, weights=str(tmp_path), **options)
    with pytest.raises(ValueError, match=re.escape(message)):
        build_classifier(recipe, num_classes=2)
    other = build_classifier(replace(recipe, weights=None), num_classes=2).encoder
    with pytest.raises(ValueError, match=re.escape(message)):  # as detection and segmentation start from a classifier
        load_encoder(other, read_trained(str(tmp_path)))


def test_an_app_can_bring_models_of_its_own(tmp_path):
    def build(name, arguments, grid):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(*arguments["sizes"]))

    families = {"mine": build}
    recipe = ModelRecipe(name="mine/net", options={"sizes": [8, 2]})
    model = build_classifier(recipe, num_classes=2, families=families).eval()
    model.save_pretrained(tmp_path)
    x = torch.randn(3, 2, 4)
    assert torch.equal(load_classifier(tmp_path, families)(x), model(x))
    with pytest.raises(ValueError, match="grad_checkpointing is on, and a model of mine does not know it"):
        build_classifier(replace(recipe, grad_checkpointing=True), num_classes=2, families=families)
    with pytest.raises(ValueError, match="no known family; there are mine"):
        build_classifier(ModelRecipe(name="timm/resnet10t"), num_classes=2, families=families)
