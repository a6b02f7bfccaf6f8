"""Random colours of training images, for detection and segmentation."""

from __future__ import annotations

from typing import Any

from torchvision.transforms import v2


class RandomColors(v2.RandomPhotometricDistort):  # type: ignore[misc]  # torchvision has no types
    """Change brightness, contrast, saturation and hue, each with a probability `p`.

    As MMSegmentation's PhotoMetricDistortion. torchvision's also exchanges the channels, as SSD (Liu et al., ECCV 2016)
    does: red with blue, say.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw what is changed, and by how much."""
        params: dict[str, Any] = super().make_params(flat_inputs)
        return params | {"channel_permutation": None}
