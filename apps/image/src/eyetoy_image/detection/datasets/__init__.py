"""The data sets of detection. Each has a file in this folder and a line in this registry."""

from eyetoy_train.data.source import DatasetRegistry

DATASETS = DatasetRegistry(
    __name__,
    {
        "folder": "folder:open_folder",
        "coco2017": "coco2017:open_coco2017",
        "composed_digits": "composed_digits:open_composed_digits",
    },
    with_group_column=("folder",),
    read_by=dict.fromkeys(("format", "annotations", "pictures"), ("folder",)),
)
