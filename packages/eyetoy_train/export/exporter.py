"""Write a model to a file that needs none of this project's code: ONNX, or an archive of torch.export."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from eyetoy_train.export.portable import ExportInput, ExportModel

ABOUT = "model.json"
BOUND = 1e-4
"""The largest difference allowed between the outputs of an exported model and of the model itself, relative to the
model's largest output, or to 1 if that is more."""
SPARED = 100
"""Of so many things found, one may differ by more: it may be on the edge of a threshold, where rounding decides."""
METADATA = "eyetoy"
"""Name of the entry of an ONNX file's metadata that has the contents of `model.json`, but for the comparison."""

Run = Callable[[Tensor], Sequence[Tensor]]


class ExportError(ValueError):
    """A model could not be exported, or the exported one differs from it."""


@dataclass(frozen=True)
class Format:
    """A file format: how to write it, and how to read it back for the comparison."""

    file: str
    runtime: str
    """The package that runs the file."""
    needs: tuple[str, ...]
    """Packages that must be installed to write and to run it."""
    write: Callable[[ExportModel, Path, dict[str, Any]], None]
    """Writes a model and the contents of `model.json` to a path."""
    open: Callable[[ExportInput, Path], Run]


def export(model: ExportModel, folder: Path, kind: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Write a model to a folder, run the file, compare it with the model, and write `model.json` beside it.

    Args:
        model: the model, on the CPU and in evaluation mode.
        folder: where to write; made if it is missing.
        kind: `onnx` or `pt2`.
        facts: further entries of `model.json`, such as the classes.

    Returns:
        the contents of `model.json`.

    Raises:
        ExportError: a package is missing, the model cannot be traced, or the file gives other numbers than the model.
    """
    form = FORMATS[kind]
    _check_installed(kind, form)
    folder.mkdir(parents=True, exist_ok=True)
    about = _about(model, kind, form) | facts
    # Beside the folder's files until it was compared: a wrong file must not be found and used, nor replace a right one.
    with TemporaryDirectory(dir=folder, prefix=".", ignore_cleanup_errors=True) as temporary:
        path = Path(temporary, form.file)
        with torch.no_grad(), _quiet():
            try:
                form.write(model, path, about)
            except Exception as error:  # exporters raise whatever a model's code leads them to
                raise ExportError(f"the model cannot be exported as {kind}: {str(error)[:500]}") from error
            try:
                about["checked"] = _checked(model, form, path)
            except Exception as error:  # of a runtime that cannot read the file, too
                raise ExportError(f"{str(error)[:500]}; nothing was written to {folder}") from error
        written = [file.name for file in Path(temporary).iterdir()]  # also the weights of a large ONNX model
        for name in written:
            path.with_name(name).replace(folder / name)
        (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        # One `model.json` tells of one file: that of an earlier export, in another format, goes.
        for earlier in (name for other in FORMATS.values() for name in (other.file, f"{other.file}.data")):
            if earlier not in written:
                (folder / earlier).unlink(missing_ok=True)
    return about


def _about(model: ExportModel, kind: str, form: Format) -> dict[str, Any]:
    example, given = model.input.examples[0], model.input
    shape = [name if name in given.varying else size for name, size in zip(given.axes, example.shape, strict=True)]
    outputs = [{"name": name, "axes": list(axes)} for name, axes in model.outputs.items()]
    return {
        "format": kind,
        "file": form.file,
        "input": {
            "name": given.name,
            "dtype": str(example.dtype).removeprefix("torch."),
            "axes": list(given.axes),
            "shape": shape,
            **given.preprocessing,
        },
        "output": outputs[0],
        **({"outputs": outputs} if model.more_outputs else {}),
        **model.facts,
        "versions": {name: metadata.version(name) for name in ("eyetoy", "torch")},
    }


def _checked(model: ExportModel, form: Format, path: Path) -> dict[str, Any]:
    """Compare a written file with the model, and return the comparison for `model.json`.

    Raises:
        ExportError: the outputs differ.
    """
    found = torch.cat(list(_differences(model, form.open(model.input, path)))).sort().values
    if not len(found):
        raise ExportError(
            f"the model found nothing on any of the {len(model.input.examples)} inputs on which the file was to be "
            "compared: name files with --check_on on which it finds something"
        )
    difference = float(found[: len(found) - len(found) // SPARED].max())
    if not difference <= BOUND:  # so also if it is not a number
        raise ExportError(
            f"the file gave other numbers than the model: they differ by {difference:.2g}, and {BOUND:g} is allowed"
        )
    return {
        "runtime": f"{form.runtime} {metadata.version(form.runtime)}",
        "inputs": [list(x.shape) for x in model.input.examples],
        "compared": len(found),
        "above_bound": int((found > BOUND).sum()),
        "largest_difference": float(f"{difference:.2g}"),
        "bound": BOUND,
    }


def _differences(model: ExportModel, run: Run) -> Iterator[Tensor]:
    original = model.original or (lambda x: _as_tuple(model.module(x)))
    for x in model.input.examples:
        try:
            yield model.differences(original(x), run(x))
        except Exception as error:  # of shapes that differ, or of a runtime
            raise ExportError(f"for an input of {list(x.shape)} {error}") from error


def _as_tuple(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


def _dynamic(given: ExportInput) -> tuple[dict[int, Any]]:
    # For example ({0: Dim("batch")},): one dict for the one argument of `forward`, its axes by number.
    return ({i: torch.export.Dim(name, min=1) for i, name in enumerate(given.axes) if name in given.varying},)


def _write_onnx(model: ExportModel, path: Path, about: dict[str, Any]) -> None:
    program = torch.onnx.export(
        model.module,
        (model.input.examples[0],),
        dynamo=True,
        dynamic_shapes=_dynamic(model.input),
        input_names=[model.input.name],
        output_names=list(model.outputs),
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props[METADATA] = json.dumps(about)
    program.save(path)


def _open_onnx(given: ExportInput, path: Path) -> Run:
    onnxruntime: Any = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: [torch.from_numpy(output) for output in session.run(None, {given.name: x.numpy()})]


def _write_archive(model: ExportModel, path: Path, about: dict[str, Any]) -> None:
    program = torch.export.export(model.module, (model.input.examples[0],), dynamic_shapes=_dynamic(model.input))
    torch.export.save(program, path, extra_files={ABOUT: json.dumps(about)})


def _open_archive(given: ExportInput, path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda x: _as_tuple(module(x))


FORMATS = {
    "onnx": Format("model.onnx", "onnxruntime", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _open_onnx),
    "pt2": Format("model.pt2", "torch", (), _write_archive, _open_archive),
}


def _check_installed(kind: str, form: Format) -> None:
    missing = [name for name in form.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f'{kind} needs {", ".join(missing)}: pip install "eyetoy[export]"')


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters, which log and warn at length about their own progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
