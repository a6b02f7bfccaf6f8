"""Sets as Hugging Face's hub keeps them: pictures and label maps in two columns of Parquet files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as Pillow

from eyetoy_image.dense.annotations import BadAnnotationsError
from eyetoy_image.segmentation import Segmentation, SegmentationData, SegmentationRecipe
from eyetoy_image.segmentation.check import check


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels.astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def label_map(number: int) -> np.ndarray:
    return np.repeat([0, 2, 1 + number % 2, 255], 10)[None].repeat(30, 0)


def write_set(root: Path, columns: tuple[str, str] = ("image", "annotation"), spoil=None, **more: str) -> Path:
    """Write 20 pictures for training and 4 for the test; the picture and the map of a number are told by it."""
    image, labels = columns
    features = Features({image: Image(), labels: Image(), "note": Value("string")} | dict.fromkeys(more, Image()))
    (root / "data").mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 20), ("test", 4)):
        rows = [
            {
                image: {"bytes": encoded(np.full((30, 40, 3), 100 + number)), "path": None},
                labels: {"bytes": encoded(label_map(number)), "path": None},
                "note": str(number),
            }
            | {name: {"bytes": encoded(np.zeros((30, 40))), "path": None} for name in more}
            for number in range(count)
        ]
        if spoil is not None:
            spoil(rows)
        Dataset.from_list(rows, features=features).to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")
    return root


def task(root: Path, **options) -> Segmentation:
    return Segmentation(SegmentationRecipe(data=SegmentationData(source="hub", root=str(root), **options)))


@pytest.mark.parametrize("columns", [("image", "annotation"), ("pixel_values", "label")])
def test_pictures_and_label_maps_belong_together(tmp_path, columns):
    found = task(write_set(tmp_path / "set", columns))
    found.prepare()
    assert list(found.classes) == ["0", "1", "2"]
    assert [len(found.checked(split)) for split in ("train", "val", "test")] == [18, 2, 4]
    dataset = found.dataset("test")
    for number in range(4):
        sample = dataset[number]
        assert int(sample["image"].unique()) == 100 + number
        assert np.array_equal(sample["labels"].numpy(), label_map(number))


def test_named_classes_columns_and_splits(tmp_path):
    root = write_set(tmp_path / "set", ("photo", "mask"), depth="")
    (tmp_path / "names.txt").write_text("sky\nsea\nsand\nrock\n")
    chosen = {"image_column": "photo", "label_column": "mask", "splits": {"val": "test"}}
    found = task(root, classes=str(tmp_path / "names.txt"), **chosen)
    assert list(found.classes) == ["sky", "sea", "sand", "rock"]
    assert [found.checked(split) is None for split in ("train", "val", "test")] == [False, False, True]
    with pytest.raises(FileNotFoundError, match=r"data\.classes must be a file .*nothing\.txt is not there"):
        task(root, classes="nothing.txt", **chosen).prepare()


@pytest.mark.parametrize("options", [{}, {"image_column": "photo"}, {"image_column": "photo", "label_column": "note"}])
def test_columns_that_are_not_clear_are_asked_for(tmp_path, options):
    root = write_set(tmp_path / "set", ("photo", "mask"), depth="")
    with pytest.raises(ValueError, match=r"columns of pictures photo, mask, depth; name .* by data\.image_column and"):
        task(root, **options).prepare()


def spoil(rows: list[dict]) -> None:
    rows[0]["annotation"] = None
    rows[1]["annotation"] = {"bytes": encoded(label_map(1)[:20]), "path": None}
    rows[2]["image"] = {"bytes": b"damaged", "path": None}
    rows[3]["image"] = None


def test_bad_ones_are_named_and_stop_a_run_or_are_left_out(tmp_path, capsys):
    root = write_set(tmp_path / "set", spoil=spoil)
    with pytest.raises(BadAnnotationsError, match="1 missing map, 1 missing picture, 1 broken picture") as error:
        task(root, splits={"val": "test"}).prepare()
    assert "map of another size: annotation 1 of " in str(error.value)
    left = task(root, splits={"val": "test"}, bad_annotations="skip")
    left.prepare()
    assert [len(left.checked(split)) for split in ("train", "val")] == [16, 0]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"task: segmentation\ndata:\n  source: hub\n  root: {root}\n  splits: {{val: test}}\n")
    capsys.readouterr()
    assert check(["--config", str(recipe)]) == 1
    assert "missing map: annotation 0 of " in capsys.readouterr().out
