"""Pictures with transparency are laid on a background, the same wherever a picture is read."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from eyetoy_image.classification import APP, ImageClassification, ImageClassificationRecipe
from eyetoy_image.classification.datasets.webdataset import TarSet
from eyetoy_image.dense.predict import readable_pictures
from eyetoy_image.dense.views import DetectionView, SegmentationView
from eyetoy_image.detection import Detection, DetectionData, DetectionRecipe
from eyetoy_image.io.background import HIDDEN
from eyetoy_image.io.files import UnreadableImageError, read_array, read_image
from eyetoy_image.segmentation import Segmentation, SegmentationData, SegmentationRecipe
from eyetoy_train.checkpoint.run_folder import choose_run_folder
from eyetoy_train.data.hub import HubSample
from eyetoy_train.recipe import recipe_text
from eyetoy_train.utils.untrusted import read_yaml

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
ALPHA = np.resize(np.array([0, 1, 100, 128, 254, 255], dtype=np.uint8), (6, 8))
GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8)
BACKGROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "colour": (12, 200, 77)}
OPTION = {"colour": [12, 200, 77]}


def saved(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(values: np.ndarray, bits: int, colour_type: int, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG file of any depth, made by hand: Pillow writes neither few grey bits nor sixteen bits of colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = values.reshape(len(values), -1)
    if bits == 16:
        packed = [row.astype(">u2").tobytes() for row in rows]
    else:
        ones = [(row[:, None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8) for row in rows]
        packed = [np.packbits(row).tobytes() for row in ones]
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour_type, 0, 0, 0)
    key = chunk(b"tRNS", b"".join(struct.pack(">H", value) for value in transparent)) if transparent else b""
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in packed)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + key + pixels + chunk(b"IEND", b"")


def gray_with_a_key(bits: int, key: int, shown: np.ndarray) -> tuple[bytes, np.ndarray, np.ndarray]:
    values = np.random.default_rng(bits).integers(0, 2 ** min(bits, 10), (6, 8))
    values[0, 0], values[0, 1] = key, key ^ 1  # of 16 bits both have the same upper byte
    return png(values, bits, 0, (key,)), shown[values], np.where(values == key, 0, 255)


def gray_rgb(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, -1)


def with_palette(**options) -> tuple[bytes, np.ndarray, np.ndarray]:
    indices = np.random.default_rng(1).integers(0, 4, (6, 8), dtype=np.uint8)
    colours = np.random.default_rng(2).integers(0, 256, (4, 3), dtype=np.uint8)
    alphas = np.array([0, 70, 180, 255]) if "GIF" not in options else np.array([255, 255, 0, 255])
    image = Image.fromarray(indices, "P")
    image.putpalette(colours.flatten().tolist())
    kind, key = ("GIF", 2) if "GIF" in options else ("PNG", bytes(alphas.astype(np.uint8)))
    return saved(image, kind, transparency=key), colours[indices], alphas[indices]


def rgb_with_a_key() -> tuple[bytes, np.ndarray, np.ndarray]:
    colours = COLOURS.copy()
    colours[1:3, 2] = (1, 2, 3)
    alpha = np.full((6, 8), 255)
    alpha[1:3, 2] = 0
    return png(colours, 8, 2, (1, 2, 3)), colours, alpha


RGBA = np.dstack([COLOURS, ALPHA])
KINDS = {
    "RGBA": lambda: (saved(Image.fromarray(RGBA)), COLOURS, ALPHA),
    "LA": lambda: (saved(Image.fromarray(np.dstack([GRAY, ALPHA]), "LA")), gray_rgb(GRAY), ALPHA),
    "RGBA of 16 bits": lambda: (png(RGBA.astype(int) * 256 + 99, 16, 6), COLOURS, ALPHA),
    "LA of 16 bits": lambda: (png(np.dstack([GRAY, ALPHA]).astype(int) * 256, 16, 4), gray_rgb(GRAY), ALPHA),
    "palette": with_palette,
    "gif": lambda: with_palette(GIF=True),
    "1 bit with a key": lambda: gray_with_a_key(1, 1, gray_rgb(np.array([0, 255]))),
    "2 bits with a key": lambda: gray_with_a_key(2, 1, gray_rgb(np.arange(4) * 85)),
    "4 bits with a key": lambda: gray_with_a_key(4, 6, gray_rgb(np.arange(16) * 17)),
    "8 bits with a key": lambda: gray_with_a_key(8, 5, gray_rgb(np.arange(256))),
    "16 bits with a key": lambda: gray_with_a_key(16, 514, gray_rgb(np.arange(2**10) >> 8)),
    "RGB with a key": rgb_with_a_key,
    "webp": lambda: (saved(Image.fromarray(RGBA), "WEBP", lossless=True, exact=True), COLOURS, ALPHA),
    "tiff": lambda: (saved(Image.fromarray(RGBA), "TIFF"), COLOURS, ALPHA),
    "opaque": lambda: (saved(Image.fromarray(COLOURS)), COLOURS, np.full((6, 8), 255)),
}


def mixed(colours: np.ndarray, alpha: np.ndarray, background: tuple[int, ...]) -> np.ndarray:
    """The picture on a background in whole numbers, rounded half up."""
    own, opaque = colours.astype(int), alpha.astype(int)[..., None]
    return (2 * (own * opaque + np.array(background) * (255 - opaque)) + 255) // 510


@pytest.mark.parametrize("name", BACKGROUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_transparency_is_laid_on_the_background(kind, name):
    content, colours, alpha = KINDS[kind]()
    background = OPTION.get(name, name)
    expected = mixed(colours, alpha, BACKGROUNDS[name])
    found = read_image(io.BytesIO(content), grayscale=False, background=background)
    assert found.permute(1, 2, 0).tolist() == expected.tolist()
    gray = read_image(io.BytesIO(content), grayscale=True, background=background)
    assert gray[0].tolist() == np.asarray(Image.fromarray(expected.astype(np.uint8)).convert("L")).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_colours_are_shown_as_before_there_was_a_background(kind):
    content, colours, _ = KINDS[kind]()
    found = read_image(io.BytesIO(content), grayscale=False, background=HIDDEN)
    assert found.permute(1, 2, 0).tolist() == colours.tolist()


def test_premultiplied_colours_are_divided_by_their_alpha():
    content = saved(Image.fromarray(RGBA), "TIFF")
    # The tag of extra samples, 338, of one short: 2 is plain alpha, 1 premultiplied.
    tag = struct.pack("<HHIHH", 338, 3, 1, 2, 0)
    assert content.count(tag) == 1
    shown = (COLOURS.astype(int) * ALPHA[..., None] // 255).astype(np.uint8)
    stored = content.replace(tag, struct.pack("<HHIHH", 338, 3, 1, 1, 0)).replace(
        RGBA.tobytes(), np.dstack([shown, ALPHA]).tobytes()
    )
    found = read_image(io.BytesIO(stored), grayscale=False, background="black")
    assert (found.permute(1, 2, 0) - torch.from_numpy(shown).int()).abs().max() <= 1


@pytest.mark.parametrize("kind", ["RGBA", "LA", "webp", "opaque"])
def test_another_decoder_gives_the_same_picture(kind):
    content = KINDS[kind]()[0]
    decoded = decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8), ImageReadMode.RGB_ALPHA)
    colours, alpha = decoded[:3].permute(1, 2, 0).numpy(), decoded[3].numpy()
    found = read_image(io.BytesIO(content), grayscale=False, background=[12, 200, 77])
    assert found.permute(1, 2, 0).tolist() == mixed(colours, alpha, (12, 200, 77)).tolist()


def test_a_transparent_colour_of_16_bits_is_refused_and_not_guessed():
    content = png(COLOURS.astype(int) * 256, 16, 2, (1, 2, 3))
    with pytest.raises(UnreadableImageError, match="its colours of 16 bits have a transparent one"):
        read_image(io.BytesIO(content), grayscale=False)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_grey_whose_depth_is_lost_is_refused_and_not_guessed(bits):
    content, colours, alphas = gray_with_a_key(bits, 2, np.arange(2**bits) * (255 // (2**bits - 1)))
    image = Image.open(io.BytesIO(content))
    expected = mixed(gray_rgb(colours), alphas, (255, 255, 255))
    assert read_array(image, grayscale=False).permute(1, 2, 0).tolist() == expected.tolist()
    with pytest.raises(ValueError, match="whether its transparent grey of 2 was stretched"):
        read_array(image, grayscale=False)  # loaded now


def test_a_transparent_grey_among_pixels_of_8_bits_is_certain_once_it_is_loaded():
    content, colours, alphas = gray_with_a_key(8, 2, np.arange(256))
    image = Image.open(io.BytesIO(content))
    image.load()
    expected = mixed(gray_rgb(colours), alphas, (255, 255, 255))
    assert read_array(image, grayscale=False).permute(1, 2, 0).tolist() == expected.tolist()


CUT_OUT = saved(Image.fromarray(np.zeros((6, 8, 4), dtype=np.uint8)))
"""Transparent everywhere: it shows the background alone."""
BLUE = [10, 20, 250]


def classified(source, tmp_path):
    recipe = ImageClassificationRecipe()
    recipe.data.background, recipe.data.image_size = BLUE, 8
    return ImageClassification(recipe).load_sample(source(tmp_path), training=False)


def file(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(CUT_OUT)
    return path


def tarred(tmp_path):
    (tmp_path / "classes.txt").write_text("one")
    with tarfile.open(tmp_path / "train.tar", "w") as archive:
        for name, content in (("a.cls", b"0"), ("a.png", CUT_OUT)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    stream = TarSet(tmp_path).split("train")
    return stream.decode(next(stream.read(0)))["source"]


def detected(tmp_path):
    folder = tmp_path / "set"
    (folder / "annotations").mkdir(parents=True)
    (folder / "train").mkdir()
    file(folder / "train")
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4], "iscrowd": 0}
    content = {"images": [{"id": 1, "file_name": "cut.png", "width": 8, "height": 6}], "annotations": [box],
               "categories": [{"id": 1, "name": "cup"}]}  # fmt: skip
    for split in ("train", "val"):
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    recipe = DetectionRecipe(data=DetectionData(root=str(folder), background=BLUE, pictures={"val": "train"}))
    recipe.detector.kind = "faster_rcnn"
    recipe.data.augmentation.short_sides = [6]
    return [Detection(recipe).dataset(split)[0]["image"] for split in ("train", "val")]


def segmented(tmp_path):
    folder = tmp_path / "set"
    for part in ("images", "maps"):
        (folder / part / "train").mkdir(parents=True)
    file(folder / "images/train")
    Image.fromarray(np.eye(6, 8, dtype=np.uint8)).save(folder / "maps/train/cut.png")
    recipe = SegmentationRecipe(data=SegmentationData(root=str(folder), background=BLUE))
    task = Segmentation(recipe)
    recipe.data.augmentation.crop_size, recipe.data.augmentation.scale = 4, (1.0, 1.0)
    recipe.data.augmentation.color = 0.0
    trained, task.source.set.splits["val"] = task.dataset("train"), task.source.set.splits["train"]
    return [trained[0]["image"], task.dataset("val")[0]["image"]]


def viewed(view_class, method):
    def see(tmp_path):
        seen = []

        def look(model, image):
            seen.append(image[0] if isinstance(image, list) else image)
            raise InterruptedError

        view = view_class.__new__(view_class)
        data = SimpleNamespace(background=BLUE, short_side=None, long_side=None)
        view.task, view.model = SimpleNamespace(data=data, **{method: look}), None
        with pytest.raises(InterruptedError):
            view(file(tmp_path))
        return seen

    return see


@pytest.mark.parametrize(
    "read",
    [
        lambda tmp_path: classified(file, tmp_path),
        lambda tmp_path: classified(tarred, tmp_path),
        lambda tmp_path: classified(lambda _: {"bytes": CUT_OUT, "path": None}, tmp_path),
        lambda tmp_path: classified(
            lambda _: HubSample(SimpleList([{"image": {"bytes": CUT_OUT, "path": None}}]), 0, "image"),
            tmp_path,
        ),
        detected,
        segmented,
        lambda tmp_path: [image for _, image in readable_pictures([file(tmp_path)], BLUE)],
        viewed(DetectionView, "find"),
        viewed(SegmentationView, "segment"),
    ],
    ids=["file", "tar", "stream", "hub", "detection", "segmentation", "predict", "detector_view", "segmenter_view"],
)
def test_every_reader_follows_the_recipe(read, tmp_path):
    found = read(tmp_path)
    for image in found if isinstance(found, list) else [found]:
        assert image.cpu().flatten(1).unique(dim=1).squeeze(1).tolist() == BLUE


class SimpleList(list):
    info = SimpleNamespace(dataset_name="set")


@pytest.mark.parametrize(
    ("wrong", "told"), [("red", "got red"), ([1, 2], r"got \[1, 2\]"), ([1, 2, 256], r"got \[1, 2, 256\]")]
)
@pytest.mark.parametrize("data", [ImageClassificationRecipe().data, DetectionData(), SegmentationData()])
def test_what_is_no_colour_is_refused(data, wrong, told):
    with pytest.raises(ValueError, match=f"data.background must be white, black, hidden, or red, green.*{told}"):
        type(data)(background=wrong)


def test_a_checkpoint_from_before_the_key_sees_the_hidden_colours_still(tmp_path):
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "labels.json").write_text('["a", "b"]')
    lines = recipe_text(ImageClassificationRecipe()).splitlines()
    old = [line for line in lines if "background" not in line]
    assert len(old) == len(lines) - 1
    for text, overrides, expected in (
        (lines, [], "white"),
        (old, [], HIDDEN),
        (old, ["--data.background", "black"], "black"),
    ):
        (tmp_path / "recipe.yaml").write_text("\n".join(text))
        assert APP.open(tmp_path, overrides).task.data.background == expected


@pytest.mark.parametrize(("background", "goes_on"), [("white", False), (HIDDEN, True)])
def test_a_run_begun_before_the_key_goes_on_with_the_hidden_colours_alone(background, goes_on, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = ImageClassificationRecipe()
    run = choose_run_folder(recipe)
    run.start(recipe)
    assert choose_run_folder(recipe).path == run.path
    text = "\n".join(line for line in (run.path / "recipe.yaml").read_text().splitlines() if "background" not in line)
    (run.path / "recipe.yaml").write_text(text)
    assert "background" not in read_yaml(run.path / "recipe.yaml")["data"]
    recipe.data.background = background
    assert (choose_run_folder(recipe).path == run.path) == goes_on


@pytest.mark.parametrize(("given", "told"), [("white", [255, 255, 255]), ([1, 2, 3], [1, 2, 3]), (HIDDEN, HIDDEN)])
def test_an_exported_model_tells_its_background(given, told):
    classification, segmentation = ImageClassificationRecipe(), SegmentationRecipe()
    classification.data.background = segmentation.data.background = given
    assert ImageClassification(classification).export_input().preprocessing["background"] == told
    exported = Segmentation(segmentation).export_model(torch.nn.Identity())
    assert exported.input.preprocessing["background"] == told
