"""The pictures of a run show what they should."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from eyetoy_train.report import figures
from eyetoy_train.report.figures import LabelledSample, draw_confusion, draw_curves, draw_samples


def test_every_sample_is_drawn(tmp_path):
    drawn = []
    shades = [0.1, 0.5, 0.9, 0.3, 0.7, 0.2, 0.6]
    samples = [
        LabelledSample(
            draw=lambda axes, shade=shade: drawn.append(axes.imshow([[shade]], vmin=0, vmax=1, cmap="gray")),
            truth="a",
            prediction="a" if shade < 0.8 else "b",
            confidence=0.5,
            is_right=shade < 0.8,
        )
        for shade in shades
    ]
    draw_samples(samples, tmp_path / "samples.png")
    pixels = np.asarray(Image.open(tmp_path / "samples.png").convert("RGB"))
    assert len(drawn) == len(shades)
    for shade in shades:
        gray = round(shade * 255)
        assert (np.abs(pixels.astype(int) - gray).max(-1) <= 2).sum() > 1000, shade


def test_curves_are_drawn_from_the_first_epoch_on(tmp_path):
    lines = [
        {"epoch": e, "train_loss": 1 / e, "grad_norm": 1.0, "grad_norm_max": 2.0}
        | ({"val": {"loss": 2 / e, "accuracy": 1 - 1 / e}} if e != 2 else {})
        for e in (1, 2, 3)
    ]
    sizes = []
    for count in (1, 3):
        draw_curves(lines[:count], "accuracy", tmp_path / f"{count}.png")
        sizes.append(np.asarray(Image.open(tmp_path / f"{count}.png").convert("RGB")))
    assert sizes[0].shape == sizes[1].shape
    assert (sizes[0] != sizes[1]).any()


def test_a_confusion_matrix_is_drawn(tmp_path):
    for name, matrix in (("right", [[5, 0], [0, 5]]), ("wrong", [[0, 5], [5, 0]])):
        draw_confusion(matrix, ["a", "b"], tmp_path / f"{name}.png")
    right, wrong = (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) for name in ("right", "wrong"))
    assert right.shape == wrong.shape
    assert (right != wrong).any()


@pytest.mark.parametrize("count", [3, 101, 1000])
def test_names_of_many_classes_do_not_overlap_in_a_confusion_matrix(monkeypatch, tmp_path, count):
    drawn = {}
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: drawn.update({path: figure}))
    draw_confusion(np.eye(count).tolist(), [f"class {i}" for i in range(count)], tmp_path / "confusion.png")
    (figure,) = drawn.values()
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    labels = axes.get_yticklabels()
    assert len(labels) == {3: 3, 101: 51, 1000: 100}[count]
    assert [label.get_text() for label in labels] == [f"class {place:.0f}" for place in axes.get_yticks()]
    extents = [label.get_window_extent() for label in labels]
    assert all(after.y1 <= before.y0 + 3 for before, after in pairwise(extents))


def line_of(epoch, **values):
    return {"epoch": epoch, "train_loss": 1.0, "grad_norm": 1.0, "grad_norm_max": 2.0, **values}


def drawn_lines(monkeypatch, lines, tmp_path):
    """Return the points of every line of the curves, by panel, those that are marked only."""
    found = {}

    def look(figure, path):
        for axes in figure.axes:
            found[axes.get_ylabel()] = [
                (line.get_label(), line.get_xydata().tolist()) for line in axes.get_lines() if line.get_marker() == "o"
            ]
            found[axes.get_ylabel()] += [text.get_text() for text in axes.texts]

    monkeypatch.setattr(figures, "save_figure", look)
    draw_curves(lines, "mAP", tmp_path / "curves.png")
    return found


def test_a_single_evaluation_is_a_point_and_none_is_a_sentence(monkeypatch, tmp_path):
    once = [line_of(1), line_of(2, val={"mAP": 0.25}), line_of(3)]
    ((_, points),) = drawn_lines(monkeypatch, once, tmp_path)["validation mAP"]
    assert points == [[2, 0.25]]
    assert drawn_lines(monkeypatch, [line_of(1)], tmp_path)["validation mAP"] == ["no evaluation was made"]
    labels = [label for label, _ in drawn_lines(monkeypatch, [line_of(1)], tmp_path)["loss"]]
    assert labels == ["training"], "without an evaluation there is no curve of one, and no name of one"


def test_parts_of_the_loss_have_a_panel_with_those_of_the_validation_set(monkeypatch, tmp_path):
    parts = {"train_loss_box": 0.4, "train_loss_mask": 0.6}
    lines = [line_of(1, **parts), line_of(2, **parts, val={"mAP": 0.2, "loss": 2.0, "loss_mask": 1.5})]
    found = drawn_lines(monkeypatch, lines, tmp_path)
    panel = found["parts of the loss (dashed, open: validation)"]
    assert [points for _, points in panel] == [[[1, 0.4], [2, 0.4]], [[1, 0.6], [2, 0.6]], [[2, 1.5]]]
    assert [label for label, _ in panel][:2] == ["loss_box", "loss_mask"]
    assert dict(found["loss"])["validation"] == [[2, 2.0]]


def test_a_loss_of_one_part_has_its_curve_of_the_validation_set(monkeypatch, tmp_path):
    lines = [line_of(1, train_loss_main=1.0, val={"mAP": 0.2, "loss_main": 2.0})]
    assert dict(drawn_lines(monkeypatch, lines, tmp_path)["loss"]) == {"training": [[1, 1.0]], "validation": [[1, 2.0]]}
