"""Fixtures for running commands like a user, and checkpoints for them."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from eyetoy_train import parse_recipe
from helpers.forks import FORKS
from helpers.paths import REPOSITORY, config


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def run_command():
    """Run a script of the repository, or `eyetoy`, in one or several forks, or in two processes of `accelerate launch`.

    New processes take seconds to import PyTorch; one test of a launch suffices for a command.
    """

    def run(
        folder: Path, script: str, *arguments: object, processes: int = 1, launch: bool = False, check: bool = True
    ):
        command = ["-m", script] if script == "eyetoy" else [str(REPOSITORY / script)]
        command += map(str, arguments)
        environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        if processes > 1:
            out = FORKS.run_several(processes, command, cwd=folder, env=environment)
            return subprocess.CompletedProcess(command, 0, out, "")
        if launch:
            # Port 0 is any free one: tests of other files may launch at the same time.
            launcher = ["-m", "accelerate.commands.launch", "--main_process_port", "0"]
            command = [*launcher, "--multi_gpu", "--num_processes", "2", *command]
        done = FORKS.run(command, cwd=folder, env=environment)
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run a script of the repository in this process, which takes no seconds to start, and return why it refuses."""

    def run(folder: Path, script: str, *arguments: object) -> str:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [str(REPOSITORY / script), *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(sys.argv[0], run_name="__main__")
        assert stop.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Path:
    """A folder with `runs/NAME` of every task, with new weights, and folders of files."""
    from eyetoy_audio.app import APP as AUDIO
    from eyetoy_image.app import app_of
    from eyetoy_image.dense.composed import write_composed_digits
    from eyetoy_video.app import APP as VIDEO
    from eyetoy_video.datasets.moving_digits import write_moving_digits

    folder = tmp_path_factory.mktemp("checkpoints")
    write_waves(folder / "sounds")
    write_moving_digits(folder / "videos", train=1, val=1, test=1, num_frames=6, size=32)
    write_composed_digits(folder / "composed", train=2, val=1, test=1, size=64)
    write_pictures(folder / "pictures")
    files, small = ("--data.source", "folder"), ("--model.name", "eyetoy2d_pico")
    detector = (*small, "--detector.anchor_sizes", "[16, 32, 64]", "--detector.fpn_channels", 16)
    detector += ("--detector.box_head_channels", 32, "--detector.mask_head_channels", "[8]", "--data.short_side", 64)
    picture_of_sound = (*files, *small, "--data.features", "log_mel_image", "--data.padding", "silence")
    masked = ("--data.features", "log_mel", "--data.padding", "mask", "--data.windows", 2, "--data.seconds", 1.5)
    runs = {
        "image": (app_of("classification"), config("image", "digits"), "pictures", files),
        "detection": (app_of("detection"), config("image", "composed_detection"), "composed", detector),
        "segmentation": (app_of("segmentation"), config("image", "composed_segmentation"), "composed", small),
        "audio": (AUDIO, config("audio", "own_sounds_waveform"), "sounds", (*files, "--data.sample_rate", 8000)),
        "audio-image": (AUDIO, config("audio", "spoken_keywords"), "sounds", picture_of_sound),
        "audio-masked": (AUDIO, config("audio", "spoken_keywords"), "sounds", (*files, *masked)),
        "video": (VIDEO, config("video", "moving_digits"), "videos", (*files, "--data.num_frames", 4)),
    }
    for name, (app, recipe, data, options) in runs.items():
        save_untrained(folder / "runs" / name / "checkpoints" / "best", app, recipe, folder / data, options)
    return folder


def save_untrained(best: Path, app, config_file: Path, data: Path, options: tuple) -> None:
    arguments = ["--data.root", str(data), *map(str, options)]
    recipe = parse_recipe(app.recipe, config_file, arguments)
    task = app.task(recipe)
    task.prepare()
    torch.manual_seed(0)
    best.mkdir(parents=True)
    task.save(task.build_model(), best)


def write_waves(root: Path) -> None:
    """Write tones of two pitches as wav files in class folders."""
    time = np.arange(8000) / 8000
    for pitch, name in ((200, "low"), (1500, "high")):
        for index in range(3):
            path = root / name / f"{index}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                tone = np.sin(2 * np.pi * (pitch + 10 * index) * time) * np.exp(-3 * time)
                file.writeframes((20000 * tone).astype("<i2").tobytes())


def write_pictures(root: Path, *, count: int = 3, spread: float = 20, any_size: bool = False) -> None:
    """Write noise of two shades as PNG files in class folders, 30 x 24 pixels, or 9 to 39 on each side."""
    generator = np.random.default_rng(0)
    for shade, name in ((50, "dark"), (200, "bright")):
        for index in range(count):
            path = root / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = generator.integers(9, 40, 2) if any_size else (24, 30)
            Image.fromarray(generator.normal(shade, spread, (*size, 3)).clip(0, 255).astype(np.uint8)).save(path)


def trained_on_composed_digits(recipe: Path, *options: object):
    """Return a fixture: a folder with composed pictures in `data`, and in `run` a run that was trained on them."""

    @pytest.fixture(scope="module")
    def workplace(tmp_path_factory, run_command) -> Path:
        from eyetoy_image.dense.composed import write_composed_digits

        folder = tmp_path_factory.mktemp(recipe.stem)
        write_composed_digits(folder / "data", train=16, val=5, test=7, size=64)
        arguments = ("--config", recipe, *options, "--data.root", "data", "--output_dir", "run")
        run_command(folder, "apps/image/train.py", *arguments)
        return folder

    return workplace


def printed(done: subprocess.CompletedProcess) -> dict:
    """Return the JSON that a command printed."""
    return json.loads(done.stdout[done.stdout.index("{") :])
