"""Try trained models in a browser: `python apps/demo/demo.py`; see `--help`."""

from pathlib import Path

from eyetoy_demo.main import main

if __name__ == "__main__":
    main(Path(__file__).parents[1])
