"""Draw a model's attention maps: `python apps/image/visualize.py runs/digits data/digits/test/7`; see `--help`."""

from eyetoy_image.visualize import main

if __name__ == "__main__":
    main()
