"""Write clips as MP4 files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_mp4(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> None:
    """Write H.264 that every browser plays; the same bytes at every run.

    Args:
        path: the file to write; its folder must be there.
        frames: `[height, width, 3]` each, RGB, of one even height and one even width (H.264 halves the colours).
        fps: frames per second.
    """
    import av
    from av.video.reformatter import VideoReformatter

    to_yuv, stream = VideoReformatter(), None
    with av.open(str(path), "w") as container:
        for frame in frames:
            if stream is None:  # the first frame tells the size
                # The same bytes at every run: so no threads, and not `mbtree`, whose choices differ now and then.
                options = {"crf": "16", "preset": "veryfast", "x264-params": "mbtree=0"}
                stream = container.add_stream("libx264", rate=fps, options=options)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"  # browsers play no other
                stream.codec_context.thread_count = 1
            rgb = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(to_yuv.reformat(rgb, format="yuv420p", threads=1)))
        if stream:
            container.mux(stream.encode(None))  # the encoder holds some frames back
