"""ImageNet-1k (Deng et al., 2009) in torchvision's layout."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from eyetoy_image.classification.recipe import ImageData
from eyetoy_image.io.files import EXTENSIONS
from eyetoy_train import ClassFolder, read_class_folder
from eyetoy_train.data.source import FolderSource

FETCH = """ImageNet-1k is not in {root}, which should hold train/n01440764/... and val/n01440764/...
Put ILSVRC2012_img_train.tar (138 GB), ILSVRC2012_img_val.tar (6.3 GB) and ILSVRC2012_devkit_t12.tar.gz (2.5 MB), for
which image-net.org asks you to sign in, into {root}. This unpacks them:
    python -c "from torchvision.datasets import ImageNet; [ImageNet('{root}', split) for split in ('train', 'val')]"
Or stream it from Hugging Face's hub: --data.source hub --data.root ILSVRC/imagenet-1k --data.streaming true"""


def read_imagenet(root: Path) -> ClassFolder:
    """List ImageNet-1k in torchvision's layout, with its 50,000 validation images as the validation split.

    Raises:
        FileNotFoundError: the set is missing. The message has the command that unpacks it.
    """
    if not (root / "train").is_dir() or not (root / "val").is_dir():
        raise FileNotFoundError(FETCH.format(root=root))
    return read_class_folder(root, EXTENSIONS)


def open_imagenet(data: ImageData, seed: int) -> FolderSource:
    """Return the images in `data.root`."""
    return FolderSource(partial(read_imagenet, data.path))
