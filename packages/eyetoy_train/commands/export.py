"""Export a checkpoint: the command `export.py` of every app."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi

from eyetoy_train.commands.app import App
from eyetoy_train.commands.cli import checkpoint_parser, parse_with_overrides
from eyetoy_train.commands.ending import exit_on_error
from eyetoy_train.export.exporter import ABOUT, FORMATS, export
from eyetoy_train.export.portable import model_to_export

DESCRIPTION = (
    "Export a checkpoint to a file that runs without this project's code. The file includes the preprocessing; "
    "model.json next to it has the classes. The file is run and compared with the model. Further options override the "
    "checkpoint's recipe."
)


@exit_on_error()
def export_checkpoint(app: App[Any], argv: Sequence[str] | None = None) -> None:
    """Export a checkpoint as the command line says, and print the file and its difference from the model.

    Args:
        app: the app of the checkpoint.
        argv: the command line; `sys.argv[1:]` by default.
    """
    parser = checkpoint_parser(DESCRIPTION)
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="ONNX, or a torch.export archive")
    parser.add_argument("--output", type=Path, help="folder for the files (default: exported, in the checkpoint)")
    parser.add_argument("--push_to_hub", metavar="OWNER/NAME", help="upload checkpoint, card and exported files")
    options, overrides = parse_with_overrides(parser, argv)
    output = options.output or options.checkpoint / "exported"
    opened = app.open(options.checkpoint, overrides, command="export")
    check_output(output)
    # On the CPU: a trace on a GPU would fix that device in constants of the file.
    model = model_to_export(opened.task, opened.load_model(torch.device("cpu")))
    about = export(model, output, options.format, {"classes": opened.labels})
    card = opened.folder / "README.md"
    if card.is_file():
        (output / card.name).write_bytes(card.read_bytes())
    print(_line(output / about["file"], about))  # noqa: T201
    if options.push_to_hub:
        print(f"pushed to {push(options.push_to_hub, opened.folder, output)}")  # noqa: T201


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
        # Left out: the manifest, which would not match the files uploaded, and the export, a folder of its own here.
        api.upload_folder(repo_id=made.repo_id, folder_path=folder, ignore_patterns=["manifest.json", "exported/*"])
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
    return (
        f"{path}: {given['name']} {given['dtype']} [{shape}] to {about['output']['name']}; in {checked['runtime']} it "
        f"differs from the model by {checked['largest_difference']:.1g} at most ({checked['bound']:g} is allowed), on "
        f"{len(checked['inputs'])} random inputs; classes and preprocessing are in {path.with_name(ABOUT)}"
    )
