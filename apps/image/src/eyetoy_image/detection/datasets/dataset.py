"""The dataset of a detector: images with their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from eyetoy_image.dense.dataset import PictureDataset
from eyetoy_image.dense.masks import area, decode, is_number, read_mask
from eyetoy_image.detection.datasets.objects import Annotation, Picture
from eyetoy_image.detection.transforms import TrainingTransform
from eyetoy_image.io.background import Background
from eyetoy_image.io.files import UnreadableImageError, read_image
from eyetoy_train import Batch


class DetectionDataset(PictureDataset[Picture]):
    """Pictures of a split, as dicts of `image` and what is on it.

    In training the objects are `target`, see `TrainingTransform`, without crowds. In an evaluation they are `truth`, in
    COCO's format: `image` and `annotations`.

    Args:
        pictures: the images, without bad annotations.
        labels: the label of every category by its id; from 1 on, because 0 is the background.
        with_masks: whether masks are needed.
        transform: the transform of training images; None in an evaluation.
        background: what transparent pixels are laid on.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        labels: Mapping[int, int],
        *,
        with_masks: bool,
        background: Background = "white",
        transform: TrainingTransform | None = None,
    ) -> None:
        super().__init__(pictures, background)
        self.labels = labels
        self.with_masks = with_masks
        self.transform = transform

    def __getitem__(self, index: int) -> Batch:
        picture = self.pictures[index]
        image = read_picture(picture, self.background)
        if self.transform is None:
            return {"image": image, "truth": truth_of(picture, with_masks=self.with_masks)}
        image, target = self.transform(image, target_of(picture, self.labels, with_masks=self.with_masks))
        return {"image": image, "target": target}

    def described(self, index: int) -> str:
        """Return the name of a picture and its boxes; masks would take long to write out."""
        annotations = self.pictures[index].annotations
        boxes = [(one.content.get("category_id"), one.content.get("bbox")) for one in annotations]
        return f"{super().described(index)}\t{boxes}"


def read_picture(picture: Picture, background: Background = "white") -> Tensor:
    """Return an image as uint8 `[3, height, width]`.

    Raises:
        UnreadableImageError: the image cannot be read, or has another size than in its annotations.
    """
    # `read_image` rotates by EXIF; annotations of a tool that did not have height and width swapped.
    pixels = read_image(picture.path, grayscale=False, background=background)
    if tuple(pixels.shape[1:]) != (picture.height, picture.width):
        raise UnreadableImageError(
            f"{picture.path} is {pixels.shape[2]} x {pixels.shape[1]} pixels, and its annotations are for "
            f"{picture.width} x {picture.height}"
        )
    return pixels


def target_of(picture: Picture, labels: Mapping[int, int], *, with_masks: bool) -> dict[str, Tensor]:
    """Return the objects of an image that are learned, for `TrainingTransform`."""
    learned = [annotation.content for annotation in picture.annotations if not annotation.is_crowd]
    boxes = torch.tensor([content["bbox"] for content in learned], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # from left, top, width, height to left, top, right, bottom
    target = {"boxes": boxes, "labels": torch.tensor([labels[content["category_id"]] for content in learned]).long()}
    if with_masks:
        runs = [read_mask(content["segmentation"], picture.height, picture.width) for content in learned]
        target["masks"] = decode(runs, picture.height, picture.width)
    return target


def truth_of(picture: Picture, *, with_masks: bool) -> dict[str, Any]:
    """Return an image's size and objects, crowds included, in COCO's format."""
    # Crowds count in the evaluation: pycocotools ignores detections inside of them.
    annotations = [_truth(annotation, picture, with_masks=with_masks) for annotation in picture.annotations]
    return {
        "image": {"id": picture.id, "height": picture.height, "width": picture.width},
        "annotations": annotations,
    }


def _truth(annotation: Annotation, picture: Picture, *, with_masks: bool) -> dict[str, Any]:
    content = annotation.content
    mask = read_mask(content["segmentation"], picture.height, picture.width) if with_masks else None
    size = content.get("area")
    if not is_number(size):  # some tools leave it out, or write null
        size = area(mask) if mask else content["bbox"][2] * content["bbox"][3]
    return {
        "image_id": picture.id,
        "category_id": content["category_id"],
        "bbox": content["bbox"],
        "area": size,
        "iscrowd": int(annotation.is_crowd),
        **({"segmentation": mask} if mask else {}),
    }
