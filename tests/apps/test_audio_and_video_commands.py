"""The audio and the video app on small folders of real files, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eyetoy_audio.spoken_keywords import Split, write_spoken_keywords
from eyetoy_video.moving_digits import write_moving_digits


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
    assert done.returncode == 1
    assert broken.name in done.stderr
