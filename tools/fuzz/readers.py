"""Every reader of files that others made, with small files that it reads: what fuzzing starts from."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import av
import numpy as np
import picture_trees
import soundfile
import trees
from PIL import Image
from safetensors.torch import save_file

from eyetoy import create_model
from eyetoy_audio.app import APP as SOUNDS
from eyetoy_audio.datasets.esc50 import read_esc50
from eyetoy_audio.datasets.tagged import read_tagged
from eyetoy_audio.io.files import read_sound_bytes
from eyetoy_image.app import APP as IMAGE
from eyetoy_image.classification.app import APP as IMAGES
from eyetoy_image.detection.datasets.coco import read_coco
from eyetoy_image.detection.datasets.dataset import DetectionDataset
from eyetoy_image.detection.datasets.findings import find_bad, without
from eyetoy_image.detection.recipe import DetectionData, DetectionRecipe, DetectorRecipe
from eyetoy_image.detection.task import Detection
from eyetoy_image.io.files import read_image
from eyetoy_image.segmentation.datasets.ade20k import read_ade20k
from eyetoy_image.segmentation.datasets.findings import find_bad as find_bad_maps
from eyetoy_image.segmentation.datasets.label_maps import read_values
from eyetoy_image.segmentation.recipe import SegmentationData, SegmentationRecipe
from eyetoy_image.segmentation.task import Segmentation
from eyetoy_train import App, CheckpointError, TarStream, parse_recipe
from eyetoy_train.checkpoint.atomic import check_folder, write_folder
from eyetoy_train.checkpoint.state_dicts import read_tensors
from eyetoy_train.checkpoint.train_state import TrainState
from eyetoy_train.models.build import load_classifier
from eyetoy_train.models.opened import read_labels
from eyetoy_train.utils.untrusted import read_json
from eyetoy_video.app import APP as VIDEOS
from eyetoy_video.datasets.hmdb51 import read_hmdb51
from eyetoy_video.datasets.kinetics import read_kinetics
from eyetoy_video.datasets.lists import read_lists
from eyetoy_video.datasets.something_something import read_something_something
from eyetoy_video.datasets.ucf101 import read_ucf101
from eyetoy_video.io.files import read_clips
from eyetoy_video.transforms.sampling import ClipSampling

REFUSALS = (ValueError, OSError, CheckpointError)
"""What the programs turn into a line and exit code 2, or name a file with and leave it out."""

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
HOME = Path(tempfile.mkdtemp(prefix="fuzzing-"))


def pictures() -> list[bytes]:
    modes = {
        "PNG": ("RGB", "P", "I;16"),
        "JPEG": ("RGB", "CMYK"),
        "WEBP": ("RGB",),
        "GIF": ("P",),
        "BMP": ("RGB",),
        "TIFF": ("RGB", "L"),
        "PPM": ("RGB",),
        "JPEG2000": ("RGB",),
        "ICO": ("RGBA",),
        "PCX": ("RGB", "P"),
        "QOI": ("RGBA",),
        "SGI": ("RGB",),
        "TGA": ("RGB", "P"),
    }
    found = [_picture(kind, mode) for kind in modes for mode in modes[kind]]
    exif = Image.Exif()
    exif[0x0112] = 6
    found += [
        _picture("JPEG", "RGB", exif=exif),
        _picture("TIFF", "RGB", compression="tiff_lzw"),
        _picture("AVIF", "RGB"),
    ]
    return found


def _picture(kind: str, mode: str, **options: object) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(NOISE[..., 0].astype(np.uint16)) if mode == "I;16" else Image.fromarray(NOISE).convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def sounds() -> list[bytes]:
    noise = 0.1 * np.random.default_rng(0).standard_normal(800)
    found = []
    for kind, subtype in (
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "ULAW"),
        ("FLAC", None),
        ("OGG", None),
        ("MP3", None),
    ):
        file = io.BytesIO()
        soundfile.write(file, noise, 8_000, format=kind, subtype=subtype)
        found.append(file.getvalue())
    for kind in ("AIFF", "CAF", "W64", "RF64", "AU", "VOC", "NIST"):
        file = io.BytesIO()
        soundfile.write(file, noise, 8_000, format=kind)
        found.append(file.getvalue())
    for form, codec, rate in (
        *((form, "aac", 8_000) for form in ("ipod", "matroska", "adts")),
        ("amr", "libopencore_amrnb", 8_000),
        ("rm", "real_144", 8_000),
        *((form, form, 48_000) for form in ("ac3", "eac3", "mp2", "tta")),
        ("wv", "wavpack", 48_000),
    ):
        file = io.BytesIO()
        with av.open(file, "w", format=form) as container:
            stream = container.add_stream(codec, rate=rate, layout="mono")
            context = stream.codec_context
            if form == "amr":
                context.bit_rate = 12_200
            context.open()
            frame = av.AudioFrame.from_ndarray(noise[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate = rate
            fitted = av.AudioResampler(context.format, "mono", rate, frame_size=context.frame_size or 800)
            frames = [*fitted.resample(frame), *fitted.resample(None)]
            container.mux([packet for one in (*frames, None) for packet in stream.encode(one)])
        found.append(file.getvalue())
    return found


def videos() -> list[bytes]:
    found = []
    for form, codec in (
        ("mp4", "mpeg4"),
        ("matroska", "mpeg4"),
        ("avi", "mpeg4"),
        ("webm", "libvpx"),
        ("mpegts", "mpeg2video"),
        ("gif", "gif"),
        ("asf", "wmv2"),
        ("flv", "flv"),
        ("mpeg1video", "mpeg1video"),
        ("ogg", "libvpx"),
        ("rm", "rv10"),
        ("vob", "mpeg2video"),
    ):
        file = io.BytesIO()
        with av.open(file, "w", format=form) as container:
            stream = container.add_stream(codec, rate=25)
            height = 32 if codec == "rv10" else 24  # in whole blocks
            stream.width, stream.height, stream.pix_fmt = 32, height, "rgb8" if codec == "gif" else "yuv420p"
            for index in range(12):
                pixels = np.full((height, 32, 3), index * 20, dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels)
                if form in ("avi", "matroska"):  # late, and with a pause
                    frame.pts, frame.time_base = 10 + index + index // 6 * 9, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        found.append(file.getvalue())
    return found


COCO = {
    "images": [{"id": n, "file_name": f"{n}.png", "height": 24, "width": 20} for n in (1, 2)],
    "categories": [{"id": 3, "name": "a"}, {"id": 7, "name": "b"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 5, 6], "area": 30, "iscrowd": 0,
         "segmentation": [[1, 2, 6, 2, 6, 8, 1, 8], [2.5, 3, 4, 3, 4, 5]]},
        {"id": 2, "image_id": 2, "category_id": 7, "bbox": [0, 0, 20, 24], "area": 480, "iscrowd": 1,
         "segmentation": {"size": [24, 20], "counts": [10, 400, 70]}},
        {"id": 3, "image_id": 2, "category_id": 7, "bbox": [0, 0, 4, 4], "iscrowd": 0,
         "segmentation": {"size": [24, 20], "counts": "f;l0"}},
    ],
}  # fmt: skip


def _coco(content: bytes) -> None:
    path = HOME / "coco" / "x.json"
    path.parent.mkdir(exist_ok=True)
    for number in (1, 2):
        if not (path.parent / f"{number}.png").exists():
            (path.parent / f"{number}.png").write_bytes(_picture("PNG", "RGB"))
    path.write_bytes(content)
    coco = read_coco(path, path.parent)
    kept = without(coco, find_bad(coco, coco.categories, with_masks=True, open_files=True))
    labels = {category.id: number for number, category in enumerate(kept.categories, 1)}
    dataset = DetectionDataset(kept.pictures, labels, with_masks=True)
    for index in range(len(dataset)):
        dataset[index]


def _ade(content: bytes) -> None:
    """Put the file in the place of a label map, of a picture, and of the list of classes."""
    root = HOME / "ade" / "ADEChallengeData2016"
    for folder, name, seed in (("images", "a.jpg", _picture("JPEG", "RGB")), ("annotations", "a.png", _ADE_MAP)):
        for split in ("training", "validation"):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
            (root / folder / split / name).write_bytes(seed)
    kind = content[:1]
    place = {b"\x89": "annotations/training/a.png", b"\xff": "images/training/a.jpg"}.get(kind, "objectInfo150.txt")
    (root / "objectInfo150.txt").unlink(missing_ok=True)
    (root / place).write_bytes(content)
    found = read_ade20k(SegmentationData(source="ade20k", root=str(root.parent)))
    find_bad_maps(found.splits["train"], found.table, open_files=True)
    if place.startswith("annotations"):
        read_values(root / place)


_ADE_MAP = _picture("PNG", "L")
_ADE_LIST = b"Idx\tRatio\tTrain\tVal\tName\n" + b"".join(b"%d\t0.1\t1\t1\twall, thing\n" % n for n in range(1, 151))


def _table(kind: str, header: list[str], *rows: list[object]) -> bytes:
    """A table whose first line, which is taken away before it is read, says of which kind it is."""
    file = io.StringIO()
    csv.writer(file).writerows([header, *rows])
    return f"{kind}\n{file.getvalue()}".encode()


def tables() -> list[bytes]:
    return [
        _table("tagged", ["file", "labels"], ["a.wav", "dog;bark"], ["b.wav", ""]),
        b'audioset\n# a\n# b\n-0RWZT, 420.000, 430.000, "/m/03v3yw,/m/0k4j"\nabc, 0, 10, "/m/0k4j"\n',
        _table("esc50", ["filename", "fold", "target", "category"], ["a.wav", 1, 0, "dog"], ["b.wav", 2, 1, "rain"]),
        _table("kinetics", ["label", "youtube_id", "time_start", "time_end"], ["a", "b", 10, 20], ["c", "d", 1, 2]),
        b"lists\ntrain/a.mp4 0\ntrain/b.mp4,1\n",
        b"ucf101\nArchery/v_Archery_g08_c01.avi 1\nBiking/v_Biking_g01_c02.avi 2\n",
        b"hmdb51\nFilm_wave_u_nm_np1_fr_med_0.avi 1\nOther_wave_u_nm_np1_fr_med_1.avi 2\n",
        b'something\n[{"id": "1", "template": "Doing [something]"}, {"id": "2", "template": "Not doing it"}]',
    ]


def _read_table(content: bytes) -> None:
    kind, _, table = content.partition(b"\n")
    name = next((name for name in TABLES if name.encode() == kind), "lists")
    root = HOME / name
    root.mkdir(exist_ok=True)
    TABLES[name](root, table)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _read_tagged(root: Path, table: bytes) -> None:
    for name in ("a.wav", "b.wav"):
        _write(root / name, b"")
    _write(root / "train.csv", table)
    read_tagged(root)


def _read_audioset(root: Path, table: bytes) -> None:
    _write(root / "class_labels_indices.csv", b'index,mid,display_name\n0,/m/03v3yw,"a, b"\n1,/m/0k4j,c\n')
    _write(root / "-0RWZT.wav", b"")
    _write(root / "balanced_train_segments.csv", table)
    read_tagged(root, missing="skip")


def _read_esc50(root: Path, table: bytes) -> None:
    for name in ("a.wav", "b.wav"):
        _write(root / "ESC-50-master" / "audio" / name, b"")
    _write(root / "ESC-50-master" / "meta" / "esc50.csv", table)
    read_esc50(root)


def _read_kinetics(root: Path, table: bytes) -> None:
    _write(root / "train.csv", table)
    read_kinetics(root)


def _read_lists(root: Path, table: bytes) -> None:
    _write(root / "train.csv", table)
    read_lists(root)


def _read_ucf101(root: Path, table: bytes) -> None:
    (root / "UCF-101").mkdir(exist_ok=True)
    for name in ("trainlist01.txt", "testlist01.txt"):
        _write(root / "ucfTrainTestlist" / name, table)
    read_ucf101(root)


def _read_hmdb51(root: Path, table: bytes) -> None:
    _write(root / "testTrainMulti_7030_splits" / "wave_test_split1.txt", table)
    read_hmdb51(root)


def _read_something(root: Path, table: bytes) -> None:
    (root / "20bn-something-something-v2").mkdir(exist_ok=True)
    _write(root / "labels.json", b'{"Doing something": "0", "Not doing it": "1"}')
    for name in ("train.json", "validation.json"):
        _write(root / name, table)
    read_something_something(root)


TABLES: dict[str, Callable[[Path, bytes], None]] = {
    "tagged": _read_tagged,
    "audioset": _read_audioset,
    "esc50": _read_esc50,
    "kinetics": _read_kinetics,
    "lists": _read_lists,
    "ucf101": _read_ucf101,
    "hmdb51": _read_hmdb51,
    "something": _read_something,
}

CONFIGS = Path(__file__).parents[2] / "apps" / "image" / "src" / "eyetoy_image" / "configs"


def _recipe(content: bytes) -> None:
    path = HOME / "recipe.yaml"
    path.write_bytes(content)
    app = IMAGE.of_recipe(["--config", str(path)])
    parse_recipe(app.recipe, path, [])


def _checkpoint_seeds() -> list[bytes]:
    """The files of a checkpoint, each with its name in the first line, which is taken away before it is read."""
    folder = HOME / "seed"

    def write(partial: Path) -> None:
        create_model("eyetoy2d_pico", num_classes=2, stem_strides=[8]).save_pretrained(partial)
        save_file({"a": NOISE_TENSOR}, partial / "optimizer.safetensors")
        (partial / "labels.json").write_text('["a", "b"]')
        state = {"progress": TrainState(epoch=1, step=5, ranking={1: 0.5}).to_json(), "grad_scaler": None}
        (partial / "trainer.json").write_text(json.dumps(state))

    write_folder(folder, write)
    return [f"{path.name}\n".encode() + path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix != ".md"]


NOISE_TENSOR = create_model("eyetoy2d_pico", num_classes=2).head.weight.detach()


def _checkpoint(content: bytes) -> None:
    start, _, body = content.partition(b"\n")
    folder, seed = HOME / "checkpoint", HOME / "seed"
    names = [path.name for path in seed.iterdir()]
    folder.mkdir(exist_ok=True)
    for name in names:
        changed = name.encode() == start or (name == "config.json" and start.decode("latin-1") not in names)
        (folder / name).write_bytes(body if changed else (seed / name).read_bytes())
    if start == b"manifest.json":
        check_folder(folder)
    (folder / "manifest.json").unlink()
    read_labels(folder)
    read_tensors(folder / "optimizer.safetensors")
    try:
        TrainState.from_json(read_json(folder / "trainer.json")["progress"])
    except (KeyError, TypeError, AttributeError, OverflowError):
        return  # `Checkpointer.load` makes a CheckpointError of these
    if start not in (b"optimizer.safetensors", b"trainer.json", b"labels.json"):
        load_classifier(folder)


def tars() -> list[bytes]:
    found = []
    for mode in ("w", "w:gz", "w:xz", "w:bz2"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as archive:
            for name, content in (
                ("a/0.jpg", _picture("JPEG", "RGB")),
                ("a/0.cls", b"3"),
                ("a/1.png", b"x"),
                ("a/1.cls", b"1"),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        found.append(file.getvalue())
    return found


def _tar(content: bytes) -> None:
    path = HOME / "train-0.tar"
    path.write_bytes(content)
    for raw in TarStream([path], dict).read(0):
        assert "__key__" in raw


def _sound(content: bytes) -> None:
    suffix = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg", b"FORM": "aiff", b"caff": "caf", b"riff": "w64"}
    suffix |= {b"\x1aE\xdf\xa3": "mka", b"0&\xb2u": "wma", b"\xff\xf1": "aac", b"RF64": "wav"}
    suffix |= {b".snd": "au", b"Crea": "voc", b"NIST": "nist", b"#!AM": "amr", b"wvpk": "wv", b"TTA1": "tta"}
    suffix |= {b"\x0bw": "ac3", b".RMF": "rm"}
    kind = next((name for magic, name in suffix.items() if content.startswith(magic)), "mp3")
    read_sound_bytes(content, f"x.{'m4a' if content[4:8] == b'ftyp' else kind}", 8_000)


def _of_classes(kind: str, app: App[Any]) -> tuple[Callable[[bytes], object], Callable[[Random], bytes], bool]:
    """Return the reader of class folders of an app, and what makes them."""

    def read(root: Path) -> tuple[object, str]:
        recipe = app.recipe()
        recipe.data.root = str(root)
        task = app.task(recipe)
        said = trees.heard(task.prepare)
        return task.source, said

    def check(content: bytes) -> None:
        trees.check_classes(trees.build(content), kind, read)

    return check, trees.seeds(trees.draw_classes(kind)), True


def _of_pictures(
    expect: picture_trees.Expect,
    draw: Callable[[Random], dict[str, str]],
    read: Callable[[Path], tuple[dict[str, Counter[str]], str]],
) -> tuple[Callable[[bytes], object], Callable[[Random], bytes], bool]:
    """Return the reader of folders of pictures with labels beside them, and what makes them."""
    return lambda content: picture_trees.check(trees.build(content), expect, read), trees.seeds(draw), True


def _read_coco_tree(root: Path) -> tuple[dict[str, Counter[str]], str]:
    task = Detection(DetectionRecipe(detector=DetectorRecipe(kind="faster_rcnn"), data=DetectionData(root=str(root))))
    said = trees.heard(task.prepare)
    sets = {split: task.dataset(split) for split in ("train", "val", "test")}
    return _named(sets, lambda picture: str(picture.id)), said


def _read_map_tree(root: Path) -> tuple[dict[str, Counter[str]], str]:
    task = Segmentation(SegmentationRecipe(data=SegmentationData(root=str(root))))
    said = trees.heard(task.prepare)
    sets = {split: task.dataset(split) for split in ("train", "val", "test")}
    return _named(sets, lambda picture: picture.path.stem), said


def _named(sets: dict[str, Any], name: Callable[[Any], str]) -> dict[str, Counter[str]]:
    return {split: Counter(map(name, found.pictures)) for split, found in sets.items() if found is not None}


def _read_tar_tree(root: Path) -> tuple[dict[str, Counter[str]], str]:
    recipe = IMAGES.recipe()
    recipe.data.source, recipe.data.root = "webdataset", str(root)
    task = IMAGES.task(recipe)
    said = trees.heard(task.prepare)
    streams = {split: task.source.split(split) for split in ("train", "val", "test")}
    found = {
        split: Counter(
            stream.decode(raw)["source"]["__key__"] for shard in range(stream.num_shards) for raw in stream.read(shard)
        )
        for split, stream in streams.items()
        if stream
    }
    return found, said


readers: dict[str, tuple[Callable[[bytes], object], list[bytes] | Callable[[Random], bytes], bool]] = {
    "image": (lambda content: read_image(io.BytesIO(content), grayscale=False, name="x.tga"), pictures(), False),
    "sound": (_sound, sounds(), False),
    "video": (lambda content: read_clips(content, ClipSampling(num_frames=4)), videos(), False),
    "coco": (_coco, [json.dumps(COCO).encode(), json.dumps(COCO, indent=1).encode()], True),
    "ade": (_ade, [_ADE_MAP, _picture("PNG", "P"), _picture("JPEG", "RGB"), _ADE_LIST], False),
    "tables": (_read_table, tables(), True),
    "recipe": (
        _recipe,
        [path.read_bytes() for path in sorted(CONFIGS.glob("*.yaml"))],
        True,
    ),
    "checkpoint": (_checkpoint, _checkpoint_seeds(), True),
    "tar": (_tar, tars(), False),
    "image_folders": _of_classes("image", IMAGES),
    "sound_folders": _of_classes("sound", SOUNDS),
    "video_folders": _of_classes("video", VIDEOS),
    "coco_folders": _of_pictures(picture_trees.expect_coco, picture_trees.draw_coco, _read_coco_tree),
    "map_folders": _of_pictures(picture_trees.expect_maps, picture_trees.draw_maps, _read_map_tree),
    "tar_folders": _of_pictures(picture_trees.expect_tars, picture_trees.draw_tars, _read_tar_tree),
}
"""For every reader: what reads a content; files to begin with, or what makes new ones; and whether they are text."""
