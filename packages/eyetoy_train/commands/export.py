"""Export a checkpoint: the command `export.py` of every app."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi

from eyetoy_train.commands.cli import checkpoint_parser, parse_with_overrides
from eyetoy_train.commands.opens import Opens
from eyetoy_train.ending import exit_on_error
from eyetoy_train.export.exporter import ABOUT, FORMATS, export
from eyetoy_train.export.portable import model_to_export
from eyetoy_train.utils.console import log

DESCRIPTION = (
    "Export a checkpoint to a file that runs without this project's code. The file includes the preprocessing; "
    "model.json next to it has the classes. The file is run and compared with the model. Further options override the "
    "checkpoint's recipe."
)


@exit_on_error()
def export_checkpoint(app: Opens, argv: Sequence[str] | None = None) -> None:
    """Export a checkpoint as the command line says, and print the file and its difference from the model.

    Args:
        app: the app of the checkpoint.
        argv: the command line; `sys.argv[1:]` by default.
    """
    parser = checkpoint_parser(DESCRIPTION)
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="ONNX, or a torch.export archive")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the files (default: exported, in the checkpoint; NAME-exported for the included model NAME)",
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=_size,
        default=[],
        metavar="HEIGHTxWIDTH",
        help="of detectors and segmenters: sizes of the input; of several, each is written to a folder of its own",
    )
    parser.add_argument(
        "--check_on",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="of detectors and segmenters: pictures on which to compare the file with the model, besides composed ones",
    )
    parser.add_argument("--push_to_hub", metavar="OWNER/NAME", help="upload checkpoint, card and exported files")
    options, overrides = parse_with_overrides(parser, argv)
    opened = app.open(options.checkpoint, overrides, command="export")
    # Not digits/exported for the included model digits: that folder would hide it from then on.
    is_folder = options.checkpoint.exists()
    output = options.output or (
        options.checkpoint / "exported" if is_folder else Path(f"{options.checkpoint}-exported")
    )
    folders = _folders(output, options.sizes)
    for folder in folders.values():
        check_output(folder)
    # On the CPU: a trace on a GPU would fix that device in constants of the file.
    model = opened.load_model(torch.device("cpu"))
    # All of them before the first is written: what cannot be exported is refused at once.
    models = {
        folder: model_to_export(opened.task, model, size=size, check_on=options.check_on)
        for size, folder in folders.items()
    }
    card = opened.folder / "README.md"
    for folder, portable in models.items():
        about = export(portable, folder, options.format, {"classes": opened.labels})
        if card.is_file():
            (folder / card.name).write_bytes(card.read_bytes())
        log(_line(folder / about["file"], about))
    if options.push_to_hub:
        log(f"pushed to {push(options.push_to_hub, opened.folder, output)}")


def _size(text: str) -> tuple[int, int]:
    """Return the height and width that a text such as `480x640` names."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"must be a height and a width in pixels, such as 480x640; got {text!r}")
    return int(height), int(width)


def _folders(output: Path, sizes: Sequence[tuple[int, int]]) -> dict[tuple[int, int] | None, Path]:
    """Return the folder for each size, None being the recipe's."""
    if len(set(sizes)) < 2:
        return {sizes[0] if sizes else None: output}
    return {(height, width): output / f"{height}x{width}" for height, width in sizes}


def push(name: str, *folders: Path) -> str:
    """Upload folders to a repository of Hugging Face's hub, which is made if it is missing.

    Args:
        name: `owner/name` of the repository.
        folders: their files are uploaded in this order; a later file replaces an earlier one of the same name.

    Returns:
        the address of the repository.
    """
    api = HfApi()
    made = api.create_repo(name, exist_ok=True)
    for folder in folders:
        # Left out: the manifest, which would not match the files uploaded; the export, a folder of its own here; and
        # what a killed export has left.
        left_out = ["manifest.json", "exported/*", ".*/*"]
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, ignore_patterns=left_out)
    return str(made)


def check_output(folder: Path) -> None:
    """Refuse a folder in which an export would overwrite files that no export wrote.

    Raises:
        ValueError: the folder holds other files, or is a file.
    """
    if folder.exists() and not (folder.is_dir() and ((folder / ABOUT).is_file() or not any(folder.iterdir()))):
        raise ValueError(f"--output must be a new or empty folder, or one that an export wrote; got {folder}")


def _line(path: Path, about: dict[str, Any]) -> str:
    given, checked = about["input"], about["checked"]
    shape = ", ".join(str(size) for size in given["shape"])
    outputs = ", ".join(output["name"] for output in about.get("outputs", [about["output"]]))
    things = "" if checked["compared"] == len(checked["inputs"]) else f"{checked['compared']} objects on "
    return (
        f"{path}: {given['name']} {given['dtype']} [{shape}] to {outputs}; in {checked['runtime']} it "
        f"differs from the model by {checked['largest_difference']:.1g} at most ({checked['bound']:g} is allowed), on "
        f"{things}{len(checked['inputs'])} inputs; classes and preprocessing are in {path.with_name(ABOUT)}"
    )
