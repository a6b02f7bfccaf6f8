"""Write a vector for each video: `python apps/video/embed.py runs/moving-digits FOLDER --output vectors.parquet`."""

from eyetoy_video.app import APP

if __name__ == "__main__":
    APP.embed()
