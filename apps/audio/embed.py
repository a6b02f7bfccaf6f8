"""Write a vector for each sound: `python apps/audio/embed.py runs/spoken-keywords FOLDER --output vectors.parquet`."""

from eyetoy_audio.app import APP

if __name__ == "__main__":
    APP.embed()
