"""The pictures of a run show what they should."""

from __future__ import annotations

import numpy as np
from PIL import Image

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
