"""Images composed of handwritten digits and photographs, with exact boxes, masks and label maps."""

from eyetoy_image.dense.composed.writing import write_composed_digits

__all__ = ["write_composed_digits"]
