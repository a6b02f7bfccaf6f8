"""Options that the data would not read are refused, in every app: otherwise somebody counts on them."""

from __future__ import annotations

from typing import Any

import pytest

from eyetoy_audio.datasets import DATASETS as SOUNDS
from eyetoy_audio.recipe import AudioAugmentation, AudioData
from eyetoy_image.classification.datasets import DATASETS as PICTURES
from eyetoy_image.classification.recipe import ImageData
from eyetoy_image.detection.datasets import DATASETS as BOXES
from eyetoy_image.detection.recipe import DetectionData
from eyetoy_image.segmentation.datasets import DATASETS as MAPS
from eyetoy_image.segmentation.recipe import SegmentationData
from eyetoy_video.datasets import DATASETS as CLIPS
from eyetoy_video.recipe import VideoData

APPS = {"image": (PICTURES, ImageData), "audio": (SOUNDS, AudioData), "video": (CLIPS, VideoData)}
HUB: dict[str, Any] = {
    "splits": {"val": "test"},
    "label_column": "label",
    "config": "en",
    "revision": "main",
    "streaming": True,
}


@pytest.mark.parametrize("name", HUB)
@pytest.mark.parametrize("app", APPS)
def test_options_of_the_hub_are_for_the_hub(app, name, tmp_path):
    registry, data = APPS[app]
    told = rf"^data\.{name}=.* is for data.source hub, and data.source is folder; leave it out, or set it to "
    with pytest.raises(ValueError, match=told):
        registry.open(data(root=str(tmp_path), **{name: HUB[name]}), 0)


@pytest.mark.parametrize(
    ("registry", "data", "told"),
    [
        (MAPS, SegmentationData(source="cityscapes", values=[3, 4]), "data.values=.* folder or hub.* is cityscapes"),
        (MAPS, SegmentationData(source="voc2012", ignored=[0]), "data.ignored=.* folder or hub.* is voc2012"),
        (MAPS, SegmentationData(image_column="photo"), "data.image_column=photo is for data.source hub"),
        (MAPS, SegmentationData(classes="names.txt"), "data.classes=names.txt is for data.source hub"),
        (BOXES, DetectionData(source="coco2017", format="voc"), "data.format=voc is for data.source folder"),
        (BOXES, DetectionData(source="coco2017", annotations={"val": "a.json"}), "data.annotations=.* folder"),
        (SOUNDS, AudioData(label_separator="bar"), "data.label_separator=bar is for data.source tagged"),
        (CLIPS, VideoData(path_prefix="clips"), "data.path_prefix=clips is for data.source list or kinetics"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_of_a_kind_of_data_are_for_that_kind(registry, data, told):
    with pytest.raises(ValueError, match=told):
        registry.open(data, 0)


@pytest.mark.parametrize("options", [{"format": "voc"}, {"format": "yolo"}])
def test_files_of_cocos_format_are_not_read_as_another(tmp_path, options):
    data = DetectionData(root=str(tmp_path), annotations={"train": "a.json"}, **options)
    with pytest.raises(ValueError, match=f"names files of COCO's format, and data.format is {options['format']}"):
        BOXES.open(data, 0).prepare()


def test_folders_of_pictures_are_for_cocos_format(tmp_path):
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match="data.pictures is for COCO's format, and .* is in YOLO's format"):
        BOXES.open(DetectionData(root=str(tmp_path), format="yolo", pictures={"train": "nowhere"}), 0).prepare()


def test_a_frame_rate_needs_a_stride():
    with pytest.raises(
        ValueError, match="data.frame_rate=5 is what data.frame_stride counts in, and there is no stride"
    ):
        VideoData(frame_rate=5.0)


@pytest.mark.parametrize(("folder", "chance"), [("background", "background"), ("response", "reverberation")])
def test_a_folder_of_sounds_needs_a_probability(folder, chance):
    told = f"{folder}_folder=rooms is never read while {chance}_probability is 0"
    with pytest.raises(ValueError, match=told):
        AudioData(augmentation=AudioAugmentation(**{f"{folder}_folder": "rooms"}))
    AudioData(augmentation=AudioAugmentation(**{f"{folder}_folder": "rooms", f"{chance}_probability": 0.5}))


def test_a_mixup_below_zero_is_refused_by_the_recipe():
    with pytest.raises(ValueError, match=r"data.augmentation.mixup must be at least 0; got -0\.2"):
        AudioData(augmentation=AudioAugmentation(mixup=-0.2))
