"""Pictures with any number of labels: trained, scored, and every label above a threshold is written."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest
from PIL import Image

import eyetoy
from eyetoy_image.app import APP
from eyetoy_image.check import check

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run on pictures whose channels are light or dark, with a label for each light one."""
    folder = tmp_path_factory.mktemp("tagged")
    generator, rows = random.Random(0), ["image_id,red,green,blue"]
    (folder / "pictures").mkdir()
    for number in range(120):
        light = [generator.random() < 0.5 for _ in COLOURS]
        pixel = tuple(generator.randrange(180, 256) if one else generator.randrange(70) for one in light)
        Image.new("RGB", (8, 8), pixel).save(folder / "pictures" / f"{number}.png")
        rows.append(",".join([str(number), *(str(int(one)) for one in light)]))
    (folder / "labels.csv").write_text("\n".join(rows))
    options = {
        "task": "classification",
        "data.source": "tagged",
        "data.root": folder,
        "data.image_size": 8,
        "data.grayscale": "false",
        "data.augmentation.mixup": 0.2,
        "model.name": "eyetoy2d_pico",
        "model.stem_strides": "[2]",
        "epochs": 8,
        "batch_size": 16,
        "lr": 3e-3,
        "eval_metric": "f1",
        "output_dir": folder / "run",
    }
    APP.train([f"--{key}={value}" for key, value in options.items()])
    return folder / "run"


def test_it_learns_and_is_scored_by_precision_and_f1(run):
    results = json.loads((run / "results.json").read_text())
    assert results["test"]["count"] == 24
    assert results["test"]["mAP"] > 0.95
    assert results["test"]["f1"] > 0.9
    assert (run / "samples.png").is_file()


def predicted(run: Path, *options: str) -> dict[str, dict[str, float]]:
    output = run.parent / "found.csv"
    APP.predict([str(run), str(run.parent / "pictures"), "--output", str(output), *options])
    found: dict[str, dict[str, float]] = {}
    with output.open() as file:
        for row in csv.DictReader(file):
            classes = found.setdefault(Path(row["file"]).stem, {})
            if row["class"]:
                classes[row["class"]] = float(row["probability"])
    return found


def test_every_label_above_the_threshold_is_written(run):
    everything, likely = predicted(run, "--threshold", "0"), predicted(run)
    assert all(len(classes) == 3 for classes in everything.values())
    assert len(everything) == len(likely) == 120  # files without a label, too
    for file, classes in everything.items():
        assert likely[file] == {name: p for name, p in classes.items() if p >= 0.5}
    with (run.parent / "labels.csv").open() as file:
        truth = {row["image_id"]: {name for name in COLOURS if row[name] == "1"} for row in csv.DictReader(file)}
    assert sum(likely[file].keys() == names for file, names in truth.items()) > 100
    best = predicted(run, "--top_k", "1")
    assert all(len(classes) == 1 for classes in best.values())
    assert all(len(classes) <= 1 for classes in predicted(run, "--top_k", "1", "--threshold", "0.5").values())


def test_a_loaded_model_answers_as_the_command(run):
    model, files = eyetoy.load(run), sorted((run.parent / "pictures").iterdir())
    for options in ({}, {"threshold": 0.2}, {"top_k": 1}, {"top_k": 2, "threshold": 0.5}):
        said = predicted(run, *(part for name, value in options.items() for part in (f"--{name}", str(value))))
        for answer in model.predict(files, **options):
            assert dict(answer.ranked) == pytest.approx(said[Path(answer.file).stem], abs=2e-4)
    nothing = next(answer for answer in model.predict(files, threshold=1.0) if not answer.classes)
    with pytest.raises(ValueError, match="no class is as probable as the threshold"):
        _ = nothing.label
    for options, said in (
        ({"threshold": 2}, "threshold must be from 0 to 1"),
        ({"top_k": 0}, "top_k must be at least"),
    ):
        with pytest.raises(ValueError, match=said):
            model.predict(files, **options)


def test_a_threshold_out_of_range_and_wrong_options_are_refused(run, capsys):
    for options in (["--threshold", "1.5"], ["--threshold", "0.5", "--data.label_separator", "space"]):
        with pytest.raises(SystemExit, match="^2$"):
            APP.predict([str(run), str(run.parent / "pictures"), *options])
    said = capsys.readouterr().err
    assert "--threshold must be from 0 to 1; got 1.5" in said
    assert "--data.label_separator is about a data set" in said


def test_the_check_compares_sets_of_labels(run, capsys):
    picture = run.parent / "pictures" / "0.png"
    (run.parent / "more").mkdir()
    rows = ["file,labels", "a,red;blue", "b,blue;red", "c,red", "d,blue"]
    for number, name in enumerate("abcd"):
        Image.open(picture).save(run.parent / "more" / f"{name}.png", compress_level=1 + (number == 3))
    (run.parent / "more" / "train.csv").write_text("\n".join(rows[:4]))
    (run.parent / "more" / "val.csv").write_text("\n".join([rows[0], rows[4]]))
    options = ["--task", "classification", "--data.source", "tagged", "--data.root", str(run.parent / "more")]
    assert check([*options, "--split", "train"]) == 1
    said = capsys.readouterr().out
    assert f"contradictory: {run.parent / 'more' / 'c.png'}: it is of red, and its copy" in said
    assert "3 files: 0 right, 3 contradictory" in said


def test_all_of_another_folder_without_split_tables_are_scored(run, tmp_path, capsys):
    for number, row in enumerate(("red", "blue;red", "", "green")):
        colours = row.split(";")
        pixel = tuple(220 if name in colours else 20 for name in COLOURS)
        Image.new("RGB", (8, 8), pixel).save(tmp_path / f"{number}.png")
        with (tmp_path / "all.csv").open("a") as file:
            file.write(f"{number},{row}\n" if number else f"image_id,labels\n{number},{row}\n")

    def scored(*options: str) -> tuple[dict, str]:
        APP.validate([str(run), "--num_workers", "0", *options])
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    for root in (tmp_path, tmp_path / "all.csv"):
        scores, said = scored("--data.root", str(root))
        assert (scores["split"], scores["count"]) == ("all", 4)
        assert f"{root} has no split folders: all its 4 files are scored" in said
    scores, said = scored("--data.root", str(tmp_path), "--split", "test")
    assert (scores["split"], scores["count"]) == ("test", 1)
    (tmp_path / "all.csv").rename(tmp_path / "test.csv")
    scores, said = scored("--data.root", str(tmp_path))
    assert (scores["split"], scores["count"]) == ("test", 4)
    assert "no split folders" not in said


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_without_a_label_is_refused_before_the_first_step(tmp_path, split):
    for part in ("train", "val", "test"):
        rows = ["image_id,red,green"]
        for number in range(4):
            picture = tmp_path / part / f"{number}.png"
            picture.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(picture)
            rows.append(f"{part}/{picture.name},{int(part != split)},{int(part != split and number > 1)}")
        (tmp_path / f"{part}.csv").write_text("\n".join(rows))
    task, _ = APP.parse_args(["--task=classification", "--data.source=tagged", f"--data.root={tmp_path}"])
    with pytest.raises(
        ValueError, match=f"^none of the 4 {split} samples in .* has a label; label them, or take the split"
    ):
        task.prepare()
