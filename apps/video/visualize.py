"""Draw a model's attention maps: `python apps/video/visualize.py runs/moving-digits clip.mp4`; see `--help`."""

from eyetoy_video.visualize import main

if __name__ == "__main__":
    main()
