"""Rebuild the small trained models that travel in the wheel: `python tools/weights.py`, or `nox -s weights`.

Each is trained by the default recipe of its app, which takes about eight minutes for all three on one core. A finished
run in the folder of `--runs` is used as it is, an interrupted one goes on. The weights are rounded to float16, and
then scored on their held-out samples by `validate`, which computes in float32; the card has that score.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from eyetoy.kinds import WEIGHTS
from eyetoy_audio.app import APP as AUDIO
from eyetoy_image.app import app_of
from eyetoy_train import ClassificationApp
from eyetoy_train.checkpoint.run_folder import RunFolder
from eyetoy_train.data.splits import find_split
from eyetoy_train.models.included import FOLDER, SCORE
from eyetoy_train.report.model_card import CARD, FinishedRun, card_text
from eyetoy_train.utils.files import list_files, list_folders
from eyetoy_video.app import APP as VIDEO

ROOT = Path(__file__).parents[1]
MOST_BYTES = 2 * 2**20
DIGITS = (
    "The digits are scikit-learn's copy of a part of Optical Recognition of Handwritten Digits (E. Alpaydin and C. "
    "Kaynak, UCI Machine Learning Repository, CC BY 4.0)."
)


class Model(NamedTuple):
    """A model to include."""

    modality: str
    app: ClassificationApp[Any]
    data_licence: str


MODELS: Mapping[str, Model] = {
    "digits": Model("image", app_of("classification"), DIGITS),  # type: ignore[arg-type]
    "spoken_keywords": Model(
        "audio", AUDIO, "The words were spoken by espeak-ng, a program under GPL-3.0-or-later; no recording was used."
    ),
    "moving_digits": Model(
        "video",
        VIDEO,
        f"{DIGITS} The photographs behind them are scikit-image's: CC0, in the public domain, or without known "
        "copyright restrictions.",
    ),
}


def train(name: str, run: Path) -> None:
    """Train a model by its default recipe, unless its run is finished."""
    if RunFolder(run).results.is_file():
        return
    script = ROOT / "apps" / MODELS[name].modality / "train.py"
    subprocess.run([sys.executable, str(script), "--output_dir", str(run.resolve())], cwd=ROOT, check=True)


def write(name: str, run: Path, folder: Path) -> None:
    """Write a run's best model to a folder, with its score, its card and examples."""
    app = MODELS[name].app
    opened = app.open(run)
    opened.task.prepare()
    recipe = opened.task.recipe = dataclasses.replace(opened.task.recipe, output_dir=None)
    model = opened.load_model(torch.device("cpu")).half()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    opened.task.save(model, folder)
    weights = folder / WEIGHTS
    weights.chmod(0o644)  # safetensors writes for its user alone
    size = weights.stat().st_size
    assert size <= MOST_BYTES, f"{name} has {size:,} bytes; at most {MOST_BYTES:,} may travel in the wheel"

    scores = {split: validated(app, folder, split) for split in ("val", "test")}
    metric = opened.task.score
    (folder / SCORE).write_text(
        json.dumps({"score": metric, "split": "test", **scores["test"]}, indent=2) + "\n", encoding="utf-8"
    )
    results = json.loads(RunFolder(run).results.read_text(encoding="utf-8")) | scores
    num_samples = len(opened.task.dataset("train"))  # type: ignore[arg-type]
    card = card_text(FinishedRun(opened.task, recipe, model, results, num_samples), licence="apache-2.0")
    (folder / CARD).write_text(card + own_sections(name), encoding="utf-8")
    write_examples(opened.task.data.path, folder / "examples")


def validated(app: ClassificationApp[Any], folder: Path, split: str) -> dict[str, float]:
    """Return the scores that `validate` gives."""
    with tempfile.TemporaryDirectory() as output:
        app.validate([str(folder), "--split", split, "--output", output])
        found = json.loads((Path(output) / "scores.json").read_text(encoding="utf-8"))
    return {name: value for name, value in found.items() if isinstance(value, float) and name != "samples_per_second"}


def own_sections(name: str) -> str:
    """Return what the card of an included model says beside that of any run."""
    return (
        f"\n## Try it\n\n`eyetoy predict {name} FILE ...`, or `eyetoy demo`. Files to try are in `examples`, one of "
        "each class.\n"
        "\n## Precision\n\nThe weights are float16. The scores are theirs, computed in float32.\n"
        "\n## Licence\n\nThe weights are under the Apache License 2.0, as the project. "
        f"{MODELS[name].data_licence}\n"
        f"\n## Rebuild\n\n`python tools/weights.py {name}`\n"
    )


def write_examples(data: Path, folder: Path) -> None:
    """Copy a held-out file of each class, at different places of their lists, as CLASS.SUFFIX."""
    folder.mkdir()
    test = find_split("test", [path.name for path in list_folders(data)])
    assert test is not None
    classes = list_folders(data / test)
    for place, of_class in enumerate(classes):
        files, _ = list_files(of_class, (".png", ".wav", ".mp4"))
        file = files[len(files) * place // len(classes)]
        shutil.copy(file, folder / f"{of_class.name}{file.suffix}")


def main() -> None:
    """Train what is missing, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(MODELS)}; all by default")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "weights", help="folder of the runs")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the included models")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in MODELS]:
        parser.error(f"there is no {unknown[0]}; there are {', '.join(MODELS)}")
    for name in options.names or MODELS:
        train(name, options.runs / name)
        write(name, options.runs / name, options.output / name)


if __name__ == "__main__":
    main()
