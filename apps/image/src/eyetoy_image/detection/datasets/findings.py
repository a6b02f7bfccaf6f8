"""Find faulty annotations and images, and leave them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from eyetoy_image.dense.masks import (
    BadMaskError,
    MaskSizeError,
    PolygonError,
    area,
    check_polygons,
    is_number,
    read_mask,
)
from eyetoy_image.detection.datasets.objects import Annotation, Category, CocoSet, Picture
from eyetoy_image.io.files import open_picture, read_image, upright_size

Kind = Literal[
    "missing file",
    "broken file",
    "broken annotation file",
    "picture of another size",
    "unknown picture",
    "unknown class",
    "broken box",
    "zero area",
    "box outside",
    "broken polygon",
    "mask of another size",
    "broken mask",
]
TOLERANCE = 1.0
"""Pixels by which a box may exceed its image: tools round in many ways."""


@dataclass(frozen=True)
class Finding:
    """A faulty annotation, or, where that is None, a faulty image."""

    kind: Kind
    picture: Picture | None
    annotation: Annotation | None
    why: str

    def __str__(self) -> str:
        """Name the annotation and its image."""
        name = "" if self.picture is None else f"{self.picture.path}: "
        if self.annotation is not None:
            name += f"annotation {self.annotation.content.get('id', f'at place {self.annotation.place}')}: "
        return f"{self.kind}: {name}{self.why}"


def find_bad(
    coco: CocoSet, categories: Sequence[Category], *, with_masks: bool, open_files: bool = False
) -> list[Finding]:
    """Check every image and annotation of a split.

    Args:
        coco: the split.
        categories: the known classes, those of the training set.
        with_masks: whether masks are needed.
        open_files: decode the image files too, which takes longer.
    """
    known = {category.id for category in categories}
    found = [
        Finding("unknown picture", None, stray, f"no picture has the id {stray.content['image_id']}")
        for stray in coco.strays
    ]
    for picture in coco.pictures:
        if picture.fault:
            found.append(Finding("broken annotation file", picture, None, picture.fault))
            continue
        found += _look_at_file(picture, open_files=open_files)
        for annotation in picture.annotations:
            # One finding for each annotation: others often follow from the first, such as a mask of a broken box.
            found += list(_look(annotation, picture, known, with_masks=with_masks))[:1]
    return found


def without(coco: CocoSet, findings: Sequence[Finding]) -> CocoSet:
    """Return the split without faulty annotations and images."""
    pictures = {finding.picture.id for finding in findings if finding.picture and finding.annotation is None}
    places = {finding.annotation.place for finding in findings if finding.annotation is not None}
    kept = tuple(
        replace(picture, annotations=tuple(one for one in picture.annotations if one.place not in places))
        for picture in coco.pictures
        if picture.id not in pictures
    )
    return replace(coco, pictures=kept, strays=())


def summary(coco: CocoSet, findings: Sequence[Finding]) -> str:
    """Return the numbers of findings by kind, in a line."""
    counts = Counter(finding.kind for finding in findings)
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in get_args(Kind) if counts[kind])
    place = f"{coco.split} of {coco.path}" if coco.split else str(coco.path)
    return f"{place}: {len(coco.pictures)} pictures, {coco.num_annotations} annotations; wrong: {kinds or 'none'}"


def _look_at_file(picture: Picture, *, open_files: bool) -> list[Finding]:
    if not picture.path.is_file():
        return [Finding("missing file", picture, None, "it is not there")]
    try:
        if open_files:
            read_image(picture.path, grayscale=False)
        with open_picture(picture.path) as image:
            # To look for EXIF data behind the pixels of a PNG, which are rare, Pillow decodes it. A run, which reads
            # headers alone, does without where the size is right already.
            stored = image.size[::-1]
            is_short = not open_files and image.format == "PNG" and "exif" not in image.info
            found = stored if is_short and stored == (picture.height, picture.width) else upright_size(image)
    except Exception as error:  # decoders raise errors of many types for damaged bytes
        return [Finding("broken file", picture, None, str(error))]
    if found == (picture.height, picture.width):
        return []
    turned = " once turned by its EXIF orientation" if found != stored else ""
    why = f"it is {found[1]} x {found[0]} pixels{turned}, and {picture.width} x {picture.height} in the annotations"
    if turned and stored == (picture.height, picture.width):
        why += "; annotations must be of the upright picture, or the file without an orientation"
    return [Finding("picture of another size", picture, None, why)]


def _look(annotation: Annotation, picture: Picture, known: set[int], *, with_masks: bool) -> Iterator[Finding]:
    """Yield the faults of an annotation."""
    if annotation.fault:
        yield Finding("broken box", picture, annotation, annotation.fault)
    content = annotation.content
    if not isinstance(content.get("category_id"), int) or content["category_id"] not in known:
        yield Finding("unknown class", picture, annotation, f"no class has the id {content.get('category_id')!r}")
    kind, why = _box(content.get("bbox"), picture)
    if kind:
        yield Finding(kind, picture, annotation, why)
    if with_masks:
        kind, why = _mask(content.get("segmentation"), picture)
        if kind:
            yield Finding(kind, picture, annotation, why)


def _box(box: Any, picture: Picture) -> tuple[Kind | None, str]:
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        return "broken box", f"a box must be x, y, width and height; got {box!r}"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "zero area", f"its box {box} is {width} wide and {height} high"
    inside = min(x, y) >= -TOLERANCE and x + width <= picture.width + TOLERANCE
    if not inside or y + height > picture.height + TOLERANCE:
        return "box outside", f"its box {box} leaves the picture of {picture.width} x {picture.height} pixels"
    return None, ""


def _may_be_empty(polygons: list[list[float]], picture: Picture) -> bool:
    """Whether all polygons leave the picture or are so small that they may have no pixel: a few in a set."""
    return all(_leaves_or_is_small(polygon[0::2], polygon[1::2], picture) for polygon in polygons)


def _leaves_or_is_small(x: list[float], y: list[float], picture: Picture) -> bool:
    if min(*x, *y) < 0 or max(x) > picture.width or max(y) > picture.height:
        return True
    following = zip(x[1:] + x[:1], y[1:] + y[:1], strict=True)
    twice = sum(x0 * y1 - x1 * y0 for x0, y0, (x1, y1) in zip(x, y, following, strict=True))  # Gauss's area formula
    return min(max(x) - min(x), max(y) - min(y), abs(twice) / 2) < 1


def _mask(segmentation: Any, picture: Picture) -> tuple[Kind | None, str]:
    try:
        is_polygon = isinstance(segmentation, list) and bool(segmentation)
        if is_polygon:
            check_polygons(segmentation, picture.height, picture.width)
        # To fill every polygon would take minutes for COCO.
        if (not is_polygon or _may_be_empty(segmentation, picture)) and not area(
            read_mask(segmentation, picture.height, picture.width)
        ):
            return "zero area", "its mask has no pixels"
    except PolygonError as error:
        return "broken polygon", str(error)
    except MaskSizeError as error:
        return "mask of another size", str(error)
    except BadMaskError as error:
        return "broken mask", str(error)
    return None, ""
