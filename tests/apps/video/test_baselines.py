"""Other projects' video models, and 2-D ones frame by frame: built by name, trainable, saved and loaded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eyetoy import create_model
from eyetoy_baselines.video import PYTORCHVIDEO, TORCHVISION
from eyetoy_train.models.build import build_classifier, load_classifier
from eyetoy_train.recipe import ModelRecipe
from eyetoy_video.task import FAMILIES

GRID = (8, 32, 32)
SMALL = {"mvit_base": {"patch_embed_dim": 16, "depth": 4, "embed_dim_mul": [[1, 2.0]], "atten_head_mul": [[1, 2.0]],
                       "pool_q_stride_size": [[1, 1, 2, 2]]}}  # fmt: skip
NAMES = [
    *(f"pytorchvideo/{name}" for name in sorted(PYTORCHVIDEO) if name not in ("x3d_s", "x3d_m", "slowfast_r101")),
    "torchvision/r3d_18",
    "torchvision/swin3d_t",
    "framewise/eyetoy2d_pico",
    "framewise/timm/convnext_atto",
]


def build(name: str, *, grid: tuple[int, ...] = GRID, **options: object) -> nn.Module:
    recipe = ModelRecipe(name=name, **options)  # type: ignore[arg-type]
    return build_classifier(recipe, num_classes=5, grid=grid, families=FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_trains_and_comes_back_from_its_files(name, tmp_path):
    model = build(name, options=SMALL.get(name.partition("/")[2], {}))
    clips = torch.randn(2, 3, *GRID)
    logits = model(clips)
    assert logits.shape == (2, 5)
    nn.functional.cross_entropy(logits, torch.tensor([0, 4])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    model.eval().save_pretrained(tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(load_classifier(tmp_path, FAMILIES)(clips), model(clips))


@pytest.mark.parametrize("name", NAMES[:-2])
def test_logits_are_no_probabilities(name):
    model = build(name, options=SMALL.get(name.partition("/")[2], {})).eval()
    with torch.inference_mode():
        sums = model(torch.randn(2, 3, *GRID)).sum(1)
    assert (sums - 1).abs().max() > 1e-4


def test_frame_wise_logits_are_the_mean_of_the_frames():
    torch.manual_seed(0)
    model = build("framewise/eyetoy2d_pico").eval()
    clip = torch.randn(1, 3, *GRID)
    with torch.inference_mode():
        each = torch.stack([model.model.model(clip[:, :, i]) for i in range(GRID[0])])
        torch.testing.assert_close(model(clip), each.mean(0))
        order = torch.randperm(GRID[0])
        torch.testing.assert_close(model(clip[:, :, order]), model(clip))


def test_a_frame_wise_model_starts_from_an_image_classifier(tmp_path):
    torch.manual_seed(0)
    images = create_model("eyetoy2d_pico", num_classes=5).eval()
    images.save_pretrained(tmp_path)
    clip = torch.randn(1, 3, *GRID)
    with torch.inference_mode():
        started = build("framewise/eyetoy2d_pico", weights=str(tmp_path)).eval()
        torch.testing.assert_close(started(clip), images(clip[0].transpose(0, 1)).mean(0, keepdim=True))


@pytest.mark.parametrize("name", ["framewise/eyetoy2d_nano", "framewise/timm/convnext_atto", "pytorchvideo/x3d_xs"])
def test_weights_of_another_model_are_refused(name, tmp_path):
    create_model("eyetoy2d_pico", num_classes=5).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="^model.weights "):
        build(name, weights=str(tmp_path))


def test_slowfast_sees_every_fourth_frame_in_its_slow_pathway(monkeypatch):
    model = build("pytorchvideo/slowfast_r50", options={"stem_dim_outs": [8, 1]}).eval()
    seen = []
    monkeypatch.setattr(model.model.model, "forward", lambda x: seen.extend(x))
    clip = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 3, *GRID)
    model.model(clip)
    assert seen[0][0, 0, :, 0, 0].tolist() == [0, 4]
    assert seen[1][0, 0, :, 0, 0].tolist() == list(range(8))


def test_frames_of_the_recipe_reach_timm_models_of_one_size():
    model = build("framewise/timm/vit_tiny_patch16_224")
    assert model(torch.randn(1, 3, *GRID)).shape == (1, 5)


@pytest.mark.parametrize("name", ["torchvision/swin3d_t", "torchvision/mvit_v2_s"])
def test_drop_path_is_the_recipes(name):
    from torchvision.ops import StochasticDepth

    grid = (16, 224, 224)
    rates = [m.p for m in build(name, grid=grid, drop_path=0.3).modules() if isinstance(m, StochasticDepth)]
    assert (min(rates), max(rates)) == (0, pytest.approx(0.3))
    assert not any(m.p for m in build(name, grid=grid).modules() if isinstance(m, StochasticDepth))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm/resnet18", {}, "framewise/..."),
        ("pytorchvideo/x3d", {}, "x3d_xs"),
        ("torchvision/resnet18", {}, "swin3d_t"),
        ("framewise/eyetoy3d_pico", {}, "a model of images"),
        ("framewise/timm/nothing", {}, "timm has no model named 'nothing'"),
        ("torchvision/r3d_18", {"drop_path": 0.1}, "model.drop_path must be 0"),
        ("torchvision/r3d_18", {"dropout": 0.1}, "model.dropout must be 0"),
        ("pytorchvideo/slow_r50", {"options": {"no": 1}}, "model.options do not fit"),
        ("torchvision/r3d_18", {"options": {"no": 1}}, "model.options do not fit"),
        ("framewise/eyetoy2d_pico", {"stem_strides": [2]}, "model.stem_strides is for this project's models"),
    ],
)
def test_what_does_not_fit_is_said(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, **options)


@pytest.mark.parametrize(
    ("name", "grid", "message"),
    [
        ("pytorchvideo/slowfast_r50", (6, 32, 32), "multiple of 4 frames; data.num_frames is 6"),
        ("pytorchvideo/x3d_s", (8, 16, 16), "32 pixels or more; got 16 x 16"),
        ("torchvision/mvit_v2_s", GRID, "16 x 224 x 224; got 8 x 32 x 32"),
    ],
)
def test_clips_that_do_not_fit_are_said(name, grid, message):
    with pytest.raises(ValueError, match=message):
        build(name, grid=grid)


def test_torchvisions_mvit_takes_the_clips_it_is_built_for():
    model = build("torchvision/mvit_v2_s", grid=(16, 224, 224)).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 16, 224, 224)).shape == (1, 5)


def test_a_missing_pytorchvideo_is_said_when_it_is_needed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytorchvideo.models.x3d", None)
    with pytest.raises(ValueError, match=r"pip install .eyetoy\[baselines\]"):
        build("pytorchvideo/x3d_s")


def test_all_of_torchvisions_names_are_there():
    from torchvision.models import list_models, video

    assert set(TORCHVISION) == set(list_models(video)) - {"s3d"}


def test_the_frame_wise_model_has_the_size_of_the_one_it_stands_beside():
    frame_wise = build("framewise/eyetoy2d_pico")
    own = create_model("eyetoy2d_pico", num_classes=5)
    count = [sum(p.numel() for p in model.parameters()) for model in (frame_wise, own)]
    assert count[0] == count[1]
