"""Which moments of a video a clip shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from eyetoy_train.media.video_index import FrameIndex


@dataclass(frozen=True)
class ClipSampling:
    """Clips of a video, each of `num_frames` frames.

    Without a stride a clip is spread over the whole video: this is cut into `num_frames` parts of equal time, and each
    gives a frame, as temporal segment networks (Wang et al., ECCV 2016) take them. With one, a clip is a run of frames
    of which every `stride`-th is taken, as SlowFast (Feichtenhofer et al., ICCV 2019) and its successors do; where the
    video is shorter, its last frame is repeated.

    Raises:
        ValueError: a number is out of range, or several clips are to be drawn at random.
    """

    num_frames: int
    """Frames of a clip."""
    stride: int | None = None
    """Take every n-th frame; spread the frames over the video if not given."""
    rate: float | None = None
    """Frames per second that a stride counts in; the video's own if not given."""
    clips: int = 1
    """How many clips, spread evenly: over where a run may start, or over each part's time."""
    random: bool = False
    """Draw where the run starts, or the moment of each part, from torch's global generator."""

    def __post_init__(self) -> None:
        """Refuse what no clip can be."""
        for name in ("num_frames", "stride", "clips"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"rate must be above 0 frames per second, not {self.rate}")
        if self.random and self.clips > 1:
            raise ValueError(f"a random clip is drawn alone: clips must be 1, not {self.clips}")

    def numbers(self, index: FrameIndex, span: tuple[float, float] | None = None) -> list[int]:
        """Return the numbers of the frames of a video's clips, `[clips * num_frames]`; some may come more than once.

        Args:
            index: of the video.
            span: the part to be taken for a whole video, from when to when in seconds from the first frame.
        """
        start, end = span or (0.0, index.seconds)
        last = end - 1 / index.rate / 4
        moments = self.moments(end - start, index.rate)
        return [index.frame_after(min(start + moment, last)) for moment in moments]

    def moments(self, seconds: float, rate: float) -> list[float]:
        """Return when the frames are shown, in seconds from the first frame, `[clips * num_frames]`.

        Args:
            seconds: length of the video.
            rate: its frames per second.
        """
        evenly = [(clip + 0.5) / self.clips for clip in range(self.clips)]
        places = [torch.rand(()).item()] if self.random else evenly
        return [moment for place in places for moment in self._clip(place, seconds, rate)]

    def _clip(self, place: float, seconds: float, rate: float) -> list[float]:
        if self.stride is None:
            return self._spread(place, seconds, rate)
        return self._run(place, seconds, self.rate or rate, self.stride)

    def _spread(self, place: float, seconds: float, rate: float) -> list[float]:
        parts = torch.arange(self.num_frames, dtype=torch.float64)
        if self.random:
            moments = (parts + torch.rand(self.num_frames)) / self.num_frames * seconds
        else:  # the middle of a part is often the border of two frames: a little earlier, rounding cannot matter
            moments = (parts + place) / self.num_frames * seconds - 1 / rate / 4
        return moments.tolist()

    def _run(self, place: float, seconds: float, rate: float, stride: int) -> list[float]:
        length = (self.num_frames - 1) * stride + 1
        num_starts = max(round(seconds * rate) - length, 0) + 1
        start = int(place * num_starts)
        # The middle of a frame, so that rounding cannot matter.
        return [(start + number * stride + 0.5) / rate for number in range(self.num_frames)]
