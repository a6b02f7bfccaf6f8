"""The data sets of the audio app. Each has a file in this folder and a line in this registry."""

from eyetoy_train.data.source import DatasetRegistry

DATASETS = DatasetRegistry(
    __name__,
    {
        "folder": "folder:open_folder",
        "hub": "hub:open_hub",
        "tagged": "tagged:open_tagged",
        "spoken_keywords": "spoken_keywords:open_spoken_keywords",
        "speech_commands": "speech_commands:open_speech_commands",
        "esc50": "esc50:open_esc50",
    },
    with_folds=("esc50",),
    with_group_pattern=("folder", "tagged", "hub"),
    with_group_column=("tagged", "hub"),
    read_by={"label_separator": ("tagged",)},
)
