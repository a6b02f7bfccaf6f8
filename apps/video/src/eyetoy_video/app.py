"""The video app: what its three scripts share."""

from eyetoy_train import ClassificationApp
from eyetoy_video.io.files import EXTENSIONS
from eyetoy_video.recipe import VideoClassificationRecipe
from eyetoy_video.task import VideoClassification

APP = ClassificationApp(VideoClassificationRecipe, VideoClassification, EXTENSIONS)
