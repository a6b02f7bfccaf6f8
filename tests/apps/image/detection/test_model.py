"""Detectors over any encoder, at any size."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from eyetoy import create_model
from eyetoy_image.dense.pyramids import build_pyramid
from eyetoy_image.detection import Detection
from eyetoy_image.detection.model import Detector, load_detector
from eyetoy_train import ModelRecipe

PICO = ModelRecipe(name="eyetoy2d_pico")


@pytest.fixture(scope="module")
def detector(small_detector):
    torch.manual_seed(0)
    return Detector(PICO, small_detector, num_classes=2, sizes=(64, 96)).eval()


def random_target(height, width):
    return {
        "boxes": torch.tensor([[2.0, 3, width - 4, height - 5]]),
        "labels": torch.tensor([1]),
        "masks": torch.ones(1, height, width, dtype=torch.uint8),
    }


@pytest.mark.parametrize("size", [(64, 64), (33, 51), (97, 64), (1, 70)])
def test_levels_have_their_strides_and_channels_at_any_size(detector, size):
    maps = detector.rcnn.backbone(torch.randn(1, 3, *size))
    expected = [tuple(-(-length // stride) for length in size) for stride in (4, 8)]
    assert [tuple(x.shape[2:]) for x in maps.values()][:2] == expected
    assert list(maps) == ["0", "1", "pool"]
    assert {x.shape[1] for x in maps.values()} == {16}


@pytest.mark.parametrize("size", [(50, 71), (65, 33)])
def test_boxes_and_masks_are_in_the_pixels_of_the_picture(detector, size):
    height, width = size
    with torch.no_grad():
        (found,) = detector([torch.rand(3, *size)])
    assert len(found["boxes"])
    assert found["masks"].shape == (len(found["boxes"]), 1, *size)
    assert found["boxes"].min() >= 0
    assert found["boxes"][:, 2].max() <= width
    assert found["boxes"][:, 3].max() <= height
    assert found["boxes"][:, 2].max() > 0.7 * width  # at the size of the resized picture they would not reach there
    assert (found["scores"].diff() <= 0).all()


@pytest.mark.parametrize("size", [(3, 900), (900, 3), (1, 97)])
def test_a_very_thin_picture_is_seen_beside_others(detector, size):
    """Its short side would be rounded down to no pixel."""
    height, width = size
    target, images = random_target(height, width), [torch.rand(3, *size), torch.rand(3, 50, 71)]
    target["boxes"] = torch.tensor([[0.0, 0, width, height]])
    with torch.no_grad():
        (found, _), losses = detector.eval()(images, [target, random_target(50, 71)], with_losses=True)
    assert len(found["boxes"])
    assert found["masks"].shape == (len(found["boxes"]), 1, *size)
    assert found["boxes"].min() >= 0
    assert (found["boxes"].amax(0)[2:] <= torch.tensor([width, height])).all()
    assert found["boxes"][:, 2].max() > 0.7 * width
    assert found["boxes"][:, 3].max() > 0.7 * height
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_picture_is_seen_alike_alone_and_beside_a_larger_one(recipe_of, tree, detector):
    task = Detection(recipe_of(tree))
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((40, 90), (70, 50))]
    with torch.no_grad():
        together = task.find(detector, images)
        alone = [task.find(detector, [image])[0] for image in images]
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one["boxes"], other["boxes"])
        assert one["masks"] == other["masks"]


def test_pictures_of_different_sizes_train_together_and_padding_is_no_place_for_objects(detector):
    model = detector.train()
    sizes = [(40, 90), (70, 50)]
    images, targets = [torch.rand(3, *size) for size in sizes], [random_target(*size) for size in sizes]
    inputs, _ = model.rcnn.transform(images, targets)
    assert inputs.tensors.shape == (2, 3, 96, 96)  # the largest of each side, up to a multiple of 32
    assert inputs.image_sizes == sizes  # not resized again
    losses = model(images, targets)
    assert set(losses) == {
        "loss_objectness",
        "loss_rpn_box_reg",
        "loss_classifier",
        "loss_box_reg",
        "loss_mask",
    }
    sum(losses.values()).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []  # which training on several processes relies on
    model.zero_grad()
    proposals, _ = model.rcnn.eval().rpn(inputs, model.rcnn.backbone(inputs.tensors))
    for boxes, (height, width) in zip(proposals, sizes, strict=True):
        assert boxes[:, 2].max() <= width
        assert boxes[:, 3].max() <= height


def test_a_picture_without_an_object_trains(detector):
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long(), "masks": torch.zeros(0, 64, 64)}
    losses = detector.train()([torch.rand(3, 64, 64)], [empty])
    assert all(torch.isfinite(loss) for loss in losses.values())
    detector.eval()


def test_what_is_saved_is_what_is_loaded(detector, tmp_path):
    detector.eval().save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "config.json"}
    loaded = load_detector(tmp_path)
    image = torch.rand(3, 50, 71)
    with torch.no_grad():
        (one,), (other,) = detector([image]), loaded([image])
    assert len(one["boxes"])
    for name in ("boxes", "labels", "scores", "masks"):
        assert torch.equal(one[name], other[name])


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model"):
        load_detector(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"num_classes": 3}))
    with pytest.raises(ValueError, match="holds no detector"):
        load_detector(tmp_path)


def test_boxes_alone(small_detector):
    recipe = dataclasses.replace(small_detector, kind="faster_rcnn")
    model = Detector(PICO, recipe, num_classes=2, sizes=(64, 96))
    losses = model([torch.rand(3, 64, 64)], [random_target(64, 64)])
    assert "loss_mask" not in losses
    with torch.no_grad():
        (found,) = model.eval()([torch.rand(3, 64, 64)])
    assert "masks" not in found


def test_anchors_must_fit_the_stages(small_detector):
    recipe = dataclasses.replace(small_detector, anchor_sizes=[8, 16])
    with pytest.raises(ValueError, match=r"each of the 2 stages of the encoder and one more, 3 in all; got \[8, 16\]"):
        Detector(PICO, recipe, num_classes=2, sizes=(64, 96))


def test_an_encoder_starts_from_a_trained_classifier(tmp_path):
    torch.manual_seed(1)
    classifier = create_model("eyetoy2d_pico", num_classes=5)
    classifier.save_pretrained(tmp_path)
    pyramid, channels = build_pyramid(dataclasses.replace(PICO, weights=str(tmp_path)), None)
    assert channels == [64, 96]
    for name, value in classifier.encoder.state_dict().items():
        assert torch.equal(pyramid.encoder.state_dict()[name], value)
    with pytest.raises(ValueError, match="of another encoder"):
        build_pyramid(ModelRecipe(name="eyetoy2d_nano", weights=str(tmp_path)), None)


@pytest.mark.parametrize(
    "name", ["timm/test_convnext", "timm/swin_tiny_patch4_window7_224", "timm/vit_tiny_patch16_224"]
)
def test_models_of_timm_stand_in_the_same_place(name):
    small = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)} if "swin" in name else {}
    small = {"depth": 3, "embed_dim": 32, "num_heads": 2} if "vit" in name else small
    pyramid, channels = build_pyramid(ModelRecipe(name=name, options=small), None)
    with torch.no_grad():
        maps = pyramid.eval()(torch.randn(1, 3, 96, 160))
    assert [x.shape[1] for x in maps] == channels
    for x, stride in zip(maps, pyramid.model.feature_info.reduction(), strict=True):
        assert tuple(x.shape[2:]) == (96 // stride, 160 // stride)


@pytest.mark.parametrize("name", ["eyetoy2d_pico", "timm/test_convnext"])
def test_checkpointing_changes_no_gradient(name):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        pyramid, _ = build_pyramid(ModelRecipe(name=name, grad_checkpointing=checkpointing), None)
        sum(x.square().mean() for x in pyramid(torch.ones(1, 3, 64, 64))).backward()
        gradients.append([parameter.grad for parameter in pyramid.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (ModelRecipe(name="eyetoy2d_pico", dropout=0.1), "model.dropout is for the head of a classifier"),
        (ModelRecipe(name="eyetoy2d_pico", options={"wings": 2}), "do not fit eyetoy2d_pico"),
        (ModelRecipe(name="eyetoy2d_none"), "no model is named 'eyetoy2d_none'"),
        (ModelRecipe(name="timm/no_such_model"), "timm has no model named 'no_such_model'"),
        (ModelRecipe(name="timm/test_convnex"), "near it are .*test_convnext"),
        (ModelRecipe(name="timm/resnet18", options={"wings": 2}), "do not fit timm's resnet18"),
        (ModelRecipe(name="timm/resnet18", stem_strides=[2]), "model.stem_strides is for this project's encoders"),
    ],
)
def test_wrong_encoders_are_refused_in_words(recipe, message):
    with pytest.raises(ValueError, match=message):
        build_pyramid(recipe, None)


def test_losses_in_evaluation_are_those_of_training_and_change_nothing(recipe_of, tree):
    """Of a model without dropout and batch norm, on a picture of the size of training and of an evaluation."""
    task = Detection(recipe_of(tree, short_side=64, long_side=96))
    model = task.build_model()
    image, target = torch.rand(3, 64, 80), random_target(64, 80)
    torch.manual_seed(3)
    expected = model.train()([image], [target])
    before = {name: value.clone() for name, value in model.eval().state_dict().items()}
    torch.manual_seed(3)
    with torch.no_grad():
        (found,), losses = model([image], [target], with_losses=True)
        (alone,) = model([image])
    torch.testing.assert_close(losses, {name: loss.detach() for name, loss in expected.items()})
    assert all(torch.equal(found[name], alone[name]) for name in alone)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_evaluation_draws_no_random_numbers_of_others_and_its_losses_do_not_depend_on_the_batch(recipe_of, tree):
    task = Detection(recipe_of(tree))
    task.prepare()
    dataset = task.dataset("val")
    samples, model = [dataset[index] for index in range(len(dataset))], task.build_model().eval()
    state = torch.get_rng_state()
    with torch.no_grad():
        together = task.outputs(model, dataset.collate(samples))
        alone = [task.outputs(model, dataset.collate([sample])) for sample in reversed(samples)]
    assert torch.equal(torch.get_rng_state(), state)
    assert together["losses"] == [one["losses"][0] for one in reversed(alone)]
    assert [bool(one) for one in together["losses"]] == [True, True, False]  # the last picture is empty


def test_the_parts_of_the_loss_add_up_to_it(recipe_of, tree):
    task = Detection(recipe_of(tree))
    batch = {"image": [torch.zeros(3, 64, 64, dtype=torch.uint8)], "target": [random_target(64, 64)]}
    loss = task.loss(task.build_model(), batch)
    assert torch.equal(torch.stack(list(task.loss_parts.values())).sum(), loss)
    assert not any(part.requires_grad for part in task.loss_parts.values())
