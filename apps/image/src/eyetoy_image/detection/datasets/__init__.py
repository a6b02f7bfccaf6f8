"""The data sets of detection: a file and a line here each."""

from eyetoy_train.data.source import DatasetRegistry

DATASETS = DatasetRegistry(
    __name__,
    {
        "folder": "folder:open_folder",
        "coco2017": "coco2017:open_coco2017",
        "composed_digits": "composed_digits:open_composed_digits",
    },
)
