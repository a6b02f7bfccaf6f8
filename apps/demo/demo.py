"""Try trained models in a browser: `python apps/demo/demo.py`; see `--help`."""

from eyetoy_demo.main import main

if __name__ == "__main__":
    main()
