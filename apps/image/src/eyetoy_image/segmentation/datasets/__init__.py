"""The data sets of segmentation. Each has a file in this folder and a line in this registry."""

from eyetoy_train.data.source import DatasetRegistry

DATASETS = DatasetRegistry(
    __name__,
    {
        "folder": "folder:open_folder",
        "hub": "hub:open_hub",
        "composed_digits": "composed_digits:open_composed_digits",
        "ade20k": "ade20k:open_ade20k",
        "cityscapes": "cityscapes:open_cityscapes",
        "voc2012": "voc2012:open_voc2012",
    },
    read_by={"values": ("folder", "hub"), "ignored": ("folder", "hub"), "classes": ("hub",), "image_column": ("hub",)},
)
