"""train.py, validate.py and predict.py of the image app, as a user runs them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = ("--epochs", 2, "--model.stem_strides", "[4]", "--data.image_size", 16)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, run_command) -> Path:
    """A folder with pictures in class folders, and a run that was trained on them by two processes."""
    folder = tmp_path_factory.mktemp("image")
    generator = np.random.default_rng(0)
    for shade, name in ((50, "dark"), (200, "bright")):
        for index in range(27):
            path = folder / "pictures" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.normal(shade, 20, (generator.integers(9, 40), 20, 3)).clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    source = ("--data.source", "folder", "--data.root", "pictures", "--batch_size", 8)
    run_command(folder, "eyetoy", "train", "image", *SMALL, *source, "--output_dir", "two", launch=True)
    run_command(folder, "apps/image/train.py", *SMALL, *source, "--output_dir", "one")
    return folder


def scores(folder: Path, run: str) -> dict:
    return json.loads((folder / run / "results.json").read_text())


def test_two_processes_train_and_count_like_one(workplace):
    one, two = scores(workplace, "one"), scores(workplace, "two")
    assert two["environment"]["processes"] == 2
    for split in ("val", "test"):
        assert one[split]["count"] == two[split]["count"]
        assert one[split] == pytest.approx(two[split], abs=1e-3)
    losses = [
        [json.loads(line)["train_loss"] for line in (workplace / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_held_out_sets_are_counted_whole(workplace):
    assert scores(workplace, "one")["test"]["count"] == 10
    assert scores(workplace, "one")["val"]["count"] == 6


def test_validate_gives_the_score_of_the_run(workplace, run_command):
    done = run_command(workplace, "apps/image/validate.py", "one")
    printed = json.loads(done.stdout[done.stdout.index("{") :])
    expected = scores(workplace, "one")["test"]
    assert {key: printed[key] for key in expected} == pytest.approx(expected, rel=1e-4)
    assert printed["samples_per_second"] > 0


def test_validate_writes_what_stands_behind_the_scores(workplace, run_command):
    run_command(workplace, "apps/image/validate.py", "one", "--output", "scores")
    written = {path.name for path in (workplace / "scores").iterdir()}
    assert written == {"scores.json", "classes.csv", "calibration.csv", "predictions.csv", "confusion.png"}
    with (workplace / "scores" / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == {"bright", "dark"}
    assert (
        sum(int(row["samples"]) for row in rows) == json.loads((workplace / "scores/scores.json").read_text())["count"]
    )


def test_validate_takes_other_data_and_refuses_other_classes(workplace, run_command):
    done = run_command(workplace, "apps/image/validate.py", "one", "--split", "val", "--seed", 5)
    assert '"split": "val"' in done.stdout
    for name in ("a", "b"):
        (workplace / "others" / name).mkdir(parents=True)
        for index in range(3):  # one for each split
            Image.new("RGB", (8, 8)).save(workplace / "others" / name / f"{index}.png")
    done = run_command(workplace, "apps/image/validate.py", "one", "--data.root", "others", check=False)
    assert done.returncode == 2
    assert "does not know: a, b; it knows bright, dark" in done.stderr
    assert "Traceback" not in done.stderr


def test_predict_writes_lines_json_and_csv(workplace, run_command):
    done = run_command(workplace, "apps/image/predict.py", "one", "pictures/dark", "--top_k", 1)
    assert len(done.stdout.strip().splitlines()) == 27
    run_command(workplace, "apps/image/predict.py", "one", "pictures/dark/3.png", "--output", "out.json")
    (prediction,) = json.loads((workplace / "out.json").read_text())
    assert prediction["file"] == "pictures/dark/3.png"
    assert sum(prediction["probabilities"]) == pytest.approx(1, abs=1e-3)
    run_command(workplace, "apps/image/predict.py", "one", "pictures", "--output", "lists/of/predict/out.csv")
    with (workplace / "lists" / "of" / "predict" / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 27


def test_predict_takes_patterns(workplace, run_command):
    done = run_command(workplace, "apps/image/predict.py", "one", "pictures/*/1?.png", "--top_k", 1)
    assert len(done.stdout.strip().splitlines()) == 20
    done = run_command(workplace, "apps/image/predict.py", "one", "pictures/*.gif", check=False)
    assert done.returncode == 2
    assert "there is no file or folder pictures/*.gif, and no file matches it as a pattern" in done.stderr


def test_predict_names_what_it_cannot_read_and_goes_on(workplace, run_command):
    (workplace / "empty.png").write_bytes(b"")
    arguments = ("one", "pictures/dark/3.png", "empty.png", "pictures/dark/4.png", "--top_k", 1)
    done = run_command(workplace, "apps/image/predict.py", *arguments, check=False)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["pictures/dark/3.png", "pictures/dark/4.png"]
    assert "skipped: cannot read empty.png as a picture" in done.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("predict.py", ("nowhere", "x.png"), "nowhere holds no checkpoint"),
        ("predict.py", ("one", "missing.png"), "missing.png"),
        ("predict.py", ("one", "pictures/dark/3.png", "--output", "out.txt"), ".json or .csv"),
        ("train.py", ("--data.sauce", "folder"), "Did you mean --data.source?"),
        ("train.py", ("--data.source", "folder", "--data.root", "nowhere", "--output_dir", "new"), "nowhere"),
        ("train.py", ("--model.name", "eyetoy9d", "--output_dir", "new2"), "eyetoy2d_pico"),
    ],
)
def test_wrong_input_is_refused_in_words(workplace, refused, script, arguments, message):
    assert message in refused(workplace, f"apps/image/{script}", *arguments)


def test_predict_of_a_broken_picture_alone_names_it(workplace, run_command):
    (workplace / "broken.png").write_text("not a picture")
    done = run_command(workplace, "apps/image/predict.py", "one", "broken.png", check=False)
    assert done.returncode == 1
    assert "broken.png" in done.stderr


def test_the_code_of_the_card_answers_as_predict_does(workplace, run_command, capsys):
    best = workplace / "one" / "checkpoints" / "best"
    (code,) = re.findall(r"^```python\n(.*?)^```$", (best / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    exec(code.replace("OWNER/NAME", str(best)).replace("FILE", str(workplace / "pictures/dark/3.png")))  # noqa: S102
    run_command(workplace, "apps/image/predict.py", "one", "pictures/dark/3.png", "--output", "card.json")
    (expected,) = json.loads((workplace / "card.json").read_text())
    said = f"classes={tuple(expected['classes'])}, probabilities={tuple(expected['probabilities'])}"
    assert said in capsys.readouterr().out
