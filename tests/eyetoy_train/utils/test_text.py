"""Whatever a class or a file is called, it is drawn, printed and written, and read back where that is promised."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import warnings
from pathlib import Path

import pytest
import torch
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from eyetoy_train import ClassificationRecipe, parse_recipe, train
from eyetoy_train.checkpoint.run_folder import read_lines
from eyetoy_train.classification.metrics import ClassificationMetrics
from eyetoy_train.classification.predict import Prediction, write_predictions
from eyetoy_train.classification.samples import sample_file
from eyetoy_train.commands.cli import exit_on_error
from eyetoy_train.models.opened import read_labels
from eyetoy_train.report.figures import LabelledSample, draw_confusion, draw_samples
from eyetoy_train.report.model_card import CARD
from eyetoy_train.types import About
from eyetoy_train.utils import figures
from eyetoy_train.utils.console import log
from eyetoy_train.utils.figures import USUAL_FONT, _fonts, _letters, font_file
from eyetoy_train.utils.files import write_text
from eyetoy_train.utils.seeds import derive_seed
from eyetoy_train.utils.text import drawn, drawn_file, shown, shown_lines
from eyetoy_train.visualize.legend import put_title

# Names, and how they are shown.
NAMES = {
    os.fsdecode(b"caf\xe9"): r"caf\udce9",
    "\ud800 of JSON": r"\ud800 of JSON",
    "under_$5_and_$9": "under_$5_and_$9",
    r"\$x^$ 100%_": r"\$x^$ 100%_",
    "two\nlines\r\tand\x1b[31m red": r"two\nlines\r\tand\x1b[31m red",
    "\u202egnp.exe": r"\u202egnp.exe",
    "line\u2028line": r"line\u2028line",
    "שלום": "שלום",
    "👩\u200d👧 🐱": "👩\u200d👧 🐱",
    "<b>a | b</b>": "<b>a | b</b>",
    "long " * 50: "long " * 50,
    "長い" * 60: "長い" * 60,
}
each_name = pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))


@each_name
def test_names_are_shown_on_one_line_that_every_encoding_takes(name):
    assert shown(name) == NAMES[name]
    shown(name).encode()
    for encoding in ("ascii", "latin-1", "utf-8"):
        shown_lines(f"first\n{name}", encoding).encode(encoding)
    assert shown_lines(f"first\n{name}").split("\n")[0] == "first", "lines of a message stay lines"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@each_name
def test_names_are_printed_whatever_the_terminal_takes(name, encoding, monkeypatch):
    for write in (log, lambda name: write_predictions([Prediction(name, {}, (name,), (1.0,))], None)):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        monkeypatch.setattr(sys, "stdout", stream)
        write(name)
        printed = stream.buffer.getvalue()
        assert printed.endswith(b"\n")
        assert not any(byte < 32 and byte != 10 for byte in printed)
    assert printed.count(b"\n") == 1, "a prediction is one line"


def test_help_and_errors_about_input_are_printed_in_ascii(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit, match="0"):
        parse_recipe(ClassificationRecipe, None, ["--help"], description="after Müller")
    stream.flush()
    assert rb"after M\xfcller" in stream.buffer.getvalue()
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit, match="2"), exit_on_error():
        raise ValueError("there is no folder caf\udce9 of Müller")
    assert rb"folder caf\udce9 of M\xfcller" in stream.buffer.getvalue()


@each_name
def test_names_in_json_are_read_back_and_names_in_tables_are_readable(name, tmp_path):
    one = Prediction(f"{name}.png", {}, (name,), (1.0,))
    write_predictions([one], tmp_path / "a.json")
    (row,) = json.loads((tmp_path / "a.json").read_text(encoding="ascii"))
    assert (row["file"], row["classes"]) == (one.file, [name])
    write_predictions([one], tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert shown(row["class"]) == NAMES[name]
    (tmp_path / "labels.json").write_text(json.dumps([name]), encoding="utf-8")
    assert read_labels(tmp_path) == [name]
    write_text(tmp_path / "a.txt", name)
    assert derive_seed(0, name) != derive_seed(1, name)


@each_name
def test_names_are_drawn(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion([[3, 1], [0, 2]], [name, "other"], tmp_path / "confusion.png")
        sample = LabelledSample(
            draw=lambda axes: axes.imshow([[0.5]]), truth=name, prediction="a", confidence=0.5, is_right=False
        )
        draw_samples([sample], tmp_path / "samples.png")
    assert len(drawn(name, 20).replace(r"\$", "$")) <= 20
    assert len(drawn_file(f"{name}.png", 20).replace(r"\$", "$")) <= 20
    figure = Figure(figsize=(4, 3))
    put_title(figure, tmp_path / f"{name}.png", [(name, 0.5)] * 3)
    assert figure.get_suptitle().endswith(" 50.0%")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Glyph .* missing")
        FigureCanvasAgg(figure).draw()
    box = figure._suptitle.get_window_extent()
    assert "\u200d" in name or box.width <= figure.bbox.width, "the title fits"
    path = sample_file(
        tmp_path, 1, LabelledSample(draw=print, truth=name, prediction=name * 2, confidence=0.5, is_right=False)
    )
    path.with_name(f"{path.name}.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "short"),
    [("abcdefghij.png", "abcd….png"), ("short.png", "short.png"), ("高い塔の写真.png", "高い….png"), ("", "")],
)
def test_a_long_name_of_a_file_is_cut_in_its_middle(name, short):
    assert drawn_file(name, 10) == short


def test_letters_that_the_usual_font_lacks_are_drawn_by_another(monkeypatch):
    lacking = next(chr(code) for code in sorted(_letters("STIXGeneral") - _letters(USUAL_FONT)) if chr(code).isalpha())
    # Of the installed fonts those that matplotlib ships, so that it is known which one has the letter.
    shipped = {name: file for name, file in _fonts().items() if name in (USUAL_FONT, "STIXGeneral") or "Last" in name}
    monkeypatch.setattr(figures, "_fonts", lambda: shipped)
    assert ord(lacking) in font_manager.get_font(font_file(lacking)).get_charmap()
    assert Path(font_file("Latin")).name == "DejaVuSans.ttf"


@pytest.mark.parametrize("name", ["\u732b", "\ud55c\uad6d", "\u0939\u093f", "\U0010fffd", ""])
def test_a_name_of_any_script_has_a_font(name):
    """Not that of last resort, whose name matplotlib cannot read, and which has a box for every letter."""
    assert Path(font_file(name)).is_file()
    assert "LastResort" not in font_file(name)


def test_dollars_are_drawn_as_they_are():
    figure = Figure()
    title = figure.suptitle(drawn("under_$5_and_$9"))
    FigureCanvasAgg(figure).draw()
    assert title._preprocess_math(title.get_text()) == ("under_$5_and_$9", False)


def test_a_run_with_classes_of_any_name_ends_with_report_card_and_results(slopes, toy_recipe, tmp_path):
    names = tuple(NAMES)[:3]

    class Odd(slopes):
        classes = names
        about = About(data="files of the folder caf\udce9\n| a")

    recipe = toy_recipe(epochs=1, name="caf\udce9", trackers=("tensorboard",))
    results = train(Odd(recipe), recipe)
    run, best = tmp_path / "run", tmp_path / "run" / "checkpoints" / "best"
    assert json.loads((run / "results.json").read_text(encoding="utf-8")).keys() == results.keys()
    page = (run / "report.html").read_text(encoding="utf-8")
    assert all(NAMES[name] in page for name in names)
    assert r"files of the folder caf\udce9\n| a" in (best / CARD).read_text(encoding="utf-8")
    assert tuple(read_labels(best)) == names
    assert read_lines(run / "metrics.jsonl")


def test_tables_of_metrics_hold_every_name(tmp_path):
    metrics = ClassificationMetrics(len(NAMES), list(NAMES))
    labels = torch.arange(len(NAMES))
    metrics.update(torch.eye(len(NAMES)), {"label": labels})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        tables = metrics.details(metrics.sums, tmp_path).tables
    assert {row[0] for row in tables[0].rows} == set(NAMES)
