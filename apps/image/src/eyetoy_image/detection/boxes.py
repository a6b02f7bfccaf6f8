"""torchvision's parts that know where boxes lie, with the true strides of the maps, and in float32 at least.

torchvision takes the strides from the images of a batch, and the precision from the maps. Under autocast to bfloat16,
all coordinates from 512 to 1024 would be multiples of 4: those of the anchors, of the proposals and of the boxes found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.poolers import LevelMapper

SAMPLES = 2
"""Samples per cell of a box's features along each axis (He et al., 2017)."""


class Anchors(AnchorGenerator):  # type: ignore[misc]  # torchvision has no types
    """Anchors of every level, as many pixels apart as the level's stride.

    torchvision divides the image by the grid: with a stride of 64, 800 pixels have 13 cells, which would be 61 apart.

    Args:
        sizes: of the levels, fine to coarse.
        ratios: height over width of the anchors of each level.
        strides: of the levels.
    """

    def __init__(self, sizes: Sequence[int], ratios: Sequence[float], strides: Sequence[int]) -> None:
        super().__init__(tuple((size,) for size in sizes), (tuple(ratios),) * len(sizes))
        self.strides = strides

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Return the anchors of each image, `[anchors, 4]`."""
        device = feature_maps[0].device
        self.set_cell_anchors(torch.promote_types(feature_maps[0].dtype, torch.float32), device)
        steps = [[torch.full((), stride, device=device)] * 2 for stride in self.strides]
        anchors = torch.cat(self.grid_anchors([[*x.shape[-2:]] for x in feature_maps], steps))
        return [anchors for _ in image_list.image_sizes]


class Float32BoxCoder(BoxCoder):  # type: ignore[misc]  # torchvision has no types
    """Boxes from what a head says of others, in float32 at least."""

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Return boxes `[boxes, 4 * classes]`."""
        codes = rel_codes.to(torch.promote_types(rel_codes.dtype, torch.float32))
        decoded: Tensor = super().decode_single(codes, boxes)  # which gives the boxes the precision of the codes
        return decoded


class LevelPooling(MultiScaleRoIAlign):  # type: ignore[misc]  # torchvision has no types
    """Features of boxes from the level that suits the size of each (Lin et al., 2017, equation 1).

    torchvision takes the strides of the levels from the first images that come, without their padding: an image of
    40 x 128, padded to 64 x 128, makes it take a stride of 4 for 2, then and for all later images. Here they are given.
    And it takes the middle of a map's first cell for the corner of the image, which is half a stride away. Here it is
    at half a stride, as in Detectron2.

    Args:
        strides: of the levels, fine to coarse.
        grid: height and width of a box's features.
        aligned: whether they are those of the box; otherwise torchvision's, half a stride beside it.
    """

    def __init__(self, strides: Sequence[int], grid: int, *, aligned: bool = True) -> None:
        super().__init__([str(level) for level in range(len(strides))], grid, SAMPLES)
        self.aligned = aligned
        self.scales = [1 / stride for stride in strides]
        self.map_levels = StrideMapper(strides)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: object = None) -> Tensor:
        """Return the features of boxes, `[boxes, channels, grid, grid]`.

        Args:
            x: the levels, by name.
            boxes: in the pixels of each image of the batch, `[boxes, 4]`.
            image_shapes: not used.
        """
        maps = [x[name] for name in self.featmap_names]
        rois = torch.cat([torch.cat([torch.full_like(own[:, :1], i), own], 1) for i, own in enumerate(boxes)])
        level = self.map_levels(boxes)
        places = [torch.where(level == number)[0] for number in range(len(maps))]
        pooled = [
            roi_align(one, rois[place], self.output_size, scale, self.sampling_ratio, aligned=self.aligned)
            for one, place, scale in zip(maps, places, self.scales, strict=True)
        ]
        # Autocast may give the levels different dtypes.
        return torch.cat([one.to(maps[0].dtype) for one in pooled])[torch.cat(places).argsort()]


class StrideMapper(LevelMapper):  # type: ignore[misc]  # torchvision has no types
    """The level of each box: the coarsest that is no coarser than suits its size.

    torchvision expects every power of two between the finest and the coarsest stride. Without the map of stride 8, it
    would take that of 32 for boxes of 112 pixels on, and none, so zeros, for those of 448.

    Args:
        strides: of the levels, fine to coarse.
    """

    def __init__(self, strides: Sequence[int]) -> None:
        self.powers = [int(math.log2(stride)) for stride in strides]
        super().__init__(self.powers[0], self.powers[-1])

    def __call__(self, boxlists: list[Tensor]) -> Tensor:
        """Return the place of the level of each box."""
        suits: Tensor = super().__call__(boxlists) + self.k_min
        coarser = torch.tensor(self.powers[1:], device=suits.device)
        return (suits[:, None] >= coarser).sum(1)
