"""Classify pictures: `python apps/image/predict.py runs/digits data/digits/test/7`; see `--help`."""

from eyetoy_image.classification import APP

if __name__ == "__main__":
    APP.predict()
