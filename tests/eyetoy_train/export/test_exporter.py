"""What an export checks of itself, and what it refuses."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from torch import nn

from eyetoy_train.export.exporter import ExportError, export
from eyetoy_train.export.portable import PlainInput, PlainModel


class Mean(nn.Module):
    def forward(self, x):
        return torch.stack([x.mean(1), x.std(1)], 1)


class FixedBatch(Mean):
    def forward(self, x):
        return super().forward(x.reshape(2, -1))


class Moody(Mean):
    """Gives one thing when it is traced, another one afterwards."""

    def forward(self, x):
        return super().forward(x) + (0.0 if torch.compiler.is_compiling() else 3e-4)


def plain(module: nn.Module) -> PlainModel:
    # Below 1, as mean and deviation then are: differences are told as they are.
    examples = [torch.rand(batch, length) for batch, length in ((2, 9), (3, 5))]
    given = PlainInput(
        name="samples",
        axes=("batch", "samples"),
        varying=("batch", "samples"),
        examples=examples,
        prepare=lambda x: {"input": x},
    )
    return PlainModel(module, given, "moments", ("batch", "moments"))


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_a_file_is_written_with_what_is_to_be_known_of_it(kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    about = export(plain(Mean()), tmp_path / "new", kind, {"classes": ["mean", "deviation"]})
    assert json.loads((tmp_path / "new/model.json").read_text()) == about
    assert (tmp_path / "new" / about["file"]).is_file()
    assert about["input"]["shape"] == ["batch", "samples"]
    assert about["checked"]["inputs"] == [[2, 9], [3, 5]]
    assert about["checked"]["largest_difference"] < 1e-6


def test_a_file_that_gives_other_numbers_is_not_kept(tmp_path):
    with pytest.raises(ExportError, match=r"differ by 0\.0003, and 0\.0001 is allowed; it was removed"):
        export(plain(Moody()), tmp_path, "pt2", {})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_traced_for_any_batch_is_refused(tmp_path):
    with pytest.raises(ExportError, match="the model cannot be exported as pt2"):
        export(plain(FixedBatch()), tmp_path, "pt2", {})


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ExportError, match=r'onnx needs onnxscript: pip install "eyetoy\[export\]"'):
        export(plain(Mean()), tmp_path, "onnx", {})
