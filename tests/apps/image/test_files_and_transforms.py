"""Pictures of any kind and size become inputs of the encoder."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from torchvision.transforms import v2

from eyetoy_image.classification import ImageAugmentation
from eyetoy_image.classification.transforms import evaluation_transform, normalized, training_transform
from eyetoy_image.io.files import UnreadableImageError, open_picture, read_image, upright_size


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp"])
def test_colour_modes_and_formats(tmp_path, mode, suffix):
    pixels = Image.fromarray(np.full((5, 7, 3), (200, 100, 50), dtype=np.uint8))
    try:
        pixels.convert(mode).save(tmp_path / f"x{suffix}")
    except (OSError, ValueError):
        pytest.skip(f"{suffix} cannot hold {mode}")
    colour = read_image(tmp_path / f"x{suffix}", grayscale=False)
    gray = read_image(tmp_path / f"x{suffix}", grayscale=True)
    assert (colour.shape, colour.dtype) == ((3, 5, 7), torch.uint8)
    assert gray.shape == (1, 5, 7)


def test_channels_stay_in_order(tmp_path):
    Image.fromarray(np.full((2, 2, 3), (255, 128, 0), dtype=np.uint8)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png", grayscale=False)[:, 0, 0].tolist() == [255, 128, 0]


def test_a_picture_is_turned_as_its_exif_data_say(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg", grayscale=False).shape == (3, 8, 4)


def tiff(values: np.ndarray, *, bits: int, zero_is_white: bool = False, signed: bool = False) -> bytes:
    """Return a TIFF file of grey values `[height, width]`, written by the specification (TIFF 6.0, section 8)."""
    height, width = values.shape
    if bits == 12:  # two pixels in three bytes
        left, right = values[:, ::2].astype(int), values[:, 1::2].astype(int)
        data = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], -1).astype(np.uint8).tobytes()
    else:
        data = values.astype(f"<u{bits // 8}").tobytes()
    start = 8 + 2 + 10 * 12 + 4
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, 0 if zero_is_white else 1), (273, start)]
    entries += [(277, 1), (278, height), (279, len(data)), (339, 2 if signed else 1)]
    tags = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + tags + struct.pack("<I", 0) + data


@pytest.mark.parametrize("zero_is_white", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_grey_values_of_a_tiff_are_read_by_their_depth_and_by_what_is_white(tmp_path, bits, zero_is_white):
    gray = np.arange(240, dtype=np.uint8).reshape(12, 20)
    stored = gray.astype(int) << (bits - 8)
    stored = 2**bits - 1 - stored if zero_is_white else stored
    (tmp_path / "x.tif").write_bytes(tiff(stored, bits=bits, zero_is_white=zero_is_white))
    if bits == 12 and zero_is_white:
        with pytest.raises(UnreadableImageError, match="x.tif"):  # Pillow does not know it
            read_image(tmp_path / "x.tif", grayscale=True)
        return
    assert np.array_equal(read_image(tmp_path / "x.tif", grayscale=True)[0].numpy(), gray)


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_pixels_are_refused(tmp_path, bits):
    (tmp_path / "x.tif").write_bytes(tiff(np.full((4, 4), 100), bits=bits, signed=True))
    with pytest.raises(UnreadableImageError, match="signed numbers of no known range"):
        read_image(tmp_path / "x.tif", grayscale=True)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(UnreadableImageError, match="bad.png"):
        read_image(tmp_path / "bad.png", grayscale=False)


def test_a_truncated_picture_is_refused_by_name(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImageError, match="cut.png"):
        read_image(tmp_path / "cut.png", grayscale=False)


@settings(max_examples=30)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    channels=st.sampled_from([1, 3]),
    crop=st.sampled_from([0.0, 0.5]),
    policy=st.sampled_from(["none", "rand_augment", "trivial_augment"]),
)
def test_any_picture_becomes_a_square(height, width, channels, crop, policy):
    picture = torch.randint(0, 256, (channels, height, width), dtype=torch.uint8)
    for transform in (evaluation_transform(16), training_transform(16, ImageAugmentation(crop=crop, policy=policy))):
        x = picture if transform is None else transform(picture)
        assert x.dtype == torch.uint8
        assert transform is None or x.shape == (channels, 16, 16)


def test_evaluation_keeps_a_picture_of_the_right_size():
    picture = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    assert torch.equal(evaluation_transform(16)(picture), picture)
    torch.testing.assert_close(normalized(picture) * 0.25 + 0.5, picture / 255)


@pytest.mark.parametrize("shape", [(3, 9, 700), (3, 700, 9), (3, 8, 701)])
def test_the_ends_of_a_thin_picture_are_cut_off_before_it_is_enlarged(monkeypatch, shape):
    along = torch.arange(max(shape)) - max(shape) // 2
    ramp = (128 + 10 * along).clamp(0, 255).to(torch.uint8)  # 10 more at each pixel of the middle
    pixels = (ramp if shape[2] > shape[1] else ramp[:, None]).expand(shape)
    sizes = []
    resize = v2.Resize.forward
    monkeypatch.setattr(v2.Resize, "forward", lambda self, x: sizes.append(x.numel()) or resize(self, x))
    found = evaluation_transform(32)(pixels)
    whole = v2.Compose([v2.Resize(32, antialias=True), v2.CenterCrop(32)])(pixels)
    assert sizes[0] <= 3 * min(shape[1:]) * (32 * min(shape[1:]) + 1)
    assert (found.int() - whole.int()).abs().max() <= 6  # half a pixel apart at most
    assert found.shape == (3, 32, 32)


@pytest.mark.parametrize("augmentation", [{"crop": 0.5}, {"policy": "rand_augment"}, {"policy": "trivial_augment"}])
def test_training_draws_from_torchs_generator(augmentation):
    picture = torch.randint(0, 256, (3, 16, 16), dtype=torch.uint8)
    transform = training_transform(16, ImageAugmentation(**augmentation))
    drawn = []
    for seed in (0, 0, *range(1, 8)):
        torch.manual_seed(seed)
        drawn.append(transform(picture))
    assert torch.equal(drawn[0], drawn[1])
    assert not all(torch.equal(drawn[0], other) for other in drawn[2:])


def test_an_evaluation_may_look_at_the_middle_of_a_larger_picture():
    picture = torch.arange(20, dtype=torch.uint8).expand(1, 20, 20)
    assert evaluation_transform(16, crop_pct=0.8)(picture)[0, 0].tolist() == list(range(2, 18))


def test_a_tiff_file_may_tell_its_orientation_in_its_xmp_data(tmp_path):
    told = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.new("RGB", (10, 6)).save(tmp_path / "x.tif", tiffinfo={700: told})
    with open_picture(tmp_path / "x.tif") as image:
        assert upright_size(image) == (10, 6)
    assert read_image(tmp_path / "x.tif", grayscale=False).shape == (3, 10, 6)


def jpeg_turned_beside_a_broken_value(path):
    content = io.BytesIO()
    Image.new("RGB", (8, 4), (200, 30, 30)).save(content, "jpeg")
    # Two tags in little endian: orientation 6, and a horizontal resolution whose denominator is 0.
    tags = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHII", 0x011A, 10, 1, 38)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + struct.pack("<Iii", 0, -1, 0)
    marker = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    path.write_bytes(content.getvalue()[:2] + marker + content.getvalue()[2:])


def with_exif(exif):
    return lambda path: Image.new("RGB", (4, 8), (200, 30, 30)).save(path, exif=exif)


def png_with_a_broken_text_profile(path):
    told = PngInfo()
    told.add_text("Raw profile type exif", "\nexif\n      12\nzzzz")
    Image.new("RGB", (4, 8), (200, 30, 30)).save(path, pnginfo=told)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        ("jpg", jpeg_turned_beside_a_broken_value),
        ("png", with_exif(b"Exif\0\0\0\x08\0\x02garb")),
        ("webp", with_exif(b"Exif\0\0garbage")),
        ("png", png_with_a_broken_text_profile),
    ],
)
@pytest.mark.filterwarnings("ignore")  # Pillow's, about the broken data
def test_broken_exif_data_do_not_stop_a_picture_whose_pixels_are_whole(tmp_path, suffix, write):
    path = tmp_path / f"x.{suffix}"
    write(path)
    pixels = read_image(path, grayscale=False)
    assert pixels.shape == (3, 8, 4)
    assert (pixels[0] > 150).all()
    with open_picture(path) as image:
        assert upright_size(image) == (8, 4)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path, suffix, value):
    exif = Image.Exif()
    exif[0x0112] = value
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"x.{suffix}", exif=exif)
    with Image.open(tmp_path / f"x.{suffix}") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    found = read_image(tmp_path / f"x.{suffix}", grayscale=False)
    assert found.permute(1, 2, 0).tolist() == expected.tolist()
    with open_picture(tmp_path / f"x.{suffix}") as image:
        assert upright_size(image) == expected.shape[:2]
