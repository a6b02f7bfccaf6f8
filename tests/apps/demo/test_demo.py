"""The demo page in a real browser, headless, with a small model of every kind; and its command."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eyetoy_demo.checkpoints import Run, find_runs, sample_files
from eyetoy_demo.looking import _numbered, answer, sentence
from eyetoy_demo.main import DEFAULT_RUNS, main, train_missing

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SECONDS = 120_000  # milliseconds; a busy machine takes its time
FILES = {
    "image": ("Image", "image", "pictures/dark/0.png", {"dark", "bright"}),
    "audio": ("Sound", "audio", "sounds/low/0.wav", {"low", "high"}),
    "video": ("Video", "video", "videos/test/left/00000.mp4", {"left", "right", "up", "down"}),
}


@pytest.fixture(scope="module")
def page(checkpoints) -> Iterator[object]:
    """The page, open in a browser; what it asks of other hosts is on its list `foreign`."""
    pytest.importorskip("gradio", reason="the demo needs gradio")
    playwright = pytest.importorskip("playwright.sync_api", reason="driving a browser needs playwright")
    if CHROMIUM is None:
        pytest.skip("this machine has no Chromium")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from eyetoy_demo.page import build_page, launch_options

    demo = build_page(checkpoints / "runs")
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            opened = browser.new_page(viewport={"width": 1280, "height": 1000})
            opened.set_default_timeout(SECONDS)
            opened.foreign = []
            opened.on(
                "request",
                lambda request: (
                    request.url.startswith((address, "blob:", "data:")) or opened.foreign.append(request.url)
                ),
            )
            opened.goto(address)
            opened.get_by_role("tab", name="Image").wait_for()
            yield opened
            browser.close()
    finally:
        demo.close()


def choose(page, tab: str, modality: str, run: str) -> None:
    """Open a tab and choose a checkpoint."""
    page.get_by_role("tab", name=tab).click()
    box = page.locator(f"#{modality}-run input")
    box.wait_for()
    if box.input_value() != run:
        box.click()
        page.get_by_role("option", name=run, exact=True).click()


def give(page, modality: str, file: Path) -> None:
    """Take away what was given before, and give a file."""
    clear = page.locator(f"#{modality}-file").get_by_label("Clear").or_(page.locator(f"#{modality}-file [title=Clear]"))
    if clear.count():
        clear.first.click()
        page.locator(f"#{modality}-maps img").wait_for(state="detached")
    page.set_input_files(f"#{modality}-file input[type=file]", file)


@pytest.mark.parametrize("modality", FILES)
def test_a_file_is_given_and_classes_and_maps_are_shown(modality, page, checkpoints):
    tab, run, name, classes = FILES[modality]
    choose(page, tab, modality, run)
    give(page, modality, checkpoints / name)
    maps = page.locator(f"#{modality}-maps img")
    maps.wait_for()
    width, height = maps.evaluate(
        "async picture => { await picture.decode(); return [picture.naturalWidth, picture.naturalHeight] }"
    )
    assert min(width, height) > 500
    said = page.locator(f"#{modality}-classes").inner_text()
    assert any(label in said for label in classes)
    assert "%" in said
    assert page.locator(f"#{modality}-message").inner_text().strip() == ""
    if modality == "video":
        assert page.locator("#video-clip video").evaluate("clip => clip.src").endswith("maps.mp4")
    assert page.foreign == []


@pytest.mark.parametrize("run", ["detection", "segmentation"])
def test_a_picture_goes_through_a_dense_predictor(run, page, checkpoints):
    choose(page, "Image", "image", run)
    give(page, "image", next((checkpoints / "composed").rglob("test/*.jpg")))
    page.locator("#image-found img").wait_for()
    page.locator("#image-maps img").wait_for()


@pytest.mark.parametrize("modality", FILES)
def test_a_bad_upload_gets_a_sentence(modality, page, tmp_path):
    tab, run, name, _ = FILES[modality]
    bad = tmp_path / f"holiday{Path(name).suffix}"
    bad.write_bytes(b"not what its name says")
    choose(page, tab, modality, run)
    give(page, modality, bad)
    message = page.locator(f"#{modality}-message p")
    message.wait_for()
    said = message.inner_text()
    assert "holiday" in said
    assert said.endswith(".")
    assert "Traceback" not in page.content()
    page.locator(f"#{modality}-maps img").wait_for(state="detached")


def test_runs_are_found_with_their_modality(checkpoints, tmp_path):
    found = {run.name: run.modality for run in find_runs(checkpoints / "runs")}
    images = dict.fromkeys(("detection", "image", "segmentation"), "image")
    sounds = dict.fromkeys(("audio", "audio-image", "audio-masked"), "audio")
    assert found == {"video": "video", **images, **sounds}
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    (tmp_path / "note.txt").write_text("no run")
    assert find_runs(tmp_path) == []
    assert find_runs(tmp_path / "nowhere") == []


def test_files_to_pick_were_held_out(checkpoints, tmp_path):
    run = next(run for run in find_runs(checkpoints / "runs") if run.name == "video")
    files = sample_files(run, (".mp4",))
    assert len({file.parent.name for file in files}) == 8
    assert all("test" in file.parts for file in files)
    assert sample_files(Run(tmp_path, "image", tmp_path), (".png",)) == []


def test_names_that_are_not_utf8_do_not_stop_the_page(checkpoints, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9")
    assert _numbered([(name, 0.7), (name, 0.2), ("a\nb", 0.1)]) == {
        r"caf\udce9": 0.7,
        r"caf\udce9 (2)": 0.2,
        r"a\nb": 0.1,
    }
    assert sentence(ValueError(f"{name} is wrong"), tmp_path / "x.png") == r"Caf\udce9 is wrong."
    shutil.copytree(checkpoints / "runs" / "audio", tmp_path / "runs" / name)
    assert find_runs(tmp_path / "runs") == []
    assert r"caf\udce9, whose name is not UTF-8" in capsys.readouterr().err
    for file in ("a.png", f"{name}.png"):
        (tmp_path / "data" / "test").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "test" / file).write_bytes(b"")
    files = sample_files(Run(tmp_path, "image", tmp_path / "data"), (".png",))
    assert {file.name for file in files} == {"a.png"}


def test_the_default_model_of_a_modality_without_one_is_trained(checkpoints, tmp_path):
    script = "import sys, pathlib; pathlib.Path('told.txt').open('a').write(' '.join(sys.argv) + chr(10))"
    for app in DEFAULT_RUNS:
        (tmp_path / app).mkdir()
        (tmp_path / app / "train.py").write_text(script.replace("told.txt", str(tmp_path / "told.txt")))
    runs = tmp_path / "runs"
    shutil.copytree(checkpoints / "runs" / "audio", runs / "mine")
    train_missing(tmp_path, runs)
    told = (tmp_path / "told.txt").read_text().splitlines()
    assert [line.split()[1:] for line in told] == [
        ["--output_dir", str(runs / "digits")],
        ["--output_dir", str(runs / "moving-digits")],
    ]


def test_a_training_that_fails_ends_the_program(tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "train.py").write_text("raise SystemExit(3)")
    with pytest.raises(SystemExit, match="3"):
        train_missing(tmp_path, tmp_path / "runs")


def test_without_gradio_one_line_says_what_to_install(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match="2"):
        main(tmp_path, ["--no-train"])
    assert capsys.readouterr().err == 'the demo needs gradio: pip install -e ".[demo]"\n'


def test_a_model_that_shows_nothing_is_told_in_a_sentence(tmp_path):
    assert answer("image", None, tmp_path / "x.png", {}).message == "There is no image model yet."
    (tmp_path / "x.png").write_bytes(b"")
    said = answer("image", tmp_path / "gone", tmp_path / "x.png", {}).message
    assert said.startswith(f"{tmp_path / 'gone'} holds no checkpoint")
    assert said.endswith(".")
    assert (
        sentence(ValueError(f"cannot read {tmp_path / 'x.png'}: no\nmore"), tmp_path / "x.png")
        == "Cannot read x.png: no."
    )
