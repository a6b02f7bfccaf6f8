"""The data sets of image classification. Each has a file in this folder and a line in this registry."""

from eyetoy_train.data.source import DatasetRegistry

DATASETS = DatasetRegistry(
    __name__,
    {
        "folder": "folder:open_folder",
        "tagged": "tagged:open_tagged",
        "hub": "hub:open_hub",
        "webdataset": "webdataset:open_webdataset",
        "digits": "digits:open_digits",
        "fashion_mnist": "torchvision_sets:open_fashion_mnist",
        "cifar10": "torchvision_sets:open_cifar10",
        "cifar100": "torchvision_sets:open_cifar100",
        "caltech256": "caltech256:open_caltech256",
        "imagenet": "imagenet:open_imagenet",
    },
    with_group_pattern=("folder", "tagged", "hub"),
    with_group_column=("tagged", "hub"),
)
