"""The engine: from a recipe and a task to a trained model, on Hugging Face Accelerate. Knows no modality."""

from eyetoy_train.class_folder import ClassFolder, read_class_folder
from eyetoy_train.classification import ClassificationMetrics, ClassificationTask
from eyetoy_train.cli import parse_recipe
from eyetoy_train.commands import ClassificationApp
from eyetoy_train.evaluate import evaluate
from eyetoy_train.folder_task import FolderClassification
from eyetoy_train.loop import Trainer, train
from eyetoy_train.recipe import ClassificationRecipe, ModelRecipe, Recipe
from eyetoy_train.task import Batch, Metrics, Split, Task

__all__ = [
    "Batch",
    "ClassFolder",
    "ClassificationApp",
    "ClassificationMetrics",
    "ClassificationRecipe",
    "ClassificationTask",
    "FolderClassification",
    "Metrics",
    "ModelRecipe",
    "Recipe",
    "Split",
    "Task",
    "Trainer",
    "evaluate",
    "parse_recipe",
    "read_class_folder",
    "train",
]
