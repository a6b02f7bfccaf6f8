"""Tell what is on pictures: `python apps/image/predict.py runs/digits data/digits/test/7`; see `--help`."""

from eyetoy_image.app import app_of_checkpoint

if __name__ == "__main__":
    app_of_checkpoint().predict()
