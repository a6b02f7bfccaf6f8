"""The data set of a task whose pictures keep their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from torch.utils.data import Dataset

from eyetoy_image.io.background import Background
from eyetoy_train import Batch
from eyetoy_train.classification.samples import source_name
from eyetoy_train.utils.seeds import digest_of


class Named(Protocol):
    """A picture of any task."""

    @property
    def path(self) -> object:
        """Its file, or its place in a table."""


P = TypeVar("P", bound=Named)


class PictureDataset(Dataset[Batch], Generic[P]):
    """Pictures of a split. A subclass reads one in `__getitem__`.

    Args:
        pictures: the pictures, without bad annotations.
        background: what transparent pixels are laid on.
    """

    def __init__(self, pictures: Sequence[P], background: Background) -> None:
        self.pictures = pictures
        self.background = background

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def digest(self) -> str:
        """A hash of the names of all pictures, in their order."""
        return digest_of(map(self.described, range(len(self))))

    def described(self, index: int) -> str:
        """Return the name of a picture, with all that tells it from another one without opening its files."""
        return source_name(self.pictures[index].path, index)

    @staticmethod
    def collate(samples: list[Batch]) -> Batch:
        """Return a batch of lists: pictures have different sizes, and different numbers of objects."""
        return {key: [sample[key] for sample in samples] for key in samples[0]}
