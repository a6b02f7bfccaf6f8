"""What can be wrong with a sound file."""

from __future__ import annotations

AS_PROMISED = "it should be the sound that its suffix promises"
ALL_OF_IT = "it should hold all of it"


class NotSoundError(ValueError):
    """Content that is no sound, or damaged: what is wrong with it, and what would be right."""

    def __init__(self, wrong: str, right: str = AS_PROMISED) -> None:
        super().__init__(f"{wrong}; {right}")
        self.wrong = wrong
        self.right = right
