"""Score a trained audio model: `python apps/audio/validate.py runs/spoken-keywords [--split val]`; see `--help`."""

from eyetoy_audio.app import APP

if __name__ == "__main__":
    APP.validate()
