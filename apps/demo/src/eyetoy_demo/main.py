"""The command of the demo: train missing models, then serve the page."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from eyetoy_demo.checkpoints import MODALITIES, find_runs
from eyetoy_train.types import Modality
from eyetoy_train.utils.console import log

DEFAULT_RUNS: dict[Modality, str] = {"image": "digits", "audio": "spoken-keywords", "video": "moving-digits"}
"""Names of the default runs of the other apps."""


def main(apps: Path, argv: Sequence[str] | None = None) -> None:
    """Train missing models, and serve the page until the program is stopped.

    Args:
        apps: the folder of the apps.
        argv: the command line; `sys.argv[1:]` by default.
    """
    parser = argparse.ArgumentParser(
        description="Try trained models in a browser. Missing small default models are trained first, which takes "
        "about eight minutes on one core for all three."
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders (default: runs)")
    parser.add_argument(
        "--train", action=argparse.BooleanOptionalAction, default=True, help="train the models that are missing"
    )
    # Only this machine by default: the page reads files that others might send.
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=7860, help="port to serve at, 0 for any free one (default: 7860)")
    options = parser.parse_args(argv)
    if not _is_installed("gradio"):
        print('the demo needs gradio: pip install -e ".[demo]"', file=sys.stderr)
        raise SystemExit(2)
    if options.train:
        train_missing(apps, options.runs)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read where gradio is imported
    from eyetoy_demo.page import build_page, serve

    serve(build_page(options.runs), host=options.host, port=options.port)


def train_missing(apps: Path, runs: Path) -> None:
    """Train the small default model of every modality without a model; an interrupted run is resumed.

    A training that fails exits the program with its code, after its own message.
    """
    trained = {run.modality for run in find_runs(runs)}
    for modality in MODALITIES:
        if modality in trained:
            continue
        log(f"no {modality} model in {runs}: training the small default one")
        script, folder = apps / modality / "train.py", runs / DEFAULT_RUNS[modality]
        # A process for each: libraries keep memory, threads and signal handlers that the page should not have.
        done = subprocess.run([sys.executable, str(script), "--output_dir", str(folder)], check=False)  # noqa: S603
        if done.returncode:
            raise SystemExit(done.returncode)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # sys.modules has None for it, which bars the import
        return False
