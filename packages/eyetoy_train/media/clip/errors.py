"""What can be wrong with a video file."""

from __future__ import annotations

KINDS = (".3gp", ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
"""Suffixes of video files, in lower case."""
A_WHOLE_VIDEO = f"a whole video file that FFmpeg can decode ({' '.join(KINDS)})"


class NotVideoError(ValueError):
    """Content that is no whole video, or none that can be read as asked: what is wrong, and what would be right."""

    def __init__(self, wrong: str, right: str = A_WHOLE_VIDEO) -> None:
        super().__init__(f"{wrong}; expected {right}")
        self.wrong = wrong
        self.right = right
