"""Classify, detect or segment images: `python apps/image/predict.py runs/digits FILE ...`."""

from eyetoy_image.app import APP

if __name__ == "__main__":
    APP.predict()
