"""The image app with a recipe of segmentation, as a user runs it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from helpers.commands import printed, trained_on_composed_digits
from helpers.paths import config

CONFIG = config("image", "composed_segmentation")
SMALL = (
    "--model.name",
    "eyetoy2d_pico",
    "--segmenter.channels",
    16,
    "--epochs",
    1,
    "--data.augmentation.crop_size",
    64,
)
workplace = trained_on_composed_digits(CONFIG, *SMALL)


def test_the_run_ends_with_a_report_and_a_checkpoint_of_weights_and_text(workplace):
    results = json.loads((workplace / "run" / "results.json").read_text())
    assert results["test"]["count"] == 7
    assert {"mIoU", "pixel_accuracy", "mean_accuracy"} <= set(results["test"])
    report = (workplace / "run" / "report.html").read_text()
    for text in ("mIoU", "<h2>Classes</h2>", "<th>IoU</th>", "<h2>Confusion</h2>", "by whole pictures"):
        assert text in report
    with Image.open(workplace / "run" / "samples.png") as sheet:
        assert sheet.size[0] == 6 * 192 + 7 * 6
    best = workplace / "run" / "checkpoints" / "best"
    assert {"model.safetensors", "config.json", "labels.json", "recipe.yaml"} <= {path.name for path in best.iterdir()}
    assert json.loads((best / "labels.json").read_text()) == ["background", *"0123456789"]


def test_validate_on_two_processes_equals_a_count_over_the_maps_that_predict_writes(workplace, run_command):
    """Of seven pictures, which two processes cannot share equally; through windows, mirrored too."""
    how = ("--evaluation.window", 48, "--evaluation.flip", "true", "--evaluation.scales", "[1.0]")
    two = printed(run_command(workplace, "apps/image/validate.py", "run", *how, "--output", "two", processes=2))
    run_command(workplace, "apps/image/predict.py", "run", "data/test", "--maps", "--output", "maps", *how)
    confusion = np.zeros((11, 11))
    for path in sorted((workplace / "data" / "maps" / "test").iterdir()):
        with Image.open(path) as truth, Image.open(workplace / "maps" / path.name) as found:
            assert found.mode == "P"
            np.add.at(confusion, (np.asarray(truth).ravel(), np.asarray(found).ravel()), 1)
    unions = confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    expected = (confusion.diagonal()[unions > 0] / unions[unions > 0]).mean()
    assert two["mIoU"] == pytest.approx(expected, abs=1e-12)
    assert two["count"] == 7
    assert two["protocol"] == "windows of 48 x 48 pixels every 32, mirrored too"
    assert (workplace / "two" / "classes.csv").is_file()


def test_predict_draws_prints_and_names_what_it_cannot_read(workplace, run_command):
    inputs = workplace / "inputs"
    inputs.mkdir()
    shutil.copy(workplace / "data" / "test" / "00000.jpg", inputs / "one.jpg")
    Image.new("RGB", (53, 37)).save(inputs / "odd.png")
    (inputs / "broken.png").write_bytes(b"no picture")
    done = run_command(workplace, "apps/image/predict.py", "run", "inputs", "--output", "drawn", check=False)
    assert done.returncode == 1
    assert "skipped: cannot read inputs/broken.png" in done.stderr
    assert {path.name for path in (workplace / "drawn").iterdir()} == {"one.png", "odd.png"}
    with Image.open(workplace / "drawn" / "odd.png") as drawn:
        assert drawn.size[0] >= 53
        assert drawn.size[1] >= 37  # below the picture is a legend of the classes on it
    lines = run_command(workplace, "apps/image/predict.py", "run", "inputs/one.jpg").stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("inputs/one.jpg  ")


def test_the_check_takes_the_recipes_task(workplace, run_command, repository):
    spoiled = workplace / "spoiled"
    shutil.copytree(workplace / "data", spoiled)
    (spoiled / "maps" / "val" / "00001.png").unlink()
    arguments = ("--config", CONFIG, "--data.root", "spoiled")
    done = run_command(workplace, "apps/image/check.py", *arguments, check=False)
    assert done.returncode == 1
    assert "val of spoiled: 5 pictures; wrong: 1 missing map" in done.stdout
