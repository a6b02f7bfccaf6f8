"""The data sets of the video app. Each has a file in this folder and a line in this registry."""

from eyetoy_train.data.source import DatasetRegistry

DATASETS = DatasetRegistry(
    __name__,
    {
        "folder": "folder:open_folder",
        "list": "lists:open_lists",
        "hub": "hub:open_hub",
        "moving_digits": "moving_digits:open_moving_digits",
        "kinetics": "kinetics:open_kinetics",
        "something_something": "something_something:open_something_something",
        "ucf101": "ucf101:open_ucf101",
        "hmdb51": "hmdb51:open_hmdb51",
    },
    with_folds=("ucf101", "hmdb51"),
    with_group_pattern=("folder", "list", "hub", "kinetics", "ucf101", "hmdb51"),
    read_by={"path_prefix": ("list", "kinetics")},
)
