"""The command of the demo: serve the page with the included models and those of a folder of runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from eyetoy_demo.installed import is_installed
from eyetoy_train.ending import exit_on_error


@exit_on_error()
def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until the program is stopped.

    Args:
        argv: the command line; `sys.argv[1:]` by default.
    """
    parser = argparse.ArgumentParser(
        description="Try trained models in a browser: the small ones that are included, and those of your own runs."
    )
    parser.add_argument("--runs", type=Path, help="folder of your run folders (default: runs, if there is one)")
    # Only this machine by default: the page reads files that others might send.
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=7860, help="port to serve at, 0 for any free one (default: 7860)")
    options = parser.parse_args(argv)
    if not is_installed("gradio"):
        raise ValueError('the demo needs gradio: pip install "eyetoy[demo]"')
    if options.runs is not None and not options.runs.is_dir():
        raise ValueError(f"there is no folder {options.runs} (--runs); leave it out to see the included models alone")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read where gradio is imported
    from eyetoy_demo.page import build_page, serve

    serve(build_page(options.runs or Path("runs")), host=options.host, port=options.port)
