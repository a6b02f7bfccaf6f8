"""export.py of every app, and the scripts of docs/export.md, which run what it wrote without this project's code."""

from __future__ import annotations

import io
import json
import re
import runpy
import sys
from contextlib import redirect_stdout
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from eyetoy_audio.app import APP as AUDIO
from eyetoy_audio.datasets.spoken_keywords import Split, write_spoken_keywords
from eyetoy_image.app import app_of
from eyetoy_image.classification import APP as IMAGE
from eyetoy_image.dense.examples import example_pictures
from eyetoy_image.detection import Detection, DetectionRecipe, DetectorRecipe
from eyetoy_image.detection.model import Detector
from eyetoy_image.io.files import read_image
from eyetoy_image.segmentation import Segmentation, SegmentationEvaluation, SegmentationRecipe, SegmenterRecipe
from eyetoy_image.segmentation.model import Segmenter
from eyetoy_train import ModelRecipe
from eyetoy_train.commands.export import check_output, export_checkpoint
from eyetoy_train.export.exporter import export
from eyetoy_train.export.portable import model_to_export
from eyetoy_video.app import APP as VIDEO
from eyetoy_video.datasets.moving_digits import write_moving_digits
from helpers.commands import write_pictures
from helpers.paths import REPOSITORY

pytestmark = pytest.mark.first

PAGE = (REPOSITORY / "docs" / "export.md").read_text(encoding="utf-8")
SCRIPTS = {
    name: text for text, name in re.findall(r"^```python\n(# python (\w+).py.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
}
SMALL = ("--model.options", "{changes: {scales: [1], global_depth: 0}}", "--batch_size", 4)


def write_images(root: Path) -> None:
    write_pictures(root, count=12, spread=40, any_size=True)
    cut_out = torch.zeros(20, 26, 4, dtype=torch.uint8)  # black beneath its transparent half
    cut_out[:, :13] = torch.tensor([250, 240, 245, 200])
    Image.fromarray(cut_out.numpy()).save(root / "bright" / "0.png")


def write_sounds(root: Path) -> None:
    splits = [Split(name, voices, clips=2) for name, voices in (("train", ("f1", "m1")), ("val", ("f2",)))]
    write_spoken_keywords(root, words=("yes", "no"), splits=splits)


def write_videos(root: Path) -> None:
    write_moving_digits(root, train=1, val=1, test=1, num_frames=6, size=34)


TINY = ModelRecipe(name="eyetoy2d_pico", options={"changes": {"scales": [1], "global_depth": 0}})

APPS = {
    "image": (
        write_images,
        ("--data.image_size", 16, "--data.crop_pct", 0.9, "--data.grayscale", "false", "--model.stem_strides", "[4]"),
        "bright/*.png",
        IMAGE,
    ),
    "audio": (
        write_sounds,
        ("--data.sample_rate", 8000, "--data.seconds", 0.2, "--model.stem_strides", "[4]"),
        "val/*/*.wav",
        AUDIO,
    ),
    "video": (write_videos, ("--data.num_frames", 4, "--data.transform.size", 16), "test/*/*.mp4", VIDEO),
}
ON = {"image": "classify_picture", "audio": "classify_sound", "video": "classify_video"}


@pytest.fixture(scope="module", params=APPS)
def trained(request, tmp_path_factory, run_command) -> SimpleNamespace:
    app = request.param
    write, options, pattern, _ = APPS[app]
    folder = tmp_path_factory.mktemp(app)
    write(folder / "files")
    source = ("--data.source", "folder", "--data.root", "files", "--output_dir", "run", "--epochs", 1)
    run_command(folder, f"apps/{app}/train.py", *source, *options, *SMALL)
    files = sorted((folder / "files").glob(pattern))[:5]
    return SimpleNamespace(name=app, app=APPS[app][3], folder=folder, run=folder / "run", files=files)


def written_script(folder: Path, name: str) -> Path:
    """Return a script of the page, as a file."""
    assert not re.search(r"import .*(eyetoy|torch)", SCRIPTS[name])
    path = folder / f"{name}.py"
    path.write_text(SCRIPTS[name])
    return path


def run_script(path: Path, *arguments: Path) -> list[str]:
    """Return the words that a script prints."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        runpy.run_path(str(path))
    return printed.getvalue().split()


def write_deep(path: Path, pixels: np.ndarray) -> Path:
    """Write the grey of pixels `[height, width, 3]` with 16 bits."""
    Image.fromarray(pixels.mean(2).astype(np.uint16) * 257).save(path)
    return path


def write_cut_out(path: Path, pixels: np.ndarray) -> Path:
    """Write pixels `[height, width, 3]` whose right half is transparent."""
    alpha = np.full(pixels.shape[:2], 255, np.uint8)
    alpha[:, alpha.shape[1] // 2 :] = 40
    Image.fromarray(np.dstack([pixels, alpha])).save(path)
    return path


def hard(trained) -> list[Path]:
    """Write what a phone stores that was held upright: pixels on their side, and how to turn them; and 16-bit grey."""
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[:20, :40], pixels[20:, :, 1] = (250, 120, 30), np.linspace(0, 255, 64, dtype=np.uint8)
    if trained.name == "image":
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(trained.folder / "turned.jpg", exif=exif, quality=95)
        return [trained.folder / "turned.jpg", write_deep(trained.folder / "deep.png", pixels)]
    if trained.name == "video":
        with av.open(str(trained.folder / "turned.mp4"), "w") as file:
            stream = file.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 40, 64, "yuv420p"
            stream.set_display_rotation(90)
            for number, slot in enumerate((0, 1, 2, 3, 10, 11, 12)):  # with a pause
                frame = av.VideoFrame.from_ndarray(np.roll(pixels, 5 * number, 1), format="rgb24")
                frame.pts, frame.time_base = slot, Fraction(1, 25)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        return [trained.folder / "turned.mp4"]
    return []


def test_onnx_gives_the_class_of_predict_in_the_script_of_the_docs(trained, capsys):
    pytest.importorskip("onnxscript")
    export_checkpoint(trained.app, [str(trained.run)])
    assert re.search(r"in onnxruntime [\d.]+ it differs from the model by \S+ at most", capsys.readouterr().out)
    assert (trained.run / "exported/README.md").read_text() == (trained.run / "checkpoints/best/README.md").read_text()
    predictions = trained.folder / "found.json"
    files = [*trained.files, *hard(trained)]
    trained.app.predict([str(trained.run), *map(str, files), "--output", str(predictions)])
    script = written_script(trained.folder, ON[trained.name])
    for file, found in zip(files, json.loads(predictions.read_text()), strict=True):
        name, probability = run_script(script, trained.run / "exported", file)
        assert name == found["classes"][0]
        assert float(probability) == pytest.approx(found["probabilities"][0], abs=2e-2)


def test_an_archive_is_loaded_and_takes_any_batch(trained):
    options = ["--data.windows", "2"] if trained.name == "audio" else []
    output = ["--output", str(trained.folder / "archive")]
    export_checkpoint(trained.app, [str(trained.run), "--format", "pt2", *output, *options])
    about = json.loads((trained.folder / "archive/model.json").read_text())
    assert about["checked"]["largest_difference"] <= about["checked"]["bound"] == 1e-4
    assert about["classes"] == json.loads((trained.run / "checkpoints/best/labels.json").read_text())
    module = torch.export.load(trained.folder / "archive/model.pt2").module()
    shape = [4 if isinstance(size, str) else size for size in about["input"]["shape"]]
    probabilities = module(torch.ones(shape, dtype=getattr(torch, about["input"]["dtype"])))
    assert probabilities.shape == (4, len(about["classes"]))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))


def test_the_scripts_are_short():
    assert SCRIPTS.keys() == {*ON.values(), "segment_picture", "find_objects"}
    for script in SCRIPTS.values():
        lines = [line for line in script.splitlines() if line and not line.startswith(("#", "import", "from"))]
        assert len(lines) <= 13


@pytest.mark.parametrize("name", APPS)
def test_a_wrong_command_is_refused_in_words(name, tmp_path, run_command):
    done = run_command(tmp_path, f"apps/{name}/export.py", "nowhere", check=False)
    assert done.returncode == 2
    assert "nowhere holds no checkpoint" in done.stderr


def test_files_of_others_are_not_written_over(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="--output must be a new or empty folder, or one that an export wrote"):
        check_output(tmp_path)
    (tmp_path / "model.json").touch()
    check_output(tmp_path)


def small_segmenter(**evaluation: object) -> tuple[Segmentation, Segmenter]:
    recipe = SegmentationRecipe(
        name="test",
        segmenter=SegmenterRecipe(kind="linear", auxiliary_weight=0),
        evaluation=SegmentationEvaluation(**evaluation),
    )
    recipe.model = TINY
    recipe.data.augmentation.crop_size = 32
    torch.manual_seed(0)
    return Segmentation(recipe), Segmenter(recipe.model, recipe.segmenter, 3).eval()


def test_a_segmenter_gives_logits_of_every_pixel(tmp_path):
    task, model = small_segmenter()
    about = export(task.export_model(model), tmp_path, "pt2", {})
    assert about["input"]["shape"] == ["batch", 32, 32, 3]
    pixels = torch.randint(256, (1, 32, 32, 3), dtype=torch.uint8)
    logits = torch.export.load(tmp_path / "model.pt2").module()(pixels)
    assert torch.equal(logits[0].argmax(0).to(torch.uint8), task.segment(model, pixels[0].movedim(-1, 0)))


@torch.no_grad()
@pytest.mark.parametrize("window", [None, 24, 99])
def test_a_segmenter_is_exported_at_other_sizes_with_its_windows(window):
    task, model = small_segmenter(window=window)
    made = task.export_model(model, size=(40, 56))
    assert made.input.preprocessing["views"] == (
        "one whole picture, once"
        if window is None
        else (f"windows of {window} x {window} pixels every {window * 2 // 3}")
    )
    assert [tuple(x.shape) for x in made.input.examples] == [(2, 40, 56, 3), (3, 40, 56, 3)]
    for pixels in made.input.examples[1]:
        labels = made.module(pixels[None])[0].argmax(0).to(torch.uint8)
        assert torch.equal(labels, task.segment(model, pixels.movedim(-1, 0)))


@pytest.mark.parametrize("evaluation", [{"scales": [0.5, 1.0]}, {"flip": True}], ids=str)
def test_a_segmenter_that_averages_over_views_is_refused_with_what_to_do(evaluation):
    with pytest.raises(ValueError, match=r"add --evaluation\.scales '\[1\.0\]' --evaluation\.flip false"):
        model_to_export(*small_segmenter(**evaluation))


def test_the_script_of_the_docs_segments_pictures_of_any_size(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    task, model = small_segmenter(window=32)
    classes = ["floor", "wall", "sky"]
    about = export(task.export_model(model, size=(32, 48)), tmp_path / "exported", "onnx", {"classes": classes})
    session = onnxruntime.InferenceSession(tmp_path / "exported/model.onnx")
    inside = json.loads(session.get_modelmeta().custom_metadata_map["eyetoy"])
    assert inside == {key: value for key, value in about.items() if key != "checked"}
    pixels = example_pictures([(32, 48)])[0]
    Image.fromarray(pixels.numpy()).save(tmp_path / "same.png")
    Image.fromarray(pixels.numpy()).resize((99, 70)).save(tmp_path / "larger.png")
    script, labels = written_script(tmp_path, "segment_picture"), tmp_path / "labels.png"
    written = [write(tmp_path / f"{write.__name__}.png", pixels.numpy()) for write in (write_deep, write_cut_out)]
    for file in (tmp_path / "same.png", *written):
        names = run_script(script, tmp_path / "exported", file, labels)
        expected = task.segment(model, read_image(file, grayscale=False))
        assert np.array_equal(np.asarray(Image.open(labels)), expected.numpy())
        assert names == [classes[label] for label in expected.unique()]
    run_script(script, tmp_path / "exported", tmp_path / "larger.png", labels)
    assert Image.open(labels).size == (99, 70)


@torch.no_grad()
def test_the_script_of_the_docs_finds_the_objects_of_the_model(tmp_path):
    """One of the pictures has none."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    recipe = DetectorRecipe(
        fpn_channels=16, anchor_sizes=[16, 32, 64], proposals_eval=50, box_head_channels=32, mask_head_channels=[8]
    )
    torch.manual_seed(0)
    detector = Detector(TINY, recipe, 2, (64, 96)).eval()
    torch.nn.init.normal_(detector.rcnn.roi_heads.box_predictor.cls_score.weight, std=0.2)
    made = Detection(DetectionRecipe(name="test")).export_model(detector, size=(64, 96))
    pictures = made.input.examples
    best = torch.stack([made.original(x)[2].max() for x in pictures]).sort().values
    detector.rcnn.roi_heads.score_thresh = float(best[:2].mean())  # between the best scores of two pictures
    about = export(made, tmp_path / "exported", "onnx", {"classes": ["cup", "cat"]})
    assert [output["name"] for output in about["outputs"]] == ["boxes", "labels", "scores", "masks"]
    assert about["input"]["shape"] == ["height", "width", 3]
    session = onnxruntime.InferenceSession(tmp_path / "exported/model.onnx")
    counts = [len(session.run(["scores"], {"pixels": x.numpy()})[0]) for x in pictures]
    assert min(counts) == 0 < max(counts)
    assert sum(counts) == about["checked"]["compared"]
    script, pixels = written_script(tmp_path, "find_objects"), pictures[0].numpy()
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    for file in (
        tmp_path / "picture.png",
        write_deep(tmp_path / "deep.png", pixels),
        write_cut_out(tmp_path / "cut_out.png", pixels),
    ):
        (found,) = detector([read_image(file, grayscale=False) / 255])  # not resized, not padded
        words = run_script(script, tmp_path / "exported", file)
        assert len(found["labels"])
        assert words[::7] == [["cup", "cat"][label - 1] for label in found["labels"]]
        assert words[1::7] == [f"{score:.3f}" for score in found["scores"].tolist()]
        sides = [list(map(float, words[start + 2 : start + 6])) for start in range(0, len(words), 7)]
        torch.testing.assert_close(torch.tensor(sides), found["boxes"], rtol=0, atol=0.06)  # rounded to a digit
        assert [int(area) for area in words[6::7]] == (found["masks"] > 0.5).sum((1, 2, 3)).tolist()


@pytest.mark.parametrize("options", [{"size": (32, 32)}, {"check_on": [Path("a.png")]}], ids=str)
def test_sizes_of_others_are_refused_by_name(options):
    with pytest.raises(ValueError, match=r"--sizes and --check_on are for detectors and segmenters; a model of object"):
        model_to_export(object(), torch.nn.Identity(), **options)


@pytest.mark.parametrize("size", ["480", "480x", "480x0", "axb", "-4x4"])
def test_a_size_of_no_pixels_is_refused(size, capsys):
    with pytest.raises(SystemExit):
        export_checkpoint(IMAGE, ["run", "--sizes", size])
    assert re.search(r"--sizes: (must be a height and a width|expected at least)", capsys.readouterr().err)


def test_every_size_has_a_folder(tmp_path, checkpoints, capsys, monkeypatch):
    written = {}

    def write(model, folder, kind, facts):
        written[folder.relative_to(tmp_path).as_posix()] = list(model.input.examples[0].shape)
        given = {"name": "pixels", "dtype": "uint8", "shape": []}
        checked = {"compared": 2, "inputs": [0, 0], "runtime": "torch", "largest_difference": 0, "bound": 1e-4}
        return {"file": "model.pt2", "input": given, "output": {"name": "logits"}, "checked": checked, **facts}

    monkeypatch.setattr("eyetoy_train.commands.export.export", write)
    common = [str(checkpoints / "runs/segmentation"), "--output", str(tmp_path / "new"), "--evaluation.scales", "[1.0]"]
    export_checkpoint(app_of("segmentation"), [*common, "--sizes", "32x48", "16x16"])
    export_checkpoint(app_of("segmentation"), [*common, "--sizes", "24x24"])
    assert written == {"new/32x48": [2, 32, 48, 3], "new/16x16": [2, 16, 16, 3], "new": [2, 24, 24, 3]}
    assert capsys.readouterr().out.count("model.pt2: pixels uint8 [] to logits; in torch it differs") == 3
