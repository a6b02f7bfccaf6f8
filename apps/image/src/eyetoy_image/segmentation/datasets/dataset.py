"""The dataset of a segmenter: images with the class of every pixel."""

from __future__ import annotations

from collections.abc import Sequence

from eyetoy_image.dense.dataset import PictureDataset
from eyetoy_image.io.background import Background
from eyetoy_image.io.files import read_image
from eyetoy_image.io.hub import opened
from eyetoy_image.segmentation.datasets.label_maps import LabelTable, read_labels
from eyetoy_image.segmentation.datasets.label_set import LabelledPicture
from eyetoy_image.segmentation.transforms import TrainingTransform
from eyetoy_train import Batch


class SegmentationDataset(PictureDataset[LabelledPicture]):
    """Pictures of a split, as dicts of `image`, uint8 `[3, height, width]`, and `labels`, uint8 `[height, width]`.

    Args:
        pictures: the images, without bad label maps.
        table: the classes of the values of label maps.
        transform: the transform of training images; None in an evaluation.
        background: what transparent pixels are laid on.
    """

    def __init__(
        self,
        pictures: Sequence[LabelledPicture],
        table: LabelTable,
        transform: TrainingTransform | None = None,
        background: Background = "white",
    ) -> None:
        super().__init__(pictures, background)
        self.table = table
        self.transform = transform

    def __getitem__(self, index: int) -> Batch:
        picture = self.pictures[index]
        image = read_image(opened(picture.path), grayscale=False, background=self.background, name=str(picture.path))
        labels = read_labels(picture.map, self.table, (image.shape[1], image.shape[2]))
        if self.transform is not None:
            image, labels = self.transform(image, labels)
        return {"image": image, "labels": labels}
