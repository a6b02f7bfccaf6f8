"""Options that override a checkpoint's recipe: every command follows them or refuses them by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import get_args

import pytest
import torch

import eyetoy_audio.visualize
import eyetoy_image.visualize
import eyetoy_video.visualize
from eyetoy_audio.app import APP as AUDIO
from eyetoy_image.app import APP as IMAGE
from eyetoy_image.app import app_of
from eyetoy_image.check import check as check_annotations
from eyetoy_train import export_checkpoint
from eyetoy_train.commands.cli import checkpoint_parser, given_keys, parse_with_overrides
from eyetoy_train.concerns import Command, concern_of, refuse_ignored
from eyetoy_video.app import APP as VIDEO
from eyetoy_video.check import check as check_videos

RECIPES = {
    **{task: app_of(task).recipe for task in ("classification", "detection", "segmentation")},
    "audio": AUDIO.recipe,
    "video": VIDEO.recipe,
}


def leaves(part: type, prefix: str = ""):
    """Yield the keys of a recipe that have no keys of their own, and the parts that declare fields."""
    for field in dataclasses.fields(part):
        if dataclasses.is_dataclass(field.default_factory):
            yield from leaves(field.default_factory, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def parts(part: type):
    yield part
    for field in dataclasses.fields(part):
        if dataclasses.is_dataclass(field.default_factory):
            yield from parts(field.default_factory)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_key_tells_what_it_concerns(recipe):
    """If this fails: name the key in `concerns` of the class that has it, under what the commands do with it."""
    assert [key for key in leaves(recipe) if concern_of(recipe, key) is None] == []


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_part_tells_of_its_own_fields_alone_and_once(recipe):
    for part in parts(recipe):
        for owner in part.__mro__:
            named = [name for names in vars(owner).get("concerns", {}).values() for name in names]
            assert len(named) == len(set(named))
            assert set(named) <= {field.name for field in dataclasses.fields(part)}


@pytest.mark.parametrize("command", get_args(Command))
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_key_that_a_command_does_not_follow_is_refused_by_name_and_with_a_reason(recipe, command):
    for key in leaves(recipe):
        if command in concern_of(recipe, key).followed_by:
            refuse_ignored(recipe, [key], command)
        else:
            with pytest.raises(ValueError, match=rf"^--{key} is \w.+; \w"):
                refuse_ignored(recipe, [key], command)


def test_keys_are_found_however_they_are_written(tmp_path):
    (tmp_path / "recipe.yaml").write_text("lr: 0.5\n")
    written = ["--config", str(tmp_path / "recipe.yaml"), "--data", "{short_side: 5}", "--data.pictures.val=a"]
    written += ["--detector.anchor_sizes+", "3", "--data.augmentation.flip=0"]
    found = ["data.short_side", "data.pictures", "detector.anchor_sizes", "data.augmentation.flip"]
    assert sorted(given_keys(RECIPES["detection"], written)) == sorted(found)


def test_overrides_may_stand_before_the_checkpoint():
    parser = checkpoint_parser("")
    parser.add_argument("--split")
    given = ["--data.root", "a", "--lr=3", "run", "--split", "val", "--name", "b"]
    options, overrides = parse_with_overrides(parser, given)
    assert (options.checkpoint, options.split) == (Path("run"), "val")
    assert overrides == ["--data.root", "a", "--lr=3", "--name", "b"]


VISUALIZE = {"audio": eyetoy_audio.visualize.main, "video": eyetoy_video.visualize.main}
APPS = {"audio": AUDIO, "video": VIDEO}


def run(command: str, name: str, arguments: list) -> None:
    """Run a command in this process on a run of the fixture, on a file that need not exist."""
    app = APPS.get(name, IMAGE)
    given = [str(argument) for argument in arguments]
    if command == "validate":
        app.validate(given)
    elif command == "export":
        export_checkpoint(app, given)
    elif command == "predict":
        app.predict([given[0], "a.file", *given[1:]])
    else:
        main = VISUALIZE.get(name, eyetoy_image.visualize.main)
        main([given[0], str(Path(__file__)), *given[1:]])


REFUSED = {
    "validate --lr=1": "is used by training alone; leave it out",
    "validate --batch_size=2": "the samples of a forward pass are --eval_batch_size",
    "validate --output_dir=a": "the folder of what this command writes is --output",
    "validate --model.name=eyetoy2d_nano": "and another value takes another training; leave it out",
    "validate --config=digits": "a checkpoint has its own recipe",
    "predict --data.source=folder": "is about a data set, and this command reads none",
    "predict --mixed_precision=bf16": "this command computes in float32",
    "visualize --ema.decay=0.9": "is used by training alone",
    "export --model.weights=a": "name another checkpoint",
}


@pytest.mark.parametrize("given", REFUSED)
def test_what_a_command_would_ignore_ends_it_with_a_sentence(given, checkpoints, tmp_path, monkeypatch, capsys):
    command, option = given.split()
    monkeypatch.chdir(tmp_path)
    # A run for each command: all of them go the same way.
    name = {"validate": "detection", "predict": "segmentation", "visualize": "video", "export": "audio"}[command]
    with pytest.raises(SystemExit, match="2"):
        run(command, name, [checkpoints / "runs" / name, option])
    said = capsys.readouterr().err.strip()
    assert f"{option.partition('=')[0]} is" in said
    assert REFUSED[given] in said
    assert len(said.splitlines()) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("check", "arguments", "named"),
    [
        (check_annotations, ("--task", "detection", "--data.short_side", "9"), "--data.short_side is about the model"),
        (check_annotations, ("--task", "segmentation", "--epochs", "9"), "--epochs is used by training alone"),
        (check_videos, ("--data.unreadable", "skip"), "--data.unreadable is about how a run reads its data set"),
    ],
)
def test_a_check_refuses_what_it_would_ignore(check, arguments, named, capsys):
    with pytest.raises(SystemExit, match="2"):
        check([*arguments, "--data.root", "nowhere"])
    assert named in capsys.readouterr().err


def predicted(checkpoints: Path, out: Path, *overrides: object) -> int:
    """Return the number of objects that an untrained detector finds on a picture."""
    files = sorted((checkpoints / "composed" / "test").glob("*.jpg"))
    arguments = [checkpoints / "runs" / "detection", files[0], "--output", out / "found.json", *overrides]
    IMAGE.predict([str(argument) for argument in arguments])
    return len(json.loads((out / "found.json").read_text()))


def test_a_checkpoint_without_its_recipe_is_refused(checkpoints, tmp_path):
    """It would be judged by the defaults of the recipe's class."""
    best = checkpoints / "runs" / "audio" / "checkpoints" / "best"
    for path in best.iterdir():
        if path.name != "recipe.yaml":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match="no recipe.yaml"):
        AUDIO.open(tmp_path)


def test_thresholds_of_a_detector_are_followed(checkpoints, tmp_path):
    everything = ("--detector.score_threshold", 0, "--detector.nms_threshold", 1)
    assert predicted(checkpoints, tmp_path, *everything, "--detector.max_detections", 7) == 7
    assert predicted(checkpoints, tmp_path, *everything, "--detector.max_detections", 3) == 3
    assert predicted(checkpoints, tmp_path, "--detector.score_threshold", 1) == 0
    few = predicted(checkpoints, tmp_path, *everything, "--detector.proposals_eval", 1)
    assert few < predicted(checkpoints, tmp_path, *everything, "--detector.proposals_eval", 50)


@pytest.mark.parametrize("sides", [(32, 48), (96, 96)])
def test_sizes_of_a_detector_are_those_that_its_protocol_tells(sides, checkpoints):
    given = ("--data.short_side", str(sides[0]), "--data.long_side", str(sides[1]))
    opened = IMAGE.open(checkpoints / "runs" / "detection", given, command="validate")
    seen, _ = opened.load_model().rcnn.transform([torch.zeros(3, 10, 100), torch.zeros(3, 50, 50)])
    assert seen.image_sizes == [(sides[1] // 10, sides[1]), (sides[0], sides[0])]
    assert opened.task.protocol == "pictures with a short side of {} and a long one of at most {}".format(*sides)


def test_windows_scales_and_mirroring_of_a_segmenter_are_followed(checkpoints):
    def sizes(*options: str) -> list[tuple[int, ...]]:
        overrides = ["--evaluation.scales", "[1.0]", *options]
        opened, seen = IMAGE.open(checkpoints / "runs" / "segmentation", overrides, command="predict"), []
        model = opened.load_model(torch.device("cpu"))
        model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
        opened.task.segment(model, torch.zeros(3, 64, 64, dtype=torch.uint8))
        return seen

    assert sizes() == [(64, 64)]
    assert sizes("--evaluation.window", "32", "--evaluation.stride", "32") == [(32, 32)] * 4
    assert sizes("--evaluation.flip", "true") == [(64, 64)] * 2
    assert sizes("--evaluation.scales", "[0.5, 1.0]") == [(32, 32), (64, 64)]
    assert sizes("--data.short_side", "48") == [(48, 48)]


@pytest.mark.parametrize(
    ("name", "file", "overrides", "shape"),
    [
        ("image", "pictures/dark/0.png", ("--data.image_size", "24"), (1, 24, 24)),
        ("audio", "sounds/low/0.wav", ("--data.seconds", "0.25"), (4, 1, 2000)),
        ("audio", "sounds/low/0.wav", ("--data.seconds", "0.25", "--data.windows", "1"), (1, 2000)),
        ("audio", "sounds/low/0.wav", ("--data.seconds", "0.25", "--data.windows", "3"), (3, 1, 2000)),
        ("audio", "sounds/low/0.wav", ("--data.sample_rate", "4000"), (1, 4000)),
        ("video", "videos/test/left/00000.mp4", ("--data.clips", "2", "--data.crops", "3"), (6, 3, 4, 32, 32)),
        ("video", "videos/test/left/00000.mp4", ("--data.num_frames", "2"), (3, 2, 32, 32)),
        ("video", "videos/test/left/00000.mp4", ("--data.transform.size", "16"), (3, 4, 16, 16)),
    ],
)
def test_the_input_of_a_classifier_is_made_as_an_override_says(name, file, overrides, shape, checkpoints):
    task = APPS.get(name, IMAGE).open(checkpoints / "runs" / name, overrides, command="predict").task
    raw = task.load_sample(checkpoints / file, training=False)
    assert task.example(raw, training=False)["input"].shape == shape


def test_an_evaluation_takes_its_batch_size_workers_and_precision(checkpoints, monkeypatch):
    def note(task, accelerator, **options):
        assert options == {"batch_size": 3, "num_workers": 2}
        assert accelerator.mixed_precision == "bf16"
        raise SystemExit(77)

    monkeypatch.setattr("eyetoy_train.engine.evaluation.Evaluation", note)
    options = ("--eval_batch_size=3", "--num_workers=2", "--mixed_precision=bf16")
    with pytest.raises(SystemExit, match="77"):
        IMAGE.validate([str(checkpoints / "runs" / "image"), *options])


@pytest.mark.parametrize("command", ["train", "validate", "predict"])
def test_a_task_chooses_the_options_of_the_help_without_a_file(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        getattr(IMAGE, command)(["--task", "detection", "--help"])
    told = {"train": "--detector.score_threshold", "validate": "--split", "predict": "--threshold"}
    assert told[command] in capsys.readouterr().out


def test_a_task_takes_its_default_recipe():
    assert IMAGE.of_recipe(["--task", "segmentation"]) is app_of("segmentation")
    assert IMAGE.of_recipe(["--task=detection", "--config", "composed_detection"]) is app_of("detection")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "juggling"], "--task must be one of classification, detection, segmentation; got juggling"),
        (["--task", "detection", "--config", "digits"], "digits.yaml, which is of classification"),
    ],
)
def test_a_wrong_task_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        IMAGE.train(arguments)
    assert message in capsys.readouterr().err


def test_a_task_before_the_checkpoint_must_be_the_checkpoints(checkpoints, capsys):
    with pytest.raises(SystemExit, match="2"):
        IMAGE.validate(["--task", "detection", str(checkpoints / "runs" / "segmentation")])
    assert "--task detection does not fit" in capsys.readouterr().err
    assert IMAGE.of_checkpoint(["--task", "detection", str(checkpoints / "runs" / "detection")]) is app_of("detection")
