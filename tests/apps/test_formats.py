"""Every suffix of the tables: encoded files are listed in folders, in capitals too, and hold what was written."""

from __future__ import annotations

import io
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from PIL import Image

import eyetoy_audio.check
import eyetoy_image.check
import eyetoy_video.check
from eyetoy_audio.io.files import EXTENSIONS as SOUNDS
from eyetoy_audio.io.files import UnreadableSoundError, read_sound
from eyetoy_image.classification.datasets import webdataset
from eyetoy_image.detection.datasets.tree import Tree
from eyetoy_image.io.files import EXTENSIONS as PICTURES
from eyetoy_image.io.files import read_image
from eyetoy_image.segmentation.datasets.label_set import pair_pictures
from eyetoy_train.commands.cli import expand
from eyetoy_train.data.folder import read_class_folder
from eyetoy_train.media.kinds import PICTURE_SUFFIXES, SOUND_KINDS, VIDEO_SUFFIXES
from eyetoy_video.io.files import EXTENSIONS as VIDEOS
from eyetoy_video.io.files import read_clips
from eyetoy_video.transforms.sampling import ClipSampling

# By container and codec.
VIDEO = {
    "mp4 libx264": ".mp4 .m4v .f4v",
    "mov mjpeg": ".mov .qt .mj2",
    "3gp mpeg4": ".3gp .3gpp",
    "3g2 mpeg4": ".3g2",
    "matroska libx264": ".mkv .mk3d",
    "webm libvpx": ".webm",
    "asf wmv2": ".asf .wmv",
    "avi mpeg4": ".avi .divx",
    "wtv mpeg2video": ".wtv",
    "mpegts mpeg2video": ".m2t .tp .trp",
    "mpegts libx264": ".m2ts .mts .ts",
    "vob mpeg2video": ".mod .tod .vob",
    "mpeg mpeg1video": ".mpe .mpeg .mpg",
    "dv dvvideo": ".dv",
    "flv flv": ".flv",
    "gif gif": ".gif",
    "ivf libvpx": ".ivf",
    "mxf mpeg2video": ".mxf",
    "nut mpeg4": ".nut",
    "ogv libvpx": ".ogm .ogv",
    "rm rv10": ".rm",
    "rm rv20": ".rmvb",
    "yuv4mpegpipe rawvideo": ".y4m",
    "h264 libx264": ".264 .h264",
    "hevc libx265": ".265 .h265 .hevc",
    "mpeg1video mpeg1video": ".m1v",
    "mpeg2video mpeg2video": ".m2v",
    "mjpeg mjpeg": ".mjpeg .mjpg",
    "obu libsvtav1": ".obu",
}
# By format and subtype of soundfile; or by container, codec and rate.
SOUND = {
    "WAV": ".wav .wave .bwf",
    "RF64": ".rf64",
    "FLAC": ".flac",
    "OGG": ".ogg",
    "MP3": ".mp3",
    "AIFF": ".aif .aiff",
    "AIFF ULAW": ".aifc",
    "AU": ".au",
    "AU ULAW": ".snd",
    "CAF": ".caf",
    "W64": ".w64",
    "VOC": ".voc",
    "NIST": ".nist .sph",
    "ogg flac 44100": ".oga",
    "opus libopus 48000": ".opus",
    "mp2 mp2 44100": ".mp2 .mpa .m2a",
    "ipod aac 44100": ".m4a .m4b .m4r",
    "ipod alac 44100": ".alac",
    "mp4 aac 44100": ".mp4",
    "3gp libopencore_amrnb 8000": ".3ga .3gp .3gpp",
    "adts aac 44100": ".aac .adts",
    "asf wmav2 44100": ".wma .asf",
    "matroska flac 44100": ".mka",
    "webm libopus 48000": ".weba .webm",
    "ac3 ac3 48000": ".ac3",
    "eac3 eac3 48000": ".eac3 .ec3",
    "amr libopencore_amrnb 8000": ".amr",
    "rm real_144 8000": ".ra .rm",
    "tta tta 44100": ".tta",
    "wv wavpack 44100": ".wv",
}
UNWRITTEN = (".ape", ".awb", ".dsf", ".dts", ".m2a", ".mp1", ".mpc", ".mpga", ".spx", ".tak")  # decoders alone
PICTURE = {
    "JPEG": ".jpg .jpeg .jpe .jfif .jif .jfi",
    "MPO": ".mpo",
    "PNG": ".png .apng",
    "WEBP": ".webp",
    "GIF": ".gif",
    "AVIF": ".avif .avifs",
    "BMP": ".bmp",
    "DIB": ".dib",
    "TIFF": ".tif .tiff",
    "TGA": ".tga",
    "ICO": ".ico",
    "PCX": ".pcx",
    "QOI": ".qoi",
    "SGI": ".sgi",
    "PPM": ".ppm .pgm .pbm .pnm",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
}
OTHERS = ("README", "labels.csv", "notes.txt", "a.srt", "a.mid", "a.heic", "a.psd", "a.svg", "a.gxf", "a.zip")
FRAMES, RATE = 8, 25
TONE, SECONDS = 440, 0.5


def write_video(path, container, codec):
    height, width = (576, 720) if container == "dv" else (64, 96)
    with av.open(str(path), "w", format=container) as file:
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        stream = file.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = height, width
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for number in range(FRAMES):
            bits = np.array([230 if number >> bit & 1 else 30 for bit in range(3)], np.uint8)
            pixels = np.tile(bits.repeat(width // 3)[None, :, None], (height, 1, 3))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))


def tone(rate):
    return (0.3 * np.sin(2 * np.pi * TONE * np.arange(int(rate * SECONDS)) / rate)).astype(np.float32)


def write_sound(path, form):
    container, *rest = form.split()
    if container.isupper():
        soundfile.write(path, tone(16_000), 16_000, format=container, subtype=rest[0] if rest else None)
        return
    codec, rate = rest[0], int(rest[1])
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate)
        if codec in ("libopencore_amrnb", "wmav2"):
            stream.codec_context.bit_rate = {"wmav2": 64_000}.get(codec, 12_200)
        stream.codec_context.layout = "mono"
        stream.codec_context.open()
        context = stream.codec_context
        frame = av.AudioFrame.from_ndarray(tone(rate)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(context.format, context.layout, rate, frame_size=context.frame_size or 1024)
        for one in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(one))
        file.mux(stream.encode(None))


def write_picture(path, form):
    pixels = np.zeros((24, 16, 3), np.uint8)
    pixels[12:] = 240
    options = {"sizes": [(16, 24)]} if form == "ICO" else {}
    Image.fromarray(pixels).convert("1" if path.suffix == ".pbm" else "RGB").save(path, format=form, **options)


def write_all(folder, forms, write):
    """Write a file of each form under each of its suffixes, and again in capitals; files of other kinds beside them."""
    for name in ("lower", "UPPER"):
        (folder / name).mkdir(parents=True)
    for form, suffixes in forms.items():
        first, *rest = suffixes.split()
        write(folder / "lower" / f"file{first}", form)
        for suffix in rest:
            if form in ("PPM",):
                write(folder / "lower" / f"file{suffix}", form)
            else:
                (folder / "lower" / f"file{suffix}").write_bytes((folder / "lower" / f"file{first}").read_bytes())
    for path in [*(folder / "lower").iterdir()]:
        (folder / "UPPER" / f"file{path.suffix.upper()}").write_bytes(path.read_bytes())
    for name in (*OTHERS, "Thumbs.db", ".DS_Store"):
        (folder / "lower" / name).write_bytes(b"something else")
    return folder


def written(forms):
    return {suffix for suffixes in forms.values() for suffix in suffixes.split()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("formats")
    return {
        "video": write_all(root / "video", VIDEO, lambda path, form: write_video(path, *form.split())),
        "audio": write_all(root / "audio", SOUND, write_sound),
        "image": write_all(root / "image", PICTURE, write_picture),
    }


MODALITIES = {"video": (VIDEO, VIDEOS), "audio": (SOUND, SOUNDS), "image": (PICTURE, PICTURES)}


def test_every_suffix_of_the_tables_is_written_here():
    assert written(VIDEO) == set(VIDEO_SUFFIXES) == set(VIDEOS)
    assert written(SOUND) | set(UNWRITTEN) == set(SOUND_KINDS) == set(SOUNDS)
    assert written(PICTURE) == set(PICTURE_SUFFIXES) == set(PICTURES)
    assert min(len(written(forms)) for forms, _ in MODALITIES.values()) > 30


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_file_of_a_folder_is_listed_or_counted_as_left_out(folders, modality, capsys):
    forms, extensions = MODALITIES[modality]
    folder, there = folders[modality], written(forms)
    read = read_class_folder(folder, extensions, hold_out=False)
    listed = [path for path, _ in read.splits["test"]]
    assert [path.suffix for path in listed if path.parent.name == "lower"] == sorted(there)
    assert [path.suffix for path in listed if path.parent.name == "UPPER"] == sorted(map(str.upper, there))
    assert read.left_out == {"files of other types": len(OTHERS), "hidden or system files": 2}
    # predict and embed
    assert list(expand([folder], extensions)) == sorted(listed)
    assert f"left out in {folder}: {len(OTHERS)} files of other types\n" in capsys.readouterr().err


def test_videos_hold_their_frames(folders):
    wrong = {}
    for path in read_class_folder(folders["video"], VIDEOS, hold_out=False).splits["test"]:
        clip = read_clips(path[0], ClipSampling(FRAMES), decoder="pyav").float().mean((1, 2))
        bits = clip.unflatten(1, (3, -1)).mean(2) > 130  # [frames, bits]
        numbers = [int(sum(bit << place for place, bit in enumerate(frame))) for frame in bits.tolist()]
        if numbers != list(range(FRAMES)):
            wrong[path[0].name] = numbers
    assert not wrong


def test_sounds_hold_their_tone(folders):
    wrong = {}
    for path, _ in read_class_folder(folders["audio"], SOUNDS, hold_out=False).splits["test"]:
        sound = read_sound(path, 8000)[0].numpy()
        pitch = np.abs(np.fft.rfft(sound[1000:3000])).argmax() * 4  # in Hz
        if abs(len(sound) / 8000 - SECONDS) > 0.06 or abs(pitch - TONE) > 8:
            wrong[path.name] = len(sound) / 8000, pitch
    assert not wrong


def test_pictures_hold_their_pixels(folders):
    for path, _ in read_class_folder(folders["image"], PICTURES, hold_out=False).splits["test"]:
        pixels = read_image(path, grayscale=True)[0].float()
        assert pixels.shape == (24, 16), path
        assert pixels[:11].mean() < 20 < 220 < pixels[13:].mean(), path


def test_detection_segmentation_and_tars_list_the_same_pictures(folders):
    lower = folders["image"] / "lower"
    tree = Tree(folders["image"])
    assert [path.suffix.lower() for path in tree.pictures] == 2 * sorted(PICTURES)
    assert tree.left_out["files of other types"] == len(OTHERS) - 1  # a .txt may be a label file
    for path in sorted(lower.iterdir()):
        key = path.suffix[1:]
        if path.suffix in PICTURES:
            raw = {"__key__": "0", key: path.read_bytes(), "cls": b"0"}
            assert webdataset._pictures(raw) == [key]
            assert webdataset.read_tarred(raw, grayscale=False).shape == (3, 24, 16)


def test_segmentation_lists_the_same_pictures(folders, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "maps").mkdir()
    for number, suffix in enumerate(PICTURES):
        content = (folders["image"] / "lower" / f"file{suffix}").read_bytes()
        (tmp_path / "images" / f"{number}{suffix.upper()}").write_bytes(content)
        Image.new("L", (16, 24)).save(tmp_path / "maps" / f"{number}.png")
    (tmp_path / "images" / "notes.csv").touch()
    left_out = Counter[str]()
    assert len(pair_pictures(tmp_path / "images", tmp_path / "maps", left_out)) == len(PICTURES)
    assert left_out["files of other types"] == 1


@pytest.mark.parametrize(
    ("modality", "check"),
    [("video", eyetoy_video.check.check), ("audio", eyetoy_audio.check.check), ("image", eyetoy_image.check.check)],
)
def test_the_check_reads_them_all_and_counts_the_rest(folders, modality, check, capsys):
    config = ["--config", "own_pictures"] if modality == "image" else ["--data.source", "folder"]
    check([*config, "--data.root", str(folders[modality])])
    said = capsys.readouterr()
    assert "left out: 10 files of other types, 2 hidden or system files" in said.out + said.err
    assert "contradictory: " in said.out, "the copies in capitals"
    assert "unreadable: " not in said.out
    assert "broken: " not in said.out


@pytest.mark.parametrize("suffix", [".rf64", ".au", ".snd", ".voc", ".sph", ".wv", ".tta"])
def test_cut_sounds_are_refused(folders, tmp_path, suffix):
    content = (folders["audio"] / "lower" / f"file{suffix}").read_bytes()
    for share in (0.3, 0.6, 0.9):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UnreadableSoundError):
            read_sound(path, 8000)


def test_a_picture_of_an_unmarked_format_is_read_by_its_name_alone(folders):
    content = (folders["image"] / "lower" / "file.tga").read_bytes()
    assert read_image(io.BytesIO(content), grayscale=True, name=str(Path("a/B.TGA"))).shape == (1, 24, 16)
    with pytest.raises(ValueError, match="cannot identify"):
        read_image(io.BytesIO(content), grayscale=True, name="a.png")
