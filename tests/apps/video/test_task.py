"""The video task: what it reads of a file, views of an evaluation, mixed batches, sets of the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from eyetoy_train import UnreadableFileError, evaluate, parse_recipe
from eyetoy_train.data.streaming import EvaluationStream
from eyetoy_video.io import files
from eyetoy_video.recipe import VideoClassificationRecipe, VideoData
from eyetoy_video.task import VideoClassification
from eyetoy_video.transforms.clips import ClipTransformParams
from helpers.paths import REPOSITORY

APP = REPOSITORY / "apps" / "video"


def task_of(root: Path, *, size: int = 32, transform: dict | None = None, **data) -> VideoClassification:
    params = ClipTransformParams(size=size, **(transform or {}))
    return VideoClassification(VideoClassificationRecipe(data=VideoData(root=str(root), transform=params, **data)))


@pytest.fixture(scope="module")
def root(tmp_path_factory, copies):
    """Two classes of clips of forty frames, 96 × 64 pixels, in folders."""
    folder = tmp_path_factory.mktemp("task") / "set"
    for split, count in (("train", 4), ("val", 3), ("test", 1)):
        copies(*(folder / split / name / f"{i}.mp4" for name in ("run", "walk") for i in range(count)), count=40)
    return folder


@pytest.mark.parametrize(
    ("data", "protocol"),
    [
        ({}, "1x1 views of 16 frames of 32 pixels, spread over the file"),
        ({"clips": 4, "crops": 3, "frame_stride": 4}, "4x3 views of 16x4 frames of 32 pixels"),
        (
            {"clips": 5, "num_frames": 8, "frame_stride": 2, "frame_rate": 30.0},
            "5x1 views of 8x2 frames of 32 pixels at 30 per second",
        ),
    ],
)
def test_the_protocol_of_an_evaluation_is_told(root, data, protocol):
    assert task_of(root, **data).protocol == protocol


def test_views_are_clips_times_crops_and_crops_go_along_the_longer_side(root, videos):
    task = task_of(root, size=32, num_frames=4, frame_stride=2, clips=2, crops=3)
    sample = task.dataset("val")[0]
    assert sample["input"].shape == (task.num_views, 3, 4, 32, 32) == (6, 3, 4, 32, 32)
    assert task.grid == (4, 32, 32)
    raw = task.load_sample(root / "val" / "run" / "0.mp4", training=False)
    assert raw.shape == (8, 3, 32, 48)
    assert videos.numbers(raw.repeat_interleave(2, -1)) == [8, 10, 12, 14, 25, 27, 29, 31]
    means = torch.stack([raw[:4, :, :, left : left + 32] for left in (0, 8, 16)]).float().transpose(1, 2)
    torch.testing.assert_close(sample["input"][:3], (means / 255 - 0.45) / 0.225, rtol=0, atol=1e-5)


class Brightness(nn.Module):
    """Says by its logits how bright each view is, and counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[torch.Size] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.shape)
        return torch.stack([x.mean((1, 2, 3, 4)) * 5, torch.zeros(len(x))], 1)


def test_probabilities_of_views_are_averaged(root):
    task, model = task_of(root, num_frames=4, clips=2, crops=3), Brightness()
    x = torch.stack([task.dataset("val")[index]["input"] for index in (0, 1)])
    outputs = task.outputs(model, {"input": x, "label": torch.tensor([0, 0])})
    each = (x.mean((2, 3, 4, 5)) * 5).sigmoid()
    assert each.std(1).min() > 0.001
    torch.testing.assert_close(outputs.softmax(-1)[:, 0], each.mean(1))
    assert model.seen == [(2, 3, 4, 32, 32)] * 6, "view by view"


def test_training_takes_one_clip_from_anywhere_and_an_evaluation_the_same_ones(root, videos):
    task = task_of(root, num_frames=4, frame_stride=3, clips=2)
    path = root / "train" / "run" / "0.mp4"
    runs = [videos.numbers(task.load_sample(path, training=True)) for _ in range(30)]
    assert all(run == [run[0] + 3 * step for step in range(4)] for run in runs)
    assert len({run[0] for run in runs}) > 8
    evaluated = [task.load_sample(path, training=False) for _ in range(2)]
    assert torch.equal(*evaluated)
    still = task_of(root, num_frames=4, frame_stride=3, temporal_jitter=False)
    assert videos.numbers(still.load_sample(path, training=True)) == [15, 18, 21, 24]


@pytest.mark.parametrize("training", [True, False])
def test_only_the_frames_that_are_needed_are_decoded(root, monkeypatch, training):
    decoded, decode = [], files.decode
    monkeypatch.setattr(
        files, "decode", lambda video, numbers, *rest: decoded.extend(numbers) or decode(video, numbers, *rest)
    )
    task = task_of(root, num_frames=4, frame_stride=2, clips=3)
    raw = task.load_sample(root / "val" / "run" / "0.mp4", training=training)
    assert len(raw) == (4 if training else 12)
    assert len(decoded) == len(set(decoded)) <= len(raw)


def test_a_training_batch_is_mixed_if_asked_for(root):
    task = task_of(root, num_frames=4, transform={"mixup": 0.8, "cutmix": 1.0})
    samples = [task.dataset("train")[index] for index in range(8)]
    batch = {"input": torch.stack([s["input"] for s in samples]), "label": torch.tensor([s["label"] for s in samples])}
    before = batch["input"].clone()
    mixed = task.augment(batch)
    assert mixed["input"].shape == before.shape
    assert type(mixed["input"]) is torch.Tensor
    assert mixed["label"].shape == (8, 2)
    torch.testing.assert_close(mixed["label"].sum(1), torch.ones(8))
    assert torch.equal(batch["input"], before)
    plain = task_of(root, num_frames=4).augment(batch)
    assert plain["input"] is batch["input"]
    assert plain["label"] is batch["label"]


def test_repeats_of_a_clip_are_mixed_with_other_clips(root):
    task = task_of(root, num_frames=4, transform={"mixup": 1.0})
    task.recipe.augmentation_repeats = 2
    clips = torch.arange(4).repeat_interleave(2).float()[:, None, None, None, None].expand(-1, 3, 1, 4, 4)
    torch.manual_seed(0)
    mixed = task.augment({"input": clips, "label": torch.zeros(8, dtype=torch.long)})["input"][:, 0, 0, 0, 0]
    assert (mixed != mixed.round()).all()  # a clip that is mixed with itself keeps its value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"num_frames": 0}, "data.num_frames must be at least 1; got 0"),
        ({"clips": 0}, "data.clips must be at least 1; got 0"),
        ({"crops": 2}, "data.crops must be 1 or 3; got 2"),
        ({"frame_stride": 0}, "data.frame_stride must be at least 1; got 0"),
        ({"frame_rate": 0.0}, r"data.frame_rate must be above 0; got 0\.0"),
        ({"fold": 4}, "data.fold must be 1, 2 or 3; got 4"),
    ],
)
def test_bad_options_say_what_would_be_right(data, message):
    with pytest.raises(ValueError, match=message):
        VideoData(**data)


def test_clips_that_lists_name_and_that_are_not_there_stop_a_run_or_are_left_out(root, tmp_path):
    names = [f"{root}/train/{name}/{i}.mp4 {name}" for name in ("run", "walk") for i in range(5)]
    for split in ("train", "val"):
        (tmp_path / f"{split}.csv").write_text("\n".join(names))
    with pytest.raises(FileNotFoundError, match=r"2 of 10 in train: .*run/4\.mp4.*walk/4\.mp4"):
        _ = task_of(tmp_path, source="list").classes
    task = task_of(tmp_path, source="list", missing="skip")
    assert list(task.classes) == ["run", "walk"]
    assert len(task.dataset("train")) == len(task.dataset("val")) == 8


@pytest.mark.parametrize("streaming", [False, True])
def test_a_folder_of_the_hub_is_read_whole_or_streamed(root, streaming):
    task = task_of(root, source="hub", num_frames=4, streaming=streaming)
    task.prepare()
    assert list(task.classes) == ["run", "walk"]
    plain = task_of(root, num_frames=4)
    expected = [plain.dataset("val")[index] for index in range(6)]
    dataset = task.dataset("val")
    found = list(EvaluationStream(dataset)) if streaming else [dataset[index] for index in range(6)]
    assert [sample["label"] for sample in found] == [sample["label"] for sample in expected]
    assert all(torch.equal(one["input"], other["input"]) for one, other in zip(found, expected, strict=True))


def test_a_broken_video_of_the_hub_is_named_or_left_out(root, tmp_path, copies, capsys):
    copies(*(tmp_path / split / name / "a.mp4" for split in ("train", "val") for name in ("run", "walk")))
    (tmp_path / "val" / "run" / "b.mp4").write_text("no video")
    task = task_of(tmp_path, source="hub", num_frames=2)
    with pytest.raises(UnreadableFileError, match=r"b\.mp4: FFmpeg cannot read it"):
        [task.dataset("val")[index] for index in range(3)]
    careful = task_of(tmp_path, source="hub", num_frames=2, unreadable="skip")
    careful.prepare()
    assert len(careful.dataset("val")) == 2
    assert "skipped 1 of 3 files" in capsys.readouterr().out


def test_a_set_of_one_frame_files_of_other_sizes_is_evaluated(tmp_path, copies, videos):
    copies(*(tmp_path / split / name / "a.mp4" for split in ("train", "val") for name in ("run", "walk")), count=1)
    videos.write(tmp_path / "val" / "run" / "tall.webm", [videos.bars(5).repeat(3, 0)])
    task, model = task_of(tmp_path, num_frames=3, frame_stride=2, clips=2, crops=3), Brightness()
    scores = evaluate(task, model, task.dataset("val"), Accelerator(cpu=True), batch_size=4)
    assert scores["count"] == 3


def test_two_processes_count_and_score_like_one(root, tmp_path, run_command):
    """Seven files of several views, which two processes cannot share equally."""
    (root / "val" / "run" / "more.mp4").write_bytes((root / "val" / "run" / "0.mp4").read_bytes())
    data = ("--data.source", "folder", "--data.root", root, "--data.num_frames", 4, "--data.transform.size", 16)
    views = ("--data.frame_stride", 2, "--data.clips", 2, "--data.crops", 3, "--eval_batch_size", 2)
    short = ("--max_steps", 1, "--batch_size", 4, "--output_dir", tmp_path / "run", "--trackers", "[]")
    done = run_command(tmp_path, "apps/video/train.py", *data, *views, *short, processes=2)
    assert "by 2x3 views of 4x2 frames of 16 pixels" in done.stdout
    two = json.loads((tmp_path / "run" / "results.json").read_text())
    assert two["environment"]["processes"] == 2
    best = tmp_path / "run" / "checkpoints" / "best"
    task = VideoClassification(parse_recipe(VideoClassificationRecipe, best / "recipe.yaml", []))
    one = evaluate(task, task.load(best), task.dataset("val"), Accelerator(cpu=True), batch_size=3)
    assert one["count"] == two["val"]["count"] == 7
    assert one == pytest.approx(two["val"], abs=1e-5)
