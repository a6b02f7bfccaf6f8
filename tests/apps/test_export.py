"""export.py of every app, and the scripts of docs/export.md, which run what it wrote without this project's code."""

from __future__ import annotations

import io
import json
import re
import runpy
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from eyetoy_audio.app import APP as AUDIO
from eyetoy_audio.datasets.spoken_keywords import Split, write_spoken_keywords
from eyetoy_image.classification import APP as IMAGE
from eyetoy_image.detection import Detection, DetectionRecipe
from eyetoy_image.segmentation import Segmentation, SegmentationRecipe, SegmenterRecipe
from eyetoy_image.segmentation.model import Segmenter
from eyetoy_train.commands.export import check_output, export_checkpoint
from eyetoy_train.export.exporter import export
from eyetoy_train.export.portable import model_to_export
from eyetoy_video.app import APP as VIDEO
from eyetoy_video.datasets.moving_digits import write_moving_digits
from helpers.commands import write_pictures
from helpers.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "export.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^```python\n(# python classify_(\w+).py.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
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


APPS = {
    "image": (
        write_images,
        ("--data.image_size", 16, "--data.crop_pct", 0.9, "--data.grayscale", "false", "--model.stem_strides", "[4]"),
        "bright/*.png",
        IMAGE,
    ),
    "audio": (
        write_sounds,
        ("--data.sample_rate", 8000, "--data.seconds", 0.4, "--data.windows", 2, "--model.stem_strides", "[8, 8]"),
        "val/*/*.wav",
        AUDIO,
    ),
    "video": (write_videos, ("--data.num_frames", 4, "--data.transform.size", 16), "test/*/*.mp4", VIDEO),
}
ON = {"image": "picture", "audio": "sound", "video": "video"}


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


def run_script(path: Path, *arguments: Path) -> list[str]:
    """Return the words that a script prints."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        runpy.run_path(str(path))
    return printed.getvalue().split()


def test_onnx_gives_the_class_of_predict_in_the_script_of_the_docs(trained, capsys):
    pytest.importorskip("onnxscript")
    export_checkpoint(trained.app, [str(trained.run)])
    assert re.search(r"in onnxruntime [\d.]+ it differs from the model by \S+ at most", capsys.readouterr().out)
    assert (trained.run / "exported/README.md").read_text() == (trained.run / "checkpoints/best/README.md").read_text()
    predictions = trained.folder / "found.json"
    trained.app.predict([str(trained.run), *map(str, trained.files), "--output", str(predictions)])
    script = trained.folder / "classify.py"
    script.write_text({kind: text for text, kind in SCRIPTS}[ON[trained.name]])
    assert not re.search(r"import .*(eyetoy|torch)", script.read_text())
    for file, found in zip(trained.files, json.loads(predictions.read_text()), strict=True):
        name, probability = run_script(script, trained.run / "exported", file)
        assert name == found["classes"][0]
        assert float(probability) == pytest.approx(found["probabilities"][0], abs=2e-2)


def test_an_archive_is_loaded_and_takes_any_batch(trained):
    export_checkpoint(trained.app, [str(trained.run), "--format", "pt2", "--output", str(trained.folder / "archive")])
    about = json.loads((trained.folder / "archive/model.json").read_text())
    assert about["checked"]["largest_difference"] <= about["checked"]["bound"] == 1e-4
    assert about["classes"] == json.loads((trained.run / "checkpoints/best/labels.json").read_text())
    module = torch.export.load(trained.folder / "archive/model.pt2").module()
    shape = [4 if isinstance(size, str) else size for size in about["input"]["shape"]]
    probabilities = module(torch.ones(shape, dtype=getattr(torch, about["input"]["dtype"])))
    assert probabilities.shape == (4, len(about["classes"]))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))


def test_the_scripts_have_ten_lines():
    assert len(SCRIPTS) == 3
    for script, _ in SCRIPTS:
        lines = [line for line in script.splitlines() if line and not line.startswith(("#", "import", "from"))]
        assert len(lines) <= 10


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


def test_a_segmenter_gives_logits_of_every_pixel(tmp_path):
    recipe = SegmentationRecipe(name="test", segmenter=SegmenterRecipe(kind="linear", auxiliary_weight=0))
    recipe.data.augmentation.crop_size = 32
    task, model = Segmentation(recipe), Segmenter(recipe.model, recipe.segmenter, 3).eval()
    about = export(task.export_model(model), tmp_path, "pt2", {})
    assert about["input"]["shape"] == ["batch", 32, 32, 3]
    pixels = torch.randint(256, (1, 32, 32, 3), dtype=torch.uint8)
    logits = torch.export.load(tmp_path / "model.pt2").module()(pixels)
    assert torch.equal(logits[0].argmax(0).to(torch.uint8), task.segment(model, pixels[0].movedim(-1, 0)))


def test_a_detector_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"a detector chooses its proposals.*predict\.py, with --output found\.json"):
        model_to_export(Detection(DetectionRecipe(name="test")), torch.nn.Identity())
