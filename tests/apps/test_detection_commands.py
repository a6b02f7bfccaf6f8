"""The image app with a recipe of detection, as a user runs it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from helpers.commands import printed, trained_on_composed_digits
from helpers.paths import config

CONFIG = config("image", "composed_detection")
SMALL = (
    *("--model.name", "eyetoy2d_pico", "--detector.anchor_sizes", "[16, 32, 64]", "--detector.fpn_channels", 16),
    *("--detector.box_head_channels", 32, "--detector.mask_head_channels", "[8]", "--detector.score_threshold", 0.01),
    *("--steps_per_epoch", 100, "--epochs", 1, "--data.short_side", 64, "--data.long_side", 64),
    *("--data.augmentation.short_sides", "[64]"),
)
workplace = trained_on_composed_digits(CONFIG, *SMALL)


def test_the_run_ends_with_a_report_of_scores_classes_and_pictures(workplace):
    results = json.loads((workplace / "run" / "results.json").read_text())
    assert results["test"]["count"] == 7
    assert {"box_AP", "box_AP50", "mask_AP", "mask_AP50", "mask_APl"} <= set(results["test"])
    report = (workplace / "run" / "report.html").read_text()
    for text in ("mask_AP", "<h2>Classes</h2>", "mask AP75", "Samples of the test set", "<h2>Confusion</h2>"):
        assert text in report
    with Image.open(workplace / "run" / "samples.png") as sheet:
        assert sheet.size[0] == 4 * 256 + 5 * 6


def test_the_checkpoint_is_weights_and_text(workplace):
    best = workplace / "run" / "checkpoints" / "best"
    names = {path.name for path in best.iterdir()}
    assert {"model.safetensors", "config.json", "labels.json", "categories.json", "recipe.yaml"} <= names
    assert all(path.suffix in (".safetensors", ".json", ".yaml", ".md") for path in best.iterdir())
    assert json.loads((best / "labels.json").read_text()) == list("0123456789")


def test_validate_on_two_processes_is_validate_on_one_and_pycocotools_by_hand(workplace, run_command):
    """Of seven pictures, which two processes cannot share equally."""
    one = printed(run_command(workplace, "apps/image/validate.py", "run", "--output", "scores"))
    two = printed(run_command(workplace, "apps/image/validate.py", "run", processes=2))
    expected = json.loads((workplace / "run" / "results.json").read_text())["test"]
    for scores in (one, two):
        assert {key: scores[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    truth = COCO(str(workplace / "data" / "annotations" / "instances_test.json"))
    for name, kind in (("box", "bbox"), ("mask", "segm")):
        evaluation = COCOeval(truth, truth.loadRes(str(workplace / "scores" / f"{name}_detections.json")), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        names = [f"{name}_{score}" for score in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
        assert [one[score] for score in names] == evaluation.stats[:6].tolist()
    assert (workplace / "scores" / "classes.csv").read_text().startswith("class,objects,box AP,")


def test_validate_refuses_other_classes(workplace, run_command):
    shutil.copytree(workplace / "data", workplace / "other", dirs_exist_ok=True)
    for path in (workplace / "other" / "annotations").iterdir():
        path.write_text(path.read_text().replace('"name": "9"', '"name": "nine"'))
    done = run_command(workplace, "apps/image/validate.py", "run", "--data.root", "other", check=False)
    assert done.returncode == 2
    assert "nine" in done.stderr
    assert "Traceback" not in done.stderr


def test_predict_draws_over_the_pictures(workplace, run_command):
    run_command(workplace, "apps/image/predict.py", "run", "data/test", "--output", "drawn", "--threshold", 0.01)
    files = sorted((workplace / "drawn").iterdir())
    assert [file.name for file in files] == [f"{number:05d}.png" for number in range(7)]
    changed = 0
    for file in files:
        with Image.open(file) as drawn, Image.open(workplace / "data" / "test" / f"{file.stem}.jpg") as picture:
            assert drawn.size == picture.size
            changed += int((np.asarray(drawn) != np.asarray(picture.convert("RGB"))).any())
    assert changed


def test_predict_writes_cocos_results_and_lines(workplace, run_command):
    run_command(workplace, "apps/image/predict.py", "run", "data/test/00003.jpg", "--output", "found.json")
    found = json.loads((workplace / "found.json").read_text())
    assert found
    for entry in found:
        assert entry["image_id"] == 3
        assert entry["file_name"] == "data/test/00003.jpg"
        assert 1 <= entry["category_id"] <= 10
        assert coco_mask.decode(entry["segmentation"]).shape == (64, 64)
    done = run_command(workplace, "apps/image/predict.py", "run", "data/test/00003.jpg", "--threshold", 0)
    assert len(done.stdout.strip().splitlines()) == len(found)


def test_pictures_of_other_names_have_their_places_as_ids(workplace, run_command):
    shutil.copy(workplace / "data" / "test" / "00003.jpg", workplace / "two.jpg")
    files = ("data/test/00002.jpg", "two.jpg")
    run_command(workplace, "apps/image/predict.py", "run", *files, "--output", "both.json")
    found = json.loads((workplace / "both.json").read_text())
    assert {(entry["image_id"], entry["file_name"]) for entry in found} == {(1, files[0]), (2, files[1])}


def test_predict_names_what_it_cannot_read_and_goes_on(workplace, run_command):
    (workplace / "broken.png").write_bytes(b"")
    arguments = ("run", "broken.png", "data/test/00001.jpg", "--output", "some", "--threshold", 0.01)
    done = run_command(workplace, "apps/image/predict.py", *arguments, check=False)
    assert done.returncode == 1
    assert "skipped: cannot read broken.png as a picture" in done.stderr
    assert [file.name for file in (workplace / "some").iterdir()] == ["00001.png"]


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("predict.py", ("run", "data/test", "--output", "out.txt"), "must be a folder or end in .json; got out.txt"),
        ("predict.py", ("run", "data/test", "data/val", "--output", "out"), "written to one file, out/00000.png"),
        ("predict.py", ("run", "data/test", "--threshold", 2), "--threshold must be from 0 to 1; got 2.0"),
        ("train.py", ("--detector.anchor_sizes", "[3]", "--data.root", "data"), "5 in all; got [3]"),
        ("train.py", ("--detector.kinds", "x"), "Did you mean --detector.kind?"),
    ],
)
def test_wrong_input_is_refused_in_words(workplace, refused, script, arguments, message):
    config = ("--config", CONFIG, "--output_dir", "new") if script == "train.py" else ()
    assert message in refused(workplace, f"apps/image/{script}", *config, *arguments)


def test_an_unknown_task_is_refused(workplace, run_command):
    (workplace / "odd.yaml").write_text("task: juggling\n")
    done = run_command(workplace, "apps/image/train.py", "--config", "odd.yaml", check=False)
    assert done.returncode == 2
    assert "task must be one of classification, detection, segmentation; got juggling" in done.stderr
