"""CCT: the sizes of its paper, that positions and every pixel count, and that a recipe builds and reads it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from eyetoy_baselines.image import CCT
from eyetoy_image.classification.task import FAMILIES
from eyetoy_train.models.build import build_classifier, load_classifier
from eyetoy_train.recipe import ModelRecipe

SMALL = {"dim": 16, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize(
    ("depth", "convolutions", "dim", "num_heads", "mlp_ratio", "published"),
    [(7, 1, 256, 4, 2, 3.76), (2, 2, 128, 2, 1, 0.28)],
)
def test_ccts_of_the_paper_have_its_parameters(depth, convolutions, dim, num_heads, mlp_ratio, published):
    model = CCT(
        num_classes=10, depth=depth, convolutions=convolutions, dim=dim, num_heads=num_heads, mlp_ratio=mlp_ratio
    )
    biases = depth * 3 * dim  # of queries, keys and values, which the paper's have not
    count = sum(parameter.numel() for parameter in model.parameters()) - biases
    assert round(count / 1e6, 2) == published


@pytest.mark.parametrize(
    ("grid", "convolutions", "tokens"), [((32, 32), 1, 256), ((33, 20), 1, 170), ((33, 20), 2, 45)]
)
def test_a_gradient_reaches_every_parameter_and_every_pixel(device, grid, convolutions, tokens):
    torch.manual_seed(0)
    model = CCT(num_classes=3, grid=grid, convolutions=convolutions, **SMALL).to(device)
    assert model.positions.shape == (tokens, 16)
    x = torch.randn(4, 3, *grid, device=device, requires_grad=True)
    F.cross_entropy(model(x), torch.tensor([0, 1, 2, 0], device=device)).backward()
    for parameter in model.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()
    # Some pixels win no maximum; most do.
    assert (x.grad != 0).float().mean() > 0.9


def test_tokens_are_weighed_before_they_are_summed():
    torch.manual_seed(0)
    model = CCT(num_classes=3, grid=(8, 8), **SMALL).eval()
    x = torch.randn(2, 3, 8, 8)
    torch.nn.init.zeros_(model.weigh.weight)
    tokens = model.norm(model.blocks(model.tokenizer(x).flatten(2).mT + model.positions))
    torch.testing.assert_close(model(x), model.head(tokens.mean(1)))  # equal weights make a mean
    torch.nn.init.normal_(model.weigh.weight)
    assert not torch.allclose(model(x), model.head(tokens.mean(1)), atol=1e-3)


def test_a_recipe_builds_it_for_its_pictures_and_it_comes_back_from_its_files(tmp_path):
    recipe = ModelRecipe(name="baseline/cct", drop_path=0.1, options=SMALL)
    model = build_classifier(recipe, num_classes=5, in_channels=1, grid=(24, 24), families=FAMILIES).eval()
    assert model.model.blocks[-1].drop_path == pytest.approx(0.1)
    model.save_pretrained(tmp_path)
    x = torch.randn(2, 1, 24, 24)
    with torch.inference_mode():
        torch.testing.assert_close(load_classifier(tmp_path, FAMILIES)(x), model(x))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cvt", {}, "there is no baseline named 'cvt'; there is cct"),
        ("cct", {"dim": 10, "num_heads": 4}, "dim is 10; it should be a multiple of num_heads, 4"),
        ("cct", {"patch": 4}, "do not fit cct.*'patch'"),
    ],
)
def test_what_cannot_be_built_is_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_classifier(
            ModelRecipe(name=f"baseline/{name}", options=options), num_classes=5, grid=(32, 32), families=FAMILIES
        )
