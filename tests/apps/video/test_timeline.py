"""A long file in parts: which frames each part shows, what is refused, and clips that play."""

from __future__ import annotations

import itertools

import av
import pytest
import torch

from eyetoy_video.io.files import UnreadableVideoError, read_parts
from eyetoy_video.recipe import VideoClassificationRecipe, VideoData
from eyetoy_video.task import PLAYED_SIDE, VideoClassification
from eyetoy_video.transforms.clips import ClipTransformParams
from eyetoy_video.transforms.sampling import ClipSampling


@pytest.fixture(scope="module")
def forty(tmp_path_factory, videos):
    """Forty frames, 25 a second: 1.6 seconds."""
    return videos.numbered(tmp_path_factory.mktemp("timeline") / "forty.mp4", 40)


def parts_of(path, videos, seconds, sampling):
    parts = list(read_parts(path, sampling, seconds))
    return [(round(p.start, 3), round(p.end, 3)) for p in parts], [videos.numbers(p.clips) for p in parts]


def test_each_part_shows_its_own_frames_spread_over_it(forty, videos):
    spans, shown = parts_of(forty, videos, 0.4, ClipSampling(5))
    assert spans == [(0, 0.4), (0.4, 0.8), (0.8, 1.2), (1.2, 1.6)]
    assert shown == [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18], [20, 22, 24, 26, 28], [30, 32, 34, 36, 38]] or shown == [
        [1, 3, 5, 7, 9],
        [11, 13, 15, 17, 19],
        [21, 23, 25, 27, 29],
        [31, 33, 35, 37, 39],
    ]


@pytest.mark.parametrize("clips", [1, 3, 5, 10])
def test_no_part_shows_a_frame_of_another(clips, forty, videos):
    _, shown = parts_of(forty, videos, 0.4, ClipSampling(16, clips=clips))
    for part, numbers in enumerate(shown):
        assert 10 * part <= min(numbers) <= max(numbers) < 10 * (part + 1)


def test_a_run_longer_than_its_part_repeats_the_parts_last_frame(forty, videos):
    _, shown = parts_of(forty, videos, 0.8, ClipSampling(4, 8))
    assert shown == [[0, 8, 16, 19], [20, 28, 36, 39]]


@pytest.mark.parametrize(("seconds", "count"), [(0.5, 3), (0.55, 3), (1.0, 2), (1.6, 1), (99.0, 1), (0.04, 40)])
def test_parts_are_equally_long_and_cover_the_file(forty, videos, seconds, count):
    spans, shown = parts_of(forty, videos, seconds, ClipSampling(1))
    assert len(spans) == count
    assert (spans[0][0], spans[-1][1]) == (0, 1.6)
    assert all(left[1] == right[0] for left, right in itertools.pairwise(spans))
    assert len({clip[0] for clip in shown}) == count


def test_a_whole_file_as_one_part_is_what_is_read_otherwise(forty, videos):
    task = VideoClassification(VideoClassificationRecipe(data=VideoData(num_frames=6, clips=2, crops=3)))
    ((start, end, example),) = task.parts(forty, 1.6)
    whole = task.example(task.load_sample(forty, training=False), training=False)
    assert (start, end) == (0, pytest.approx(1.6))
    assert example["input"].shape[0] == 6
    torch.testing.assert_close(example["input"], whole["input"])


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(UnreadableVideoError, match=r"text\.mp4"):
        next(read_parts(path, ClipSampling(1), 1.0))


@pytest.mark.parametrize("size", [32, 33])
def test_a_clip_plays_as_the_model_sees_it(tmp_path, size):
    transform = ClipTransformParams(size=size)
    task = VideoClassification(VideoClassificationRecipe(data=VideoData(num_frames=5, transform=transform)))
    grey = torch.linspace(0.2, 0.8, 5)[None, :, None, None].expand(3, 5, size, size)
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (transform.mean, transform.std))
    file = task.play((grey - mean) / std, tmp_path / "samples" / "1 run.fast")
    assert file.name == "1 run.fast.mp4"
    with av.open(str(file)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [round(float(frame.mean()) / 255, 2) for frame in frames] == pytest.approx(
        [0.2, 0.35, 0.5, 0.65, 0.8], abs=0.02
    )
    assert min(frames[0].shape[:2]) >= PLAYED_SIDE
