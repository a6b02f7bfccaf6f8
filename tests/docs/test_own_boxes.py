"""Every command of the page about boxes and label maps, in its order, on small sets of each format."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyetoy_image.app import APP
from eyetoy_image.check import check
from eyetoy_train import train
from helpers.docs import app_command
from helpers.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "start" / "own_boxes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines()]
SMALL = ["--model.name", "eyetoy2d_pico", "--max_steps", "2", "--batch_size", "2", "--data.short_side", "48"]
SPLITS = ("train", "val")
BOX = (8, 6, 20, 12)
"""x, y, width and height of the one object, on pictures of 48 x 48 pixels."""


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((48, 48, 3), 60, dtype=np.uint8)
    pixels[6:18, 8:28] = 220
    Image.fromarray(pixels).save(path)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_voc(root: Path) -> None:
    sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), (9, 7, 28, 18), strict=True))
    for number in range(4):
        write_picture(root / "JPEGImages" / f"{number}.jpg")
        entry = f"<annotation><object><name>cat</name><bndbox>{sides}</bndbox></object></annotation>"
        write_text(root / "Annotations" / f"{number}.xml", entry)
    for split, names in zip(SPLITS, ("0\n1\n", "2\n3\n"), strict=True):
        write_text(root / "ImageSets" / "Main" / f"{split}.txt", names)


def write_yolo(root: Path) -> None:
    for split in SPLITS:
        for number in range(2):
            write_picture(root / "images" / split / f"{number}.jpg")
            write_text(root / "labels" / split / f"{number}.txt", "0 0.375 0.25 0.4166 0.25\n")
    write_text(root / "data.yaml", "names: [cat]\n")


def write_coco(root: Path) -> None:
    for split in SPLITS:
        for number in range(2):
            write_picture(root / split / f"{number}.jpg")
        content = {
            "images": [{"id": n + 1, "file_name": f"{n}.jpg", "width": 48, "height": 48} for n in range(2)],
            "annotations": [{"id": n + 1, "image_id": n + 1, "category_id": 1, "bbox": BOX} for n in range(2)],
            "categories": [{"id": 1, "name": "cat"}],
        }
        write_text(root / "annotations" / f"instances_{split}.json", json.dumps(content))


def write_maps(root: Path) -> None:
    for split in SPLITS:
        for number in range(2):
            write_picture(root / "images" / split / f"{number}.jpg")
            values = np.zeros((48, 48), dtype=np.uint8)
            values[6:18, 8:28] = 1
            path = root / "maps" / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    write_text(root / "classes.txt", "ground\ncat\n")


def run(words: list[str]) -> None:
    """Run a command here, a training run for two steps of a small model."""
    command = app_command(words)
    assert command
    if command.name == "train":
        train(*APP.parse_args([*command.arguments, *SMALL]))
    elif command.name == "check":
        assert check(command.arguments) == 0
    else:
        {"validate": APP.validate, "predict": APP.predict}[command.name](command.arguments)


@pytest.mark.parametrize("write", [write_voc, write_yolo, write_coco, write_maps], ids=lambda write: write.__name__)
def test_from_a_folder_to_a_drawn_prediction(write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    is_maps = write is write_maps
    write(tmp_path / "my" / ("maps" if is_maps else "boxes"))
    write_picture(tmp_path / "my" / "new" / "1.jpg")
    commands = [
        words for words in COMMANDS if ("maps" in " ".join(words) or "segmentation" in " ".join(words)) == is_maps
    ]
    assert len(commands) == (4 if is_maps else 5)
    for words in commands:
        run(words)
    drawn = tmp_path / ("drawn-maps" if is_maps else "drawn") / "1.png"
    with Image.open(drawn) as picture:
        assert picture.size[0] >= 48  # a label map has a legend below, which is wider than so small a picture
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert scores["count"] == 2
    assert ("mIoU" if is_maps else "box_AP") in scores
    if not is_maps:
        assert isinstance(json.loads((tmp_path / "found.json").read_text()), list)
        clean = json.loads((tmp_path / "my" / "clean" / "instances_val.json").read_text())
        assert [entry["bbox"] for entry in clean["annotations"]] == [pytest.approx(BOX, abs=0.01)] * 2
        said = {write_voc: "PASCAL VOC's", write_yolo: "YOLO's", write_coco: "COCO's"}[write]
        line = f"data: 1 class; samples: train 2, val 2; {said} format; boxes: train 2, val 2"
        assert line in capsys.readouterr().out
