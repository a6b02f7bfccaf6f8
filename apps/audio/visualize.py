"""Draw a model's attention maps: `python apps/audio/visualize.py runs/spoken-keywords clip.wav`; see `--help`."""

from eyetoy_audio.visualize import main

if __name__ == "__main__":
    main()
