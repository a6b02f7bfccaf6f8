"""Export a trained audio model: `python apps/audio/export.py runs/spoken-keywords [--format pt2]`; see `--help`."""

from eyetoy_audio.app import APP

if __name__ == "__main__":
    APP.export()
