"""Heads: shapes at any size, what they compute, the loss, and saving."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from eyetoy_image.classification.transforms import normalized
from eyetoy_image.segmentation import Segmentation, SegmentationRecipe, SegmenterRecipe
from eyetoy_image.segmentation.heads import LinearHead
from eyetoy_image.segmentation.losses import dice_loss, labelled_cross_entropy
from eyetoy_image.segmentation.model import Segmenter, load_segmenter
from eyetoy_train import ModelRecipe

SMALL = {"channels": 8, "auxiliary_channels": 8, "dropout": 0.0}


@pytest.mark.parametrize("kind", ["upernet", "linear"])
@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (67, 51), (33, 90)])
def test_logits_have_the_pictures_size(kind, norm, height, width):
    recipe = SegmenterRecipe(kind=kind, norm=norm, **SMALL)
    model = Segmenter(ModelRecipe(name="eyetoy2d_nano"), recipe, 5)
    x = torch.randn(2, 3, height, width)
    assert [tuple(logits.shape) for logits in model(x)] == [(2, 5, height, width)] * 2
    assert model.eval()(x).shape == (2, 5, height, width)


@pytest.mark.parametrize("name", ["timm/test_convnext", "timm/test_vit", "timm/swin_tiny_patch4_window7_224"])
def test_models_of_timm_stand_in_the_same_place(name):
    pytest.importorskip("timm")
    options = {} if "swin" not in name else {"embed_dim": 12, "num_heads": [1, 1, 2, 2], "depths": [1, 1, 1, 1]}
    model = Segmenter(ModelRecipe(name=name, options=options), SegmenterRecipe(norm="group", **SMALL), 4).eval()
    assert model(torch.randn(1, 3, 96, 160)).shape == (1, 4, 96, 160)


def test_group_norm_trains_on_one_picture_with_one_pixel_at_the_end():
    model = Segmenter(ModelRecipe(name="eyetoy2d_nano"), SegmenterRecipe(norm="group", **SMALL), 4)
    loss = sum(logits.square().mean() for logits in model(torch.randn(1, 3, 32, 32)))
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.head.parameters())
    assert model.head.pooling.branches[0][1][0].weight.grad.abs().sum() > 0


def test_batch_norm_for_one_picture_is_refused():
    with pytest.raises(
        ValueError, match="norm: batch needs two pictures in a pass of a process; batch_size=4 gives one"
    ):
        SegmentationRecipe(batch_size=4, gradient_accumulation_steps=4)
    recipe = SegmentationRecipe(batch_size=4)
    assert recipe.micro_batch_size(2) == 2
    with pytest.raises(ValueError, match="batch_size=4 gives one"):
        recipe.micro_batch_size(4)


def test_the_linear_head_is_a_linear_map_of_the_stages_beside_each_other():
    head = LinearHead([4, 6], 3, dropout=0.0).eval()
    fine, coarse = torch.randn(2, 4, 9, 7), torch.randn(2, 6, 5, 4)
    beside = torch.cat([fine, F.interpolate(coarse, (9, 7), mode="bilinear")], 1)
    weight = torch.cat([classify.weight for classify in head.classify], 1)
    torch.testing.assert_close(head([fine, coarse]), F.conv2d(beside, weight, head.classify[0].bias))


def test_the_auxiliary_head_is_on_the_last_stage_but_one():
    model = Segmenter(ModelRecipe(name="eyetoy2d_nano"), SegmenterRecipe(norm="group", **SMALL), 4)
    assert model.auxiliary[0][0].in_channels == 128
    with pytest.raises(ValueError, match="auxiliary_weight must be 0 for an encoder of one stage"):
        Segmenter(ModelRecipe(name="eyetoy2d_nano"), SegmenterRecipe(out_indices=[3], **SMALL), 4)


def test_ignored_pixels_change_neither_loss_nor_gradient():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    ignored = torch.rand(2, 8, 8) < 0.4
    labels[ignored] = 255
    changed = torch.where(ignored[:, None], 50 * torch.randn(2, 3, 8, 8), logits)
    found = []
    for values in (logits, changed):
        x = values.clone().requires_grad_()
        loss = labelled_cross_entropy(x, labels)
        loss.backward()
        found.append((loss.detach(), x.grad))
    picked = logits.movedim(1, -1)[~ignored]
    torch.testing.assert_close(found[0][0], F.cross_entropy(picked, labels[~ignored].long()))
    assert torch.equal(found[0][0], found[1][0])
    assert not found[1][1].movedim(1, -1)[ignored].any()
    torch.testing.assert_close(*(gradient.movedim(1, -1)[~ignored] for _, gradient in found))


def test_the_loss_of_ignored_pixels_alone_is_0():
    x = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = labelled_cross_entropy(x, torch.full((1, 4, 4), 255, dtype=torch.uint8))
    loss.backward()
    assert loss == 0
    assert not x.grad.any()


def test_the_auxiliary_loss_has_its_weight(tree, recipe_of):
    task = Segmentation(recipe_of(tree))
    logits = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)]
    labels = torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    batch = {"image": [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 2, "labels": list(labels)}
    main, auxiliary = (F.cross_entropy(x, labels.long()) for x in logits)
    torch.testing.assert_close(task.loss(lambda x: logits, batch), main + 0.4 * auxiliary)


def test_saving_and_loading_gives_the_same_model(tree, recipe_of, tmp_path):
    task = Segmentation(recipe_of(tree))
    model = task.build_model().eval()
    task.save(model, tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    x = torch.randn(1, 3, 40, 48)
    assert torch.equal(task.load(tmp_path / "saved")(x), model(x))
    with pytest.raises(FileNotFoundError, match="holds no model"):
        load_segmenter(tmp_path)
    (tmp_path / "config.json").write_text('{"detector": {}}')
    with pytest.raises(ValueError, match="holds no segmenter"):
        load_segmenter(tmp_path)


def test_dice_loss_is_that_of_a_plain_loop_without_ignored_pixels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 3, (2, 6, 5), generator=generator).to(torch.uint8)  # class 3 is nowhere
    labels[:, 0] = 255
    both, sizes = [0.0] * 4, [0.0] * 4
    for picture, row, column in ((i, y, x) for i in range(2) for y in range(1, 6) for x in range(5)):
        shares = logits[picture, :, row, column].softmax(0).tolist()
        for label, share in enumerate(shares):
            is_truth = int(labels[picture, row, column]) == label
            both[label] += share * is_truth
            sizes[label] += share + is_truth
    expected = 1 - sum((2 * b + 1) / (s + 1) for b, s in zip(both, sizes, strict=True)) / 4
    loss = dice_loss(logits, labels)
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    loss.backward()
    assert not logits.grad[:, :, 0].any()
    assert logits.grad[:, :, 1:].any()
    right = torch.nn.functional.one_hot(labels.long() % 255, 4).movedim(-1, 1) * 100.0
    assert float(dice_loss(right, labels)) == pytest.approx(0, abs=1e-6)


def test_the_number_of_labelled_pixels_makes_the_losses_of_parts_that_of_the_whole(recipe_of, tree):
    recipe = recipe_of(tree)
    recipe.segmenter.auxiliary_weight = 0.4
    task = Segmentation(recipe)
    model = task.build_model()
    labels = [torch.zeros(32, 32, dtype=torch.uint8), torch.full((32, 32), 255, dtype=torch.uint8)]
    labels[1][:2, :2] = 1
    images = list(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8))
    parts = [{"image": [image], "labels": [label]} for image, label in zip(images, labels, strict=True)]
    counts = [task.num_averaged(part) for part in parts]
    assert counts == [1024, 4]
    whole = {"image": images, "labels": labels}
    mean = sum(count * task.loss(model, part) for count, part in zip(counts, parts, strict=True)) / 1028
    torch.testing.assert_close(mean, task.loss(model, whole))
    assert task.num_averaged(whole) == 1028


@pytest.mark.parametrize(("auxiliary", "dice"), [(0.0, 0.0), (0.4, 0.0), (0.4, 0.5)])
def test_the_parts_of_the_loss_add_up_to_it(tree, recipe_of, auxiliary, dice):
    recipe = recipe_of(tree)
    recipe.segmenter = dataclasses.replace(recipe.segmenter, auxiliary_weight=auxiliary, dice_weight=dice)
    task = Segmentation(recipe)
    batch = {
        "image": [torch.zeros(3, 16, 16, dtype=torch.uint8)],
        "labels": [torch.randint(0, 3, (16, 16), dtype=torch.uint8)],
    }
    loss = task.loss(task.build_model(), batch)
    assert list(task.loss_parts) == ["loss_main", *["loss_dice"] * bool(dice), *["loss_auxiliary"] * bool(auxiliary)]
    torch.testing.assert_close(sum(task.loss_parts.values()), loss.detach())


def test_the_loss_of_an_evaluation_is_the_cross_entropy_of_the_labelled_pixels(tree, recipe_of):
    task = Segmentation(recipe_of(tree))
    model = task.build_model().eval()
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((24, 30), (17, 40))]
    labels = [torch.randint(0, 3, image.shape[1:], dtype=torch.uint8) for image in images]
    labels[0][:5] = 255
    metrics, expected, count = task.metrics(), 0.0, 0
    with torch.no_grad():
        metrics.update(task.outputs(model, {"image": images, "labels": labels}), {"labels": labels})
        for image, truth in zip(images, labels, strict=True):
            logits = model(normalized(image)[None])
            expected += float(F.cross_entropy(logits, truth[None].long(), ignore_index=255, reduction="sum"))
            count += int((truth != 255).sum())
    scores = metrics.compute(metrics.sums)
    assert scores["loss_main"] == pytest.approx(expected / count, rel=1e-5)
    assert scores["count"] == 2
