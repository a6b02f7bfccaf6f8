"""Boxes and masks over pictures."""

from __future__ import annotations

import dataclasses
import itertools
import warnings

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from eyetoy_image.detection.curves import draw_precisions
from eyetoy_image.detection.figures import Objects, draw_objects
from eyetoy_image.figures import (
    Panel,
    Rect,
    caption_place,
    class_color,
    draw_sheet,
    fitted,
    letters_of,
    shrunk,
    tile,
)
from eyetoy_image.segmentation.figures import draw_named_labels


def test_masks_tint_their_pixels_those_that_two_share_too_and_no_others():
    image = torch.full((3, 60, 80), 100, dtype=torch.uint8)
    masks = torch.zeros(2, 60, 80, dtype=torch.bool)
    masks[0, 25:45, 15:45], masks[1, 25:45, 35:65] = True, True
    boxes = torch.tensor([[10.0, 10, 50, 50], [30, 10, 70, 50]])
    drawn = draw_objects(image, Objects(boxes, torch.tensor([1, 2]), ["", ""], masks))
    one, both, other = (drawn[:, 35, x].tolist() for x in (20, 40, 60))
    assert one != other
    assert one != both != other
    assert min(sum(color) for color in (one, both, other)) > 100
    assert drawn[:, 57, 5].tolist() == [100] * 3
    assert (drawn[:, 10, 20] != 100).any()  # the box's line
    assert torch.equal(image, torch.full_like(image, 100))


def test_a_small_picture_is_enlarged_with_its_objects():
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    masks = torch.zeros(1, 20, 30, dtype=torch.bool)
    masks[0, 10:, 15:] = True
    drawn = draw_objects(
        image, Objects(torch.tensor([[15.0, 10, 30, 20]]), torch.tensor([1]), ["a"], masks), least_side=60
    )
    assert drawn.shape == (3, 60, 90)
    assert drawn[:, 50, 80].any()
    assert not drawn[:, 20, 20].any()


def test_nothing_found_leaves_the_picture():
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    empty = Objects(torch.zeros(0, 4), torch.zeros(0).long(), [], torch.zeros(0, 20, 30, dtype=torch.bool))
    assert torch.equal(draw_objects(image, empty), image)


def test_pictures_of_different_sizes_stand_in_a_grid():
    sheet = tile([torch.zeros(3, 4, 6, dtype=torch.uint8), torch.zeros(3, 5, 3, dtype=torch.uint8)], columns=1)
    assert sheet.shape == (3, 10, 6)
    assert sheet[:, 4].unique().tolist() == [255]


GRID = (60, 100)  # height, width


@pytest.mark.parametrize("size", [(30, 12), (100, 12), (99, 60)])
@pytest.mark.parametrize(
    "box", [(10, 20, 40, 50), (0, 0, 20, 20), (80, 0, 100, 10), (95, 55, 100, 60), (-5, -5, 120, 70), (40, 59, 41, 60)]
)
def test_a_caption_lies_inside_of_the_picture(box, size):
    place = caption_place(Rect(*box), size, GRID)
    assert (place.right - place.left, place.bottom - place.top) == size
    assert 0 <= place.left <= place.right <= GRID[1]
    assert 0 <= place.top <= place.bottom <= GRID[0]


def test_captions_of_one_place_do_not_cover_each_other():
    taken = []
    for _ in range(3):
        taken.append(caption_place(Rect(10, 20, 50, 45), (30, 10), GRID, taken))
    assert not any(one.overlaps(other) for one, other in itertools.combinations(taken, 2))


@pytest.mark.parametrize(
    "text",
    ["7 93%", "\u732b and \ud55c\uad6d", "a long name of a class, wider than any picture", "two\nlines", ""],
)
def test_a_text_is_cut_to_its_width_and_has_one_line(text):
    letters = letters_of(12, text)
    cut, (width, _) = fitted(text, letters, 80)
    assert "\n" not in cut
    assert letters.getlength(cut) <= width <= 80
    assert cut == " ".join(text.split()) or cut.endswith("…")


@pytest.mark.parametrize("box", [[0.0, 0, 30, 30], [85, 0, 100, 20], [70, 50, 100, 60]])
def test_a_drawn_caption_is_whole(box):
    """Its background has all the pixels that it would have in the middle, but for its letters."""
    counts = []
    for where in (box, [30.0, 20, 60, 40]):
        objects = Objects(torch.tensor([where]), torch.tensor([1]), ["7 93%"])
        plain = draw_objects(torch.zeros(3, *GRID, dtype=torch.uint8), dataclasses.replace(objects, captions=[""]))
        named = draw_objects(torch.zeros(3, *GRID, dtype=torch.uint8), objects)
        counts.append(int((named != plain).any(0).sum()))
    assert counts[0] >= 0.8 * counts[1]  # lines of the box may lie below it


def test_a_sheet_has_a_legend_of_the_classes_on_it_and_titles():
    black = torch.zeros(3, 20, 90, dtype=torch.uint8)
    panels = [Panel("truth", black, frozenset({1})), Panel("prediction", black, frozenset({1, 3}))]
    sheet = draw_sheet(panels, 2, ["a", "b", "c"], first_label=1)
    colors = {tuple(color) for color in sheet.flatten(1).T.tolist()}
    assert {class_color(1), class_color(3)} <= colors
    assert class_color(2) not in colors
    assert sheet.shape[2] == 2 * 90 + 3 * 6
    bare = draw_sheet([dataclasses.replace(panel, labels=frozenset()) for panel in panels], 2, ["a", "b", "c"])
    assert bare.shape[1] < sheet.shape[1]


@pytest.mark.parametrize(
    ("size", "shown"),
    [((1200, 3000), (205, 512)), ((512, 300), (512, 300)), ((3, 4000), (1, 512)), ((20, 90), (20, 90))],
)
def test_a_panel_of_a_photo_is_shrunk(size, shown):
    panel = shrunk(Panel("truth", torch.full((3, *size), 7, dtype=torch.uint8), frozenset({1})))
    assert panel.picture.shape == (3, *shown)
    assert panel.picture.unique().tolist() == [7]
    assert (panel.title, panel.labels) == ("truth", {1})


@pytest.mark.parametrize("name", ["$10%$20", "$x_1_2$", "_hidden", "\u732b", "a name of a class " * 9])
def test_precisions_are_drawn_for_classes_of_any_name(name, tmp_path):
    precisions = torch.linspace(1, 0, 101)[None, :, None] * torch.tensor([1.0, 0.2]) * torch.ones(10, 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_precisions({"boxes": precisions}, [name, "other"], tmp_path / "named.png")
    draw_precisions({"boxes": precisions}, ["plain", "other"], tmp_path / "plain.png")
    named, plain = (Image.open(tmp_path / f"{one}.png").convert("RGB") for one in ("named", "plain"))
    assert named.size == plain.size
    # The first class has its line in both; a long name leaves room for the curves.
    color = torch.tensor(class_color(1)) * 0.75
    counts = [int(((pil_to_tensor(one).movedim(0, -1) - color).abs().amax(-1) < 9).sum()) for one in (named, plain)]
    assert counts[1] > 100
    assert counts[0] > 0.6 * counts[1]


def test_labels_leave_a_background_clear_and_darken_borders():
    image = torch.full((3, 6, 9), 200, dtype=torch.uint8)
    labels = torch.zeros(6, 9, dtype=torch.uint8)
    labels[:, 4:] = 2
    drawn = draw_named_labels(image, labels, ["Background", "a", "b"])
    assert drawn[:, 0, 0].tolist() == [200] * 3
    assert drawn[:, 0, 3].tolist() == [50] * 3  # the border
    assert drawn[:, 0, 6].tolist() != [200] * 3
    assert (drawn[:, 6:] == torch.tensor(class_color(2))[:, None, None]).all(0).any()  # in the legend
    assert not (drawn[:, 6:] == torch.tensor(class_color(0))[:, None, None]).all(0).any()
