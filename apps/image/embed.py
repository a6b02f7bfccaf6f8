"""Write a vector for each image: `python apps/image/embed.py runs/digits FOLDER --output vectors.parquet`."""

from eyetoy_image.app import APP

if __name__ == "__main__":
    APP.embed()
