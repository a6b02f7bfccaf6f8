"""The audio and the video app on small folders of real files, as a user runs them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from eyetoy_audio.datasets.spoken_keywords import Split, write_spoken_keywords
from eyetoy_video.datasets.moving_digits import write_moving_digits


def write_sounds(root: Path) -> None:
    voices = (("train", ("f1", "m1")), ("val", ("f2",)), ("test", ("m2",)))
    splits = [Split(name, variants, clips=3) for name, variants in voices]
    write_spoken_keywords(root, words=("yes", "no"), splits=splits)


def write_videos(root: Path) -> None:
    write_moving_digits(root, train=2, val=1, test=1, num_frames=6, size=32)


APPS = {
    "audio": (write_sounds, "yes", ("--data.sample_rate", 8000), {"val": 6, "test": 6}),
    "video": (write_videos, "left", ("--data.num_frames", 4, "--data.transform.size", 16), {"val": 8, "test": 8}),
}


@pytest.mark.parametrize("app", APPS)
def test_an_app_trains_scores_and_predicts_on_a_folder_of_files(app, tmp_path, run_command):
    write, name, options, counts = APPS[app]
    write(tmp_path / "files")
    source = ("--data.source", "folder", "--data.root", "files", "--output_dir", "run")
    run_command(tmp_path, f"apps/{app}/train.py", *source, *options, "--epochs", 1, "--batch_size", 4)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {split: results[split]["count"] for split in counts} == counts
    assert (tmp_path / "run" / "samples.png").stat().st_size > 10_000
    done = run_command(tmp_path, f"apps/{app}/validate.py", "run", "--split", "val")
    assert json.loads(done.stdout[done.stdout.index("{") :])["accuracy"] == results["val"]["accuracy"]
    done = run_command(tmp_path, f"apps/{app}/predict.py", "run", f"files/test/{name}")
    assert len(done.stdout.strip().splitlines()) == len(list((tmp_path / "files" / "test" / name).iterdir()))


@pytest.mark.parametrize("app", APPS)
def test_a_broken_file_is_named(app, tmp_path, run_command):
    write, name, options, _ = APPS[app]
    write(tmp_path / "files")
    broken = next((tmp_path / "files" / "train" / name).iterdir())
    broken.write_bytes(b"not what it says")
    source = ("--data.source", "folder", "--data.root", "files", "--output_dir", "run")
    done = run_command(tmp_path, f"apps/{app}/train.py", *source, *options, "--epochs", 1, check=False)
    assert done.returncode == 2
    assert broken.name in done.stderr


def test_a_video_is_predicted_part_by_part(tmp_path, run_command):
    write_videos(tmp_path / "files")
    source = ("--data.source", "folder", "--data.root", "files", "--output_dir", "run")
    run_command(tmp_path, "apps/video/train.py", *source, *APPS["video"][2], "--epochs", 1)
    samples, _, mistakes = (tmp_path / "run" / "report.html").read_text().partition("<h2>Mistakes")
    assert "<video controls" in mistakes
    assert samples.count("<video controls autoplay loop muted playsinline") == 8, "one for each sample"
    (tmp_path / "broken.mp4").write_bytes(b"")
    files = ("files/test/left/00000.mp4", "broken.mp4", "files/test/up/00000.mp4")
    timeline = ("--timeline", 0.1, "--top_k", 2)
    done = run_command(tmp_path, "apps/video/predict.py", "run", *files, *timeline, check=False)
    assert done.returncode == 1
    assert "skipped: broken.mp4: the file is empty" in done.stderr
    lines = [line.split("  ")[:2] for line in done.stdout.strip().splitlines()]
    spans = ["0.0-0.1 s", "0.1-0.2 s", "0.2-0.3 s", "0.3-0.4 s"]  # 6 frames, 16 a second
    assert lines == [[file, span] for file in (files[0], files[2]) for span in spans]
    run_command(tmp_path, "apps/video/predict.py", "run", files[0], *timeline, "--output", "parts.csv")
    rows = list(csv.DictReader((tmp_path / "parts.csv").open()))
    assert [(row["start"], row["end"], row["rank"]) for row in rows[:3]] == [
        ("0.0", "0.094", "1"),
        ("0.0", "0.094", "2"),
        ("0.094", "0.188", "1"),
    ]
    run_command(tmp_path, "apps/video/predict.py", "run", files[0], *timeline, "--output", "parts.json")
    parts = json.loads((tmp_path / "parts.json").read_text())
    assert [(part["start"], part["end"]) for part in parts] == [
        (0.0, 0.094),
        (0.094, 0.188),
        (0.188, 0.281),
        (0.281, 0.375),
    ]
    done = run_command(tmp_path, "apps/video/predict.py", "run", files[0], "--timeline", 0, check=False)
    assert done.returncode == 2
    assert "--timeline must be above 0 seconds; got 0" in done.stderr
