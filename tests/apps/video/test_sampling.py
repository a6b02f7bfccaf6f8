"""Which frames a clip shows, by arithmetic: a video of 100 frames of 10 a second."""

from __future__ import annotations

import pytest
import torch

from eyetoy_train.media.video_index import FrameIndex
from eyetoy_video.transforms.sampling import ClipSampling

INDEX = FrameIndex(range(0, 300, 3), [0], 300, 1 / 30, counted=False)


def clips(sampling: ClipSampling) -> list[list[int]]:
    return torch.tensor(sampling.numbers(INDEX)).view(-1, sampling.num_frames).tolist()


def test_an_index_knows_length_and_rate():
    assert (len(INDEX), INDEX.seconds, INDEX.rate) == (100, 10, 10)
    assert [INDEX.frame_after(seconds) for seconds in (-1, 0, 0.05, 0.1, 9.99, 50)] == [0, 0, 0, 1, 99, 99]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (ClipSampling(4), [[12, 37, 62, 87]]),  # of 25 frames, the 13th
        (ClipSampling(4, clips=2), [[6, 31, 56, 81], [18, 43, 68, 93]]),  # at a quarter and three quarters of each part
        (ClipSampling(4, stride=3), [[45, 48, 51, 54]]),  # ten frames in the middle: 45 to 54
        (ClipSampling(2, stride=1, clips=1), [[49, 50]]),
        (ClipSampling(4, stride=4, clips=4), [[s, s + 4, s + 8, s + 12] for s in (11, 33, 55, 77)]),
        (ClipSampling(3, stride=49), [[1, 50, 99]]),  # 99 frames may start at 0 or 1
        (ClipSampling(3, stride=60), [[0, 60, 99]]),  # the last frame is repeated
        (ClipSampling(3, stride=8, rate=20), [[46, 50, 54]]),  # 8 of 20 a second are 4 of 10
    ],
)
def test_evaluation_takes_these_frames(sampling, expected):
    assert clips(sampling) == expected


@pytest.mark.parametrize("num_frames", [1, 3, 16])
@pytest.mark.parametrize("stride", [1, 2, 4, 7])
def test_a_run_has_its_stride_wherever_it_starts(num_frames, stride):
    starts = [clips(ClipSampling(num_frames, stride, random=True))[0] for _ in range(60)]
    for run in [*starts, *clips(ClipSampling(num_frames, stride, clips=7))]:
        assert run == [min(run[0] + stride * step, 99) for step in range(num_frames)]
    last = max(99 - stride * (num_frames - 1), 0)
    assert {run[0] for run in starts} <= set(range(last + 1))
    assert len({run[0] for run in starts}) > min(last, 20) / 2


def test_random_runs_start_anywhere_equally_often():
    torch.manual_seed(0)
    starts = torch.tensor([ClipSampling(50, stride=2, random=True).numbers(INDEX)[0] for _ in range(400)])
    assert starts.bincount().tolist() == pytest.approx([200, 200], abs=40)


def test_a_random_spread_takes_a_random_moment_of_each_part():
    torch.manual_seed(0)
    drawn = [clips(ClipSampling(4, random=True))[0] for _ in range(60)]
    for part, chosen in enumerate(zip(*drawn, strict=True)):
        assert set(chosen) <= set(range(25 * part, 25 * part + 25))
        assert len(set(chosen)) > 12


def test_a_random_spread_draws_a_place_and_then_a_moment_for_each_frame():
    """What a run draws after them depends on it: another number of draws would be another run."""
    torch.manual_seed(0)
    ClipSampling(4, random=True).numbers(INDEX)
    after = torch.rand(())
    torch.manual_seed(0)
    torch.rand(()), torch.rand(4)
    assert torch.equal(after, torch.rand(()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "num_frames must be 1 or more, not 0"),
        ({"stride": 0}, "stride must be 1 or more, not 0"),
        ({"clips": -1}, "clips must be 1 or more, not -1"),
        ({"rate": 0.0}, "rate must be above 0 frames per second, not 0"),
        ({"rate": float("nan")}, "rate must be above 0 frames per second, not nan"),
        ({"clips": 2, "random": True}, "drawn alone: clips must be 1, not 2"),
    ],
)
def test_bad_arguments_say_what_would_be_right(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClipSampling(**({"num_frames": 4} | arguments))
