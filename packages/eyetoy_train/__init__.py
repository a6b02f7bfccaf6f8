"""The engine: from a recipe and a task to a trained model, on Hugging Face Accelerate. Knows no modality."""

from typing import TYPE_CHECKING

from eyetoy.lazy import lazy_names

if TYPE_CHECKING:
    from eyetoy_train.classification.metrics import ClassificationMetrics
    from eyetoy_train.classification.predict import Prediction
    from eyetoy_train.classification.predictor import ClassifierPredictor
    from eyetoy_train.classification.task import ClassificationTask, FolderClassification
    from eyetoy_train.commands.app import App, ClassificationApp, LabelledApp
    from eyetoy_train.commands.cli import parse_recipe
    from eyetoy_train.commands.export import export_checkpoint
    from eyetoy_train.data.folder import ClassFolder, read_class_folder
    from eyetoy_train.data.streaming import HubStream, TarStream
    from eyetoy_train.data.unreadable import UnreadableFileError
    from eyetoy_train.engine.evaluation import evaluate
    from eyetoy_train.engine.trainer import Trainer, train
    from eyetoy_train.export.portable import ExportInput, PlainInput
    from eyetoy_train.models.build import build_classifier, load_classifier
    from eyetoy_train.models.saved import SavedModel, load_model, save_model
    from eyetoy_train.recipe import CheckpointRecipe, ClassificationRecipe, EmaRecipe, ModelRecipe, Recipe
    from eyetoy_train.task import Metrics, Task
    from eyetoy_train.types import About, Batch, CheckpointError, Details, SampleStream, Split, Table
    from eyetoy_train.utils.signals import Preempted
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "classification.metrics": ["ClassificationMetrics"],
            "classification.predict": ["Prediction"],
            "classification.predictor": ["ClassifierPredictor"],
            "classification.task": ["ClassificationTask", "FolderClassification"],
            "commands.app": ["App", "ClassificationApp", "LabelledApp"],
            "commands.cli": ["parse_recipe"],
            "commands.export": ["export_checkpoint"],
            "data.folder": ["ClassFolder", "read_class_folder"],
            "data.streaming": ["HubStream", "TarStream"],
            "data.unreadable": ["UnreadableFileError"],
            "engine.evaluation": ["evaluate"],
            "engine.trainer": ["Trainer", "train"],
            "export.portable": ["ExportInput", "PlainInput"],
            "models.build": ["build_classifier", "load_classifier"],
            "models.saved": ["SavedModel", "load_model", "save_model"],
            "recipe": ["CheckpointRecipe", "ClassificationRecipe", "EmaRecipe", "ModelRecipe", "Recipe"],
            "task": ["Metrics", "Task"],
            "types": ["About", "Batch", "CheckpointError", "Details", "SampleStream", "Split", "Table"],
            "utils.signals": ["Preempted"],
        },
    )

__all__ = [
    "About",
    "App",
    "Batch",
    "CheckpointError",
    "CheckpointRecipe",
    "ClassFolder",
    "ClassificationApp",
    "ClassificationMetrics",
    "ClassificationRecipe",
    "ClassificationTask",
    "ClassifierPredictor",
    "Details",
    "EmaRecipe",
    "ExportInput",
    "FolderClassification",
    "HubStream",
    "LabelledApp",
    "Metrics",
    "ModelRecipe",
    "PlainInput",
    "Prediction",
    "Preempted",
    "Recipe",
    "SampleStream",
    "SavedModel",
    "Split",
    "Table",
    "TarStream",
    "Task",
    "Trainer",
    "UnreadableFileError",
    "build_classifier",
    "evaluate",
    "export_checkpoint",
    "load_classifier",
    "load_model",
    "parse_recipe",
    "read_class_folder",
    "save_model",
    "train",
]
