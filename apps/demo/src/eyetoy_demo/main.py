"""The command: make sure that there are models, then serve the page."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from eyetoy_demo.checkpoints import MODALITIES, Modality, find_runs

DEFAULT_RUNS: dict[Modality, str] = {"image": "digits", "audio": "spoken-keywords", "video": "moving-digits"}
"""Names of the default runs of the other apps."""


def main(apps: Path, argv: Sequence[str] | None = None) -> None:
    """Train what is missing, and serve the page until the program is stopped.

    Args:
        apps: the folder of the apps.
        argv: the command line; this program's own by default.
    """
    options = _parser().parse_args(argv)
    if not _is_there("gradio"):
        print('the demo needs gradio: pip install -e ".[demo]"', file=sys.stderr)
        raise SystemExit(2)
    if options.train:
        train_missing(apps, options.runs)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read where gradio is imported
    from eyetoy_demo.page import build_page, serve

    serve(build_page(options.runs), host=options.host, port=options.port)


def train_missing(apps: Path, runs: Path) -> None:
    """Train the small default model of every modality that has none; a run that was interrupted goes on.

    A training that fails ends the program with its code; it said why.
    """
    there = {run.modality for run in find_runs(runs)}
    for modality in MODALITIES:
        if modality in there:
            continue
        print(f"no {modality} model in {runs}: training the small default one", flush=True)
        script, folder = apps / modality / "train.py", runs / DEFAULT_RUNS[modality]
        done = subprocess.run([sys.executable, str(script), "--output_dir", str(folder)], check=False)  # noqa: S603
        if done.returncode:
            raise SystemExit(done.returncode)


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it is barred from being imported
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Try trained models in a browser. Small default models are trained first where there are none, "
        "which takes about eight minutes on one core for all three."
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of run folders (default: runs)")
    parser.add_argument(
        "--train", action=argparse.BooleanOptionalAction, default=True, help="train the models that are missing"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=7860, help="port to serve at, 0 for any free one (default: 7860)")
    return parser
