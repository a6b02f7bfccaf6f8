"""Each layout: pictures find their label maps, and values their classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eyetoy_image.dense.composed import write_composed_digits
from eyetoy_image.segmentation import Segmentation, SegmentationData, SegmentationRecipe
from eyetoy_image.segmentation.check import check
from eyetoy_image.segmentation.datasets import DATASETS
from eyetoy_image.segmentation.datasets.dataset import SegmentationDataset


def read_set(data):
    return DATASETS.open(data, 0).set


def stripes(*values: int) -> np.ndarray:
    return np.repeat(values, 40 // len(values))[None].repeat(30, 0)


def write(root: Path, picture: str, label_map: str, *values: int, palette: bool = False) -> None:
    for path in (root / picture, root / label_map):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(root / picture)
    written = Image.fromarray(stripes(*values).astype(np.uint8))
    if palette:
        written.putpalette([value for place in range(256) for value in (place, 255 - place, 7)])
    written.save(root / label_map)


def labels(found, split: str) -> list[int]:
    """The labels of the first picture of a split, from left to right."""
    row = SegmentationDataset(found.splits[split], found.table)[0]["labels"][0].tolist()
    return [label for label, last in zip(row, [None, *row], strict=False) if label != last]


def test_ade20k(tmp_path):
    base = "ADEChallengeData2016"
    for split in ("training", "validation"):
        name = f"ADE_{split[:5]}_00000001"
        write(tmp_path, f"{base}/images/{split}/{name}.jpg", f"{base}/annotations/{split}/{name}.png", 0, 1, 150, 2)
    data = SegmentationData(source="ade20k", root=str(tmp_path))
    found = read_set(data)
    assert labels(found, "train") == labels(found, "val") == [255, 0, 149, 1]
    assert found.classes[:2] == ("1", "2")
    lines = ["Idx\tRatio\tTrain\tVal\tName", *(f"{i}\t0.1\t10\t1\tname{i}, other" for i in range(1, 151))]
    (tmp_path / base / "objectInfo150.txt").write_text("\n".join(lines))
    assert read_set(data).classes[149] == "name150"
    (tmp_path / base / "objectInfo150.txt").write_text("\n".join(lines), encoding="utf-8-sig")
    assert read_set(data).classes[149] == "name150"
    assert "test" not in found.splits


def test_cityscapes(tmp_path):
    for split in ("train", "val"):
        name = "aachen_000000_000019"
        place = f"{split}/aachen/{name}"
        write(tmp_path, f"leftImg8bit/{place}_leftImg8bit.png", f"gtFine/{place}_gtFine_labelIds.png", 7, 0, 33, 4)
    found = read_set(SegmentationData(source="cityscapes", root=str(tmp_path)))
    assert len(found.classes) == 19
    assert labels(found, "train") == [0, 255, 18, 255]


def test_voc2012_and_its_palette(tmp_path):
    base = "VOCdevkit/VOC2012"
    for split in ("train", "val"):
        name = f"2007_{split}"
        write(
            *(tmp_path, f"{base}/JPEGImages/{name}.jpg", f"{base}/SegmentationClass/{name}.png", 0, 255, 20, 15),
            palette=True,
        )
        lists = tmp_path / base / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text(f"{name}\n")
    found = read_set(SegmentationData(source="voc2012", root=str(tmp_path)))
    assert labels(found, "val") == [0, 255, 20, 15]
    assert found.classes[20] == "tvmonitor"


def test_a_folder_with_names_and_values_that_are_ignored(tmp_path):
    write(tmp_path, "images/train/a.png", "maps/train/a.png", 0, 1, 2, 255)
    (tmp_path / "classes.txt").write_text("sea\nsand\n")
    found = read_set(SegmentationData(root=str(tmp_path), ignored=[0, 255]))
    assert found.classes == ("sea", "sand")
    assert labels(found, "train") == [255, 0, 1, 255]


def test_the_list_of_classes_may_begin_with_a_byte_order_mark(tmp_path):
    write(tmp_path, "images/train/a.png", "maps/train/a.png", 0, 1)
    (tmp_path / "classes.txt").write_text("sea\nsand\n\n", encoding="utf-8-sig")
    assert read_set(SegmentationData(root=str(tmp_path))).classes == ("sea", "sand")


def test_an_empty_line_does_not_shift_the_classes(tmp_path):
    write(tmp_path, "images/train/a.png", "maps/train/a.png", 0, 2)
    (tmp_path / "classes.txt").write_text("bottom\n\ntop\n")
    with pytest.raises(ValueError, match=r"classes.txt should name the classes.* its line 2 is an empty line"):
        read_set(SegmentationData(root=str(tmp_path)))


def test_a_folder_without_names_has_the_classes_of_its_training_maps(tmp_path):
    write(tmp_path, "images/train/a.png", "maps/train/a.png", 0, 3, 255, 1)
    assert read_set(SegmentationData(root=str(tmp_path))).classes == ("0", "1", "2", "3")


def test_split_folders_may_be_called_otherwise_in_images_and_maps(tmp_path, capsys):
    for pictures, maps in (("Train", "training"), ("Val", "VALIDATION"), ("testing", "test")):
        write(tmp_path, f"images/{pictures}/a.png", f"maps/{maps}/a.png", 0, 1)
    task = Segmentation(SegmentationRecipe(data=SegmentationData(root=str(tmp_path))))
    task.prepare()
    assert {split: labels(task.source.set, split) for split in task.source.set.splits} == {
        "train": [0, 1],
        "val": [0, 1],
        "test": [0, 1],
    }
    assert capsys.readouterr().err == "data: 2 classes; samples: train 1, val 1, test 1\n"


@pytest.mark.parametrize("name", ["._a.png", ".ipynb_checkpoints/b.png", "@eaDir/c.png"])
def test_hidden_files_of_a_folder_are_no_pictures(tmp_path, name):
    for split in ("train", "val"):
        for kind in ("images", "maps"):
            write(tmp_path, f"images/{split}/a.png", f"maps/{split}/a.png", 0, 1)
            hidden = tmp_path / kind / split / name
            hidden.parent.mkdir(exist_ok=True)
            hidden.write_bytes(b"not a picture")
    found = read_set(SegmentationData(root=str(tmp_path)))
    assert {split: [picture.path.name for picture in pictures] for split, pictures in found.splits.items()} == {
        "train": ["a.png"],
        "val": ["a.png"],
    }


@pytest.mark.parametrize(("name", "other"), [("annotations", "masks"), ("labels", "annotations"), ("masks", "labels")])
def test_the_folder_of_label_maps_may_be_called_otherwise(tmp_path, name, other):
    for split in ("train", "val"):
        write(tmp_path, f"images/{split}/a.png", f"{name}/{split}/a.png", 0, 1)
    (tmp_path / other).mkdir()
    (tmp_path / other / "instances_train.json").write_text("{}")  # of another task
    assert labels(read_set(SegmentationData(root=str(tmp_path))), "val") == [0, 1]
    write(tmp_path, "images/train/a.png", f"{other}/train/a.png", 1, 0)
    with pytest.raises(ValueError, match=r"has label maps in \w+ and in \w+; rename the folder to read to maps"):
        read_set(SegmentationData(root=str(tmp_path)))
    (tmp_path / other).rename(tmp_path / "maps")
    assert labels(read_set(SegmentationData(root=str(tmp_path))), "train") == [1, 0]


@pytest.mark.parametrize(
    ("place", "counts"),
    [("/train", {"train": 9, "val": 1}), ("", {"train": 7, "val": 1, "test": 2})],
)
def test_pictures_are_held_out_where_splits_are_missing(tmp_path, place, counts):
    for number in range(10):
        write(tmp_path, f"images{place}/{number}.png", f"maps{place}/{number}.png", 0, 1)
    source = DATASETS.open(SegmentationData(root=str(tmp_path)), 0)
    source.prepare()
    assert {split: len(pictures) for split, pictures in source.set.splits.items()} == counts
    names = [picture.path.name for pictures in source.set.splits.values() for picture in pictures]
    assert len(set(names)) == len(names) == 10
    assert source.inventory(counts).describe().count("(held out)") == len(counts) - 1
    again, other = (DATASETS.open(SegmentationData(root=str(tmp_path)), seed).set.splits for seed in (0, 1))
    assert again == source.set.splits != other


def test_two_folders_of_one_split_are_refused(tmp_path):
    for name in ("train", "val", "dev"):
        write(tmp_path, f"images/{name}/a.png", f"maps/{name}/a.png", 0, 1)
    with pytest.raises(ValueError, match="val and dev, which both name the val split"):
        read_set(SegmentationData(root=str(tmp_path)))


def test_the_run_says_what_it_read_and_what_it_left_out(tmp_path, capsys):
    for name in ("train", "val"):
        write(tmp_path, f"images/{name}/a.png", f"maps/{name}/a.png", 0, 1)
    for name in ("notes.md", "raw/x", "images/x", "images/extra/a.png", "maps/test/a.png", "images/val/deep/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in ("images/val/b.heic", "maps/val/c.npy", "maps/train/.DS_Store"):
        (tmp_path / name).write_text("x")
    Segmentation(SegmentationRecipe(data=SegmentationData(root=str(tmp_path)))).prepare()
    assert capsys.readouterr().err.splitlines() == [
        "data: 2 classes; samples: train 1, val 1; left out: 1 files beside images and maps, "
        "1 files beside the split folders, 2 files of other types, 1 folders in folders of pictures, "
        "1 folders that are no split (extra), 2 folders that are not read (raw, maps/test), 1 hidden or system files"
    ]


def test_without_split_folders_only_what_is_not_read_is_left_out(tmp_path):
    for number in range(4):
        write(tmp_path, f"images/{number}.png", f"maps/{number}.png", 0, 1)
    source = DATASETS.open(SegmentationData(root=str(tmp_path)), 0)
    source.prepare()
    assert not sum(source.left_out.values())
    for name in ("images/notes.md", "images/.DS_Store", "images/deep/a.png", "maps/more/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    source = DATASETS.open(SegmentationData(root=str(tmp_path)), 0)
    source.prepare()
    assert {reason: count for reason, count in source.left_out.items() if count} == {
        "files of other types": 1,
        "hidden or system files": 1,
        "folders in folders of pictures": 2,
    }


def test_classes_on_no_map_of_a_split_are_named(tmp_path, capsys):
    (tmp_path / "classes.txt").write_text("sky\nsea\nsand\n")
    write(tmp_path, "images/train/a.png", "maps/train/a.png", 0, 1)
    write(tmp_path, "images/val/a.png", "maps/val/a.png", 0, 2)
    Segmentation(SegmentationRecipe(data=SegmentationData(root=str(tmp_path)))).prepare()
    assert capsys.readouterr().err.splitlines()[1:] == [
        "warning: classes without a sample for training, which no model can learn: sand; val or test have some of sand",
        "warning: classes without a sample in val, whose score there says nothing of them: sea",
    ]


@pytest.mark.parametrize("other", ["images/val/a.jpg", "maps/val/a.PNG"])
def test_two_files_of_one_name_are_refused(tmp_path, other):
    for name in ("train", "val"):
        write(tmp_path, f"images/{name}/a.png", f"maps/{name}/a.png", 0, 1)
    (tmp_path / other).write_text("x")
    with pytest.raises(ValueError, match="a picture and its label map share one name"):
        read_set(SegmentationData(root=str(tmp_path)))


def test_a_split_without_a_picture_is_refused_and_maps_may_end_in_upper_case(tmp_path):
    write(tmp_path, "images/train/a.JPG", "maps/train/a.PNG", 0, 1)
    assert read_set(SegmentationData(root=str(tmp_path))).splits["train"][0].map.name == "a.PNG"
    (tmp_path / "images" / "test").mkdir()
    with pytest.raises(FileNotFoundError, match="found no picture ending in .*images/test"):
        read_set(SegmentationData(root=str(tmp_path)))


def test_composed_digits(tmp_path):
    write_composed_digits(tmp_path / "data", train=1, val=1, test=1, size=64)
    found = read_set(SegmentationData(source="composed_digits", root=str(tmp_path / "data")))
    assert found.classes == ("background", *map(str, range(10)))
    truth = np.asarray(Image.open(tmp_path / "data" / "maps" / "test" / "00000.png"))
    sample = SegmentationDataset(found.splits["test"], found.table)[0]
    assert np.array_equal(sample["labels"].numpy(), truth)


@pytest.mark.parametrize(
    ("source", "told"),
    [("ade20k", "0.9 GB"), ("cityscapes", "11 GB"), ("voc2012", "2 GB"), ("folder", "images/train")],
)
def test_what_is_missing_is_told_with_what_fetches_it(tmp_path, source, told):
    with pytest.raises(FileNotFoundError) as error:
        read_set(SegmentationData(source=source, root=str(tmp_path / "nowhere")))
    assert told in str(error.value)
    assert str(tmp_path / "nowhere") in str(error.value)


def test_scenes_are_held_out_whole_or_told(tmp_path, capsys):
    for number in range(12):
        name = f"scene{number // 3}_{number % 3}.png"
        write(tmp_path, f"images/{name}", f"maps/{name}", 0, 1)
    options = ["--config", "own_segmentation", f"--data.root={tmp_path}"]
    check(options)
    assert "warning: names suggest groups that are in several splits: scene" in capsys.readouterr().out
    assert check([*options, "--data.group_pattern=^([^_]+)_"]) == 0
    said = capsys.readouterr().out
    assert "train 6 of 2 groups, val 3 of 1 group (held out), test 3 of 1 group (held out)" in said
    assert "warning" not in said
