"""Digits as PNG files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from eyetoy_image.classification.datasets.digits import write_digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits") / "tree"
    write_digits(root)
    return root


def test_every_digit_is_in_one_split_with_its_own_label_and_pixels(digits):
    images, labels = load_digits(return_X_y=True)
    files = sorted(digits.rglob("*.png"), key=lambda path: path.stem)
    assert [int(path.stem) for path in files] == list(range(1797))
    assert [int(path.parent.name) for path in files] == labels.tolist()
    for path in files[::100]:
        pixels = np.asarray(Image.open(path), dtype=float)
        np.testing.assert_allclose(pixels * 16 / 255, images[int(path.stem)].reshape(8, 8), atol=0.04)


def test_a_fifth_is_for_the_test_and_a_tenth_for_validation_of_every_class(digits):
    counts = {split: len(list((digits / split).rglob("*.png"))) for split in ("train", "val", "test")}
    assert counts == {"train": 1257, "val": 180, "test": 360}
    assert all(15 <= len(list((digits / "val" / str(d)).iterdir())) <= 21 for d in range(10))


def test_an_existing_folder_is_not_touched(tmp_path):
    with pytest.raises(FileExistsError, match="exists already"):
        write_digits(tmp_path)
    assert not list(tmp_path.iterdir())
