"""The demo page in a real browser, headless, with a small model of every kind; and its command."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from matplotlib.colors import to_rgba
from PIL import Image

from eyetoy import load
from eyetoy_demo.checkpoints import NOT_RECORDED, facts, find_included, find_runs
from eyetoy_demo.examples import OTHERS, OWN, find_examples
from eyetoy_demo.looking import _numbered, answer, open_viewer, sentence
from eyetoy_demo.main import main
from eyetoy_demo.parts import Length, length_of, read_parts
from eyetoy_demo.temporary import KEPT_SECONDS
from eyetoy_demo.timeline import Timeline, draw_timeline, sentence_of, timeline
from eyetoy_image.app import app_of
from eyetoy_image.classification import APP
from eyetoy_train.media.encode import write_mp4
from eyetoy_train.models.included import example_files
from eyetoy_train.types import MODALITIES
from helpers.commands import save_untrained
from helpers.forks import FORKS
from helpers.paths import config

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


def has_no_message(page, modality: str) -> None:
    """Wait until the place of messages is empty: while the page works, it says so there."""
    page.wait_for_function(f"document.querySelector('#{modality}-message').innerText.trim() === ''")


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
    has_no_message(page, modality)
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
def test_an_included_model_comes_with_files_to_pick_from(modality, page):
    (run,) = (run for run in find_included() if run.modality == modality)
    choose(page, FILES[modality][0], modality, run.name)
    page.locator(f"#{modality}-about").get_by_text("held-out samples").wait_for()
    # Those of the model that was chosen before are replaced.
    count = len(find_examples(run).files)
    page.wait_for_function(f"document.querySelectorAll('#{modality}-samples button').length === {count}")
    page.locator(f"#{modality}-samples button").first.click()
    page.locator(f"#{modality}-classes").get_by_text(find_examples(run).names[0]).first.wait_for()
    has_no_message(page, modality)


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
    runs, left_out = find_runs(checkpoints / "runs")
    found = {run.name: run.modality for run in runs}
    images = dict.fromkeys(("detection", "image", "segmentation"), "image")
    sounds = dict.fromkeys(("audio", "audio-image", "audio-masked"), "audio")
    assert found == {"video": "video", **images, **sounds}
    assert left_out == []
    (tmp_path / "pictures").mkdir()
    (tmp_path / "note.txt").write_text("no run")
    assert find_runs(tmp_path) == ([], [])
    assert find_runs(tmp_path / "nowhere") == ([], [])


def test_what_the_page_cannot_show_is_left_out_with_a_reason(checkpoints, tmp_path):
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "model.onnx").write_bytes(b"")
    for name in ("cut", "foreign", "miscounted", "nameless", "unreadable"):
        shutil.copytree(checkpoints / "runs" / "image", tmp_path / name)
    best = Path("checkpoints") / "best"
    os.truncate(tmp_path / "cut" / best / "model.safetensors", 5000)
    config = json.loads((tmp_path / "foreign" / best / "config.json").read_text())
    (tmp_path / "foreign" / best / "config.json").write_text(json.dumps(config | {"kind": "timm"}))
    (tmp_path / "miscounted" / best / "labels.json").write_text('["a", "b", "c"]')
    (tmp_path / "nameless" / best / "labels.json").unlink()
    (tmp_path / "unreadable" / best / "recipe.yaml").write_text("data: [")
    runs, left_out = find_runs(tmp_path)
    assert runs == []
    reasons = {one.name: one.reason for one in left_out}
    assert list(reasons) == ["begun", "cut", "exported", "foreign", "miscounted", "nameless", "unreadable"]
    words = ("no checkpoint yet", "cut or damaged", "exported", "timm", "2 classes", "no names", "broken")
    for reason, word in zip(reasons.values(), words, strict=True):
        assert word in reason


def test_files_to_pick_were_held_out(checkpoints):
    runs = {run.name: run for run in find_runs(checkpoints / "runs")[0]}
    for name, count in (("video", 8), ("image", 2), ("detection", 1), ("segmentation", 1)):
        found = find_examples(runs[name])
        assert found.title == OWN
        assert len(found.files) == count
    task = APP.open(checkpoints / "runs" / "image").task  # without split folders, the recipe's seed decides
    held_out = {file.read_bytes() for file, _ in task.source.split("test")}
    assert {file.read_bytes() for file in find_examples(runs["image"]).files} == held_out


@pytest.mark.parametrize("has_splits", [True, False])
def test_files_to_pick_of_a_run_on_label_maps_were_held_out(has_splits, tmp_path):
    pictures = {f"{number}.png" for number in range(10)}
    for name in pictures:
        split = ("test" if name == "7.png" else "train") if has_splits else ""
        for folder, mode in (("images", "RGB"), ("maps", "L")):
            path = tmp_path / "data" / folder / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new(mode, (32, 32), 0)
            picture.paste(1, (0, 0, 16, 32)) if mode == "L" else None
            picture.save(path)
    best, recipe = tmp_path / "runs" / "maps" / "checkpoints" / "best", config("image", "own_segmentation")
    save_untrained(best, app_of("segmentation"), recipe, tmp_path / "data", ("--data.short_side", 32))
    found = find_examples(find_runs(tmp_path / "runs")[0][0])
    assert found.title == OWN
    task = app_of("segmentation").open(best).task
    assert {file.name for file in found.files} == {picture.path.name for picture in task.source.split("test")}


def test_a_run_without_its_data_has_the_files_of_the_included_model(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "runs" / "audio", tmp_path / "gone")
    recipe = tmp_path / "gone" / "checkpoints" / "best" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(checkpoints / "sounds"), str(tmp_path / "nowhere")))
    found = find_examples(find_runs(tmp_path)[0][0])
    assert found.title == OTHERS
    assert "yes" in found.names
    assert all(file.is_file() for file in found.files)


def test_names_that_are_not_utf8_do_not_stop_the_page(checkpoints, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9")
    assert _numbered([(name, 0.7), (name, 0.2), ("a\nb", 0.1)]) == {
        r"caf\udce9": 0.7,
        r"caf\udce9 (2)": 0.2,
        r"a\nb": 0.1,
    }
    assert sentence(ValueError(f"{name} is wrong"), tmp_path / "x.png") == r"Caf\udce9 is wrong."
    shutil.copytree(checkpoints / "runs" / "audio", tmp_path / "runs" / name)
    runs, left_out = find_runs(tmp_path / "runs")
    assert runs == []
    assert [one.name for one in left_out] == [r"caf\udce9"]
    assert r"caf\udce9, whose name is not UTF-8" in capsys.readouterr().err


def test_every_modality_has_an_included_model_that_says_what_it_knows_and_answers_for_its_examples():
    found = {run.modality: run for run in find_included()}
    assert found.keys() == set(MODALITIES)
    for modality, run in found.items():
        found, known = find_examples(run), facts(run)
        assert all(name in known["Classes"] for name in found.names)  # an example for each class
        assert known["Score"].startswith("accuracy 9")  # percent
        assert NOT_RECORDED not in known.values()
        given = answer(modality, run.folder, found.files[-1], {})
        assert given.message == ""
        assert next(iter(given.classes)) == found.names[-1]
        assert given.timeline is None
        assert given.note == ""


def test_a_run_says_what_it_knows_and_how_good_it_is(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "runs" / "image", tmp_path / "mine")
    ((run,), _) = find_runs(tmp_path)
    known = facts(run)
    assert known == {
        "Classes": "2: bright, dark",
        "Trained on": "pictures of the folder pictures",
        "Input": "16 x 16 pixels, grey",
        "Score": "not recorded",
    }
    card = tmp_path / "mine" / "checkpoints" / "best" / "README.md"
    card.write_text(
        "---\nmodel-index:\n- results:\n  - metrics:\n    - {type: accuracy, value: 0.5}\n---\n# mine\n", "utf-8"
    )
    assert facts(run)["Score"] == "accuracy 50.0% on held-out samples, by its card"
    results = {"val": {"accuracy": 0.5, "count": 3.0}, "test": {"accuracy": 0.75, "loss": 1.0, "count": 8.0}}
    (run.folder / "results.json").write_text(json.dumps(results))
    assert facts(run)["Score"] == "accuracy 75.0% on 8 held-out samples (95 % interval: 40.9% to 92.9%)"
    (run.folder / "results.json").write_text("[]")
    assert facts(run)["Score"] == "not recorded"


@pytest.mark.parametrize("results", ["results: []", "results: [{metrics: []}]", "results: null"])
def test_a_card_without_a_score_does_not_stop_the_page(results, checkpoints, tmp_path):
    shutil.copytree(checkpoints / "runs" / "image", tmp_path / "mine")
    card = tmp_path / "mine" / "checkpoints" / "best" / "README.md"
    card.write_text(f"---\nmodel-index:\n- {results}\n---\n# mine\n", "utf-8")
    ((run,), _) = find_runs(tmp_path)
    assert facts(run)["Score"] == NOT_RECORDED


def test_a_detector_without_objects_to_find_has_no_score_below_zero(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "runs" / "detection", tmp_path / "mine")
    results = {"val": {"mask_AP": -1.0, "box_AP": 0.5, "count": 8.0}, "test": None}
    (tmp_path / "mine" / "results.json").write_text(json.dumps(results))
    ((run,), _) = find_runs(tmp_path)
    assert facts(run)["Score"] == "mask_AP: there are no such objects in the held-out samples"


def write_sound(path: Path, seconds: float, level: float) -> Path:
    noise = level * np.random.default_rng(0).normal(size=round(8000 * seconds))
    soundfile.write(path, noise, 8000)
    return path


def test_a_long_sound_is_judged_by_all_of_its_parts(checkpoints, tmp_path):
    run, file = checkpoints / "runs" / "audio", write_sound(tmp_path / "long.wav", 3.0, 0.1)
    samples, rate = soundfile.read(file, dtype="float32")
    samples[:rate] = np.sin(2 * np.pi * 200 * np.arange(rate) / rate)
    soundfile.write(file, samples, rate, subtype="FLOAT")
    given, viewer = answer("audio", run, file, {}), open_viewer("audio", run)
    each = []
    for number in range(3):
        soundfile.write(tmp_path / "part.wav", samples[number * rate : (number + 1) * rate], rate, subtype="FLOAT")
        each.append(dict(viewer.top(viewer.example(tmp_path / "part.wav"))))
    mean = {name: np.mean([one[name] for one in each]) for name in each[0]}
    assert given.classes == pytest.approx(mean, abs=1e-5)
    assert max(abs(each[1][name] - mean[name]) for name in mean) > 1e-4, "unlike the middle alone"
    assert given.note == "The prediction is the mean over 3 parts of 1 s, evenly spaced over all 3 s."
    assert given.timeline.shape[1] > 500
    found = timeline(viewer, file, length_of(viewer.task, file))
    axes = draw_timeline(found).axes[0]
    assert axes.get_xlim() == (0, 3)
    assert axes.get_xlabel() == "seconds"


def test_a_word_in_a_sound_a_little_longer_than_the_input_is_heard_as_predict_hears_it(tmp_path):
    (run,) = (run for run in find_included() if run.modality == "audio")
    model = load(str(run.folder))
    for word in example_files(run.folder):
        samples, rate = soundfile.read(word)
        quiet = np.random.default_rng(0).normal(0, 1e-4, round(1.2 * rate))  # a room around the word
        begin = (len(quiet) - len(samples)) // 2
        quiet[begin : begin + len(samples)] += samples
        file = tmp_path / word.name
        soundfile.write(file, quiet, rate)
        given, predicted = answer("audio", run.folder, file, {}), model.predict(str(file))
        assert next(iter(given.classes.items())) == (predicted.label, pytest.approx(predicted.probability, abs=1e-4))
        assert predicted.label == word.stem
        assert given.note == "The prediction is the mean over 2 parts of 1 s, evenly spaced over all 1.2 s."


@pytest.mark.parametrize("seconds", [1.07, 1.2, 2.05, 2.5, 3.3, 7.03])
def test_parts_of_a_sound_are_the_windows_that_its_prediction_is_of(seconds, checkpoints, tmp_path):
    viewer = open_viewer("audio", checkpoints / "runs" / "audio")
    file = write_sound(tmp_path / "long.wav", seconds, 0.1)
    whole, length = viewer.example(file), length_of(viewer.task, file)
    assert length.count == int(whole.get("views", 1))
    if length.count == 1:
        return
    each = [part["input"] for part in read_parts(viewer.task, file, length)]
    np.testing.assert_allclose(np.stack(each), whole["input"].numpy(), atol=1e-6)


def test_a_sound_of_a_model_that_hears_one_window_is_judged_by_all_parts(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "runs" / "audio", tmp_path / "run")
    recipe = tmp_path / "run" / "checkpoints" / "best" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("windows: null", "windows: 1"))
    file, viewer = write_sound(tmp_path / "long.wav", 1.2, 0.1), open_viewer("audio", tmp_path / "run")
    found = timeline(viewer, file, length_of(viewer.task, file))
    np.testing.assert_allclose(found.spans, [(0, 1), (0.2, 1.2)])
    assert answer("audio", tmp_path / "run", file, {}).classes == pytest.approx(dict(found.classes), abs=1e-5)


@pytest.mark.parametrize("stride", [None, 1])
def test_a_long_video_is_judged_by_its_frames_or_by_its_parts(stride, checkpoints, tmp_path):
    shutil.copytree(checkpoints / "runs" / "video", tmp_path / "run")
    recipe = tmp_path / "run" / "checkpoints" / "best" / "recipe.yaml"
    if stride is not None:
        recipe.write_text(recipe.read_text().replace("frame_stride: null", f"frame_stride: {stride}"))
    file = tmp_path / "long.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)
    write_mp4(file, [frame * (number < 4) for number, frame in enumerate(noise)], 8)
    given, viewer = answer("video", tmp_path / "run", file, {}), open_viewer("video", tmp_path / "run")
    found = timeline(viewer, file, length_of(viewer.task, file))
    np.testing.assert_allclose(found.spans, [(0, 0.5), (0.5, 1), (1, 1.5)])
    whole = dict(viewer.top(viewer.example(file)))
    assert given.classes == pytest.approx(dict(found.classes) if stride else whole, abs=1e-5)
    assert whole != pytest.approx(dict(found.classes), abs=1e-4)
    assert given.note.startswith("The prediction is the mean" if stride else "The prediction is of frames of the whole")


def test_parts_of_a_video_have_as_many_frames_as_the_model_takes(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "runs" / "video", tmp_path / "run")
    recipe = tmp_path / "run" / "checkpoints" / "best" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("frame_stride: null", "frame_stride: 1"))
    file, viewer = tmp_path / "long.mp4", open_viewer("video", tmp_path / "run")
    write_mp4(file, [np.full((32, 32, 3), 40 * number, np.uint8) for number in range(6)], 8)
    length = length_of(viewer.task, file)
    np.testing.assert_allclose(length.spans, [(0, 0.5), (0.25, 0.75)])
    shown = [viewer.task.frames(part["input"]) for part in read_parts(viewer.task, file, length)]
    grey = [(frames.float().mean((1, 2, 3)) / 40).round().int().tolist() for frames in shown]
    assert grey == [[0, 1, 2, 3], [2, 3, 4, 5]]


def test_a_sound_of_hours_has_a_bounded_number_of_parts():
    long = Length(7200.0, 1.0)
    assert (long.count, long.part) == (240, 30)
    np.testing.assert_allclose(long.spans, [(30 * number, 30 * number + 30) for number in range(240)])
    assert [Length(total, 1.0).count for total in (0.01, 1.0, 1.04, 1.2, 2.0)] == [1, 1, 1, 2, 2]


def test_what_is_said_of_parts_is_true_of_the_windows_that_the_task_takes():
    mean, all_of_it = "The prediction is the mean over 240 parts of 2.08 s", ", evenly spaced over all 500 s."
    assert sentence_of(Length(500, 1, views=1), "audio") == f"{mean}{all_of_it} The model takes 1 s of each."
    assert sentence_of(Length(500, 1, views=2), "audio") == f"{mean}{all_of_it} The model takes 2 s of each."
    assert sentence_of(Length(500, 1, views=3), "audio") == f"{mean}{all_of_it}"
    curves = f"the curves are of 240 parts of 2.08 s{all_of_it}"
    for modality, whole in (("audio", "windows of the whole sound"), ("video", "frames of the whole video")):
        assert sentence_of(Length(500, 1, views=None), modality) == f"The prediction is of {whole}; {curves}"


def test_each_part_is_drawn_where_it_is_nearest():
    found = Timeline([(0, 1), (0.2, 1.2)], np.eye(2, dtype=np.float32), ["yes", "no"])
    assert found.edges == pytest.approx([0, 0.6, 1.2])


@pytest.mark.parametrize(
    ("labels", "columns"),
    [
        (["_background_noise_", "yes", "_unknown_", "no"], 4),
        ([letter * 24 for letter in "WMABC"], 2),
        (["一" * 12, "_", "$x$", "", "down"], 5),
    ],
)
def test_the_legend_of_curves_names_all_of_them_and_fits(labels, columns):
    probabilities = np.linspace(0.9, 0.1, 2 * len(labels), dtype=np.float32).reshape(-1, 2).T
    figure = draw_timeline(Timeline([(0, 1), (1, 2)], probabilities, labels))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [label.replace("$", r"\$") for label in labels]
    assert [to_rgba(handle.get_color()) for handle in legend.legend_handles] == [
        curve.get_edgecolor() for curve in figure.axes[0].patches
    ]
    assert len({round(text.get_window_extent().x0) for text in legend.get_texts()}) == columns
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_clips_are_deleted_after_a_while_and_files_to_pick_are_not(checkpoints):
    run, file = checkpoints / "runs" / "video", checkpoints / FILES["video"][2]
    examples = find_examples(find_included()[0]).files
    first, second = (answer("video", run, file, {}).clip for _ in range(2))
    for old in (first, *examples):
        os.utime(old.parent, (time.time() - KEPT_SECONDS - 9,) * 2)
    answer("video", run, file, {})
    assert not first.parent.exists()
    assert second.is_file()
    assert all(example.is_file() for example in examples)


def test_the_files_that_the_page_writes_are_gone_when_it_ends(checkpoints, tmp_path):
    run, file = checkpoints / "runs" / "video", checkpoints / FILES["video"][2]
    code = f"""
import tempfile
from pathlib import Path
from eyetoy_demo.checkpoints import find_included
from eyetoy_demo.examples import find_examples
from eyetoy_demo.looking import answer
tempfile.tempdir = {str(tmp_path)!r}
files = find_examples(find_included()[0]).files
files = [*files, answer("video", Path({str(run)!r}), Path({str(file)!r}), {{}}).clip]
assert all(file.is_file() for file in files)
print(*Path(tempfile.tempdir).glob("eyetoy-demo-*"))
"""
    done = FORKS.run(["-c", code])
    assert done.stdout.count("eyetoy-demo-") == 1, done.stderr
    assert not list(tmp_path.glob("eyetoy-demo-*"))


def test_a_file_that_tells_nothing_gets_a_sentence(checkpoints, tmp_path):
    silent = write_sound(tmp_path / "silent.wav", 0.5, 0.0)
    assert answer("audio", checkpoints / "runs" / "audio", silent, {}).note.startswith("This sound is silent")
    write_mp4(tmp_path / "one.mp4", [np.full((32, 32, 3), 90, np.uint8)], 8)
    given = answer("video", checkpoints / "runs" / "video", tmp_path / "one.mp4", {})
    assert "single frame" in given.note
    assert given.timeline is None
    note = tmp_path / "note.txt"
    note.write_text("no sound, no picture")
    for modality in MODALITIES:
        said = answer(modality, checkpoints / "runs" / modality, note, {}).message
        assert "note.txt" in said
        assert said.endswith(".")


def test_a_click_on_a_turned_photo_is_a_place_of_the_upright_picture(tmp_path):
    pytest.importorskip("gradio", reason="the demo needs gradio")
    from eyetoy_demo.page import _clicked

    picture = Image.new("RGB", (400, 200))
    orientation = picture.getexif()
    orientation[274] = 6  # a browser, and the model, see 200 x 400
    picture.save(tmp_path / "turned.jpg", exif=orientation)
    clicked = SimpleNamespace(index=(100, 399))
    assert _clicked(str(tmp_path / "turned.jpg"), clicked) == (1.0, 0.5)


def test_without_gradio_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err.endswith('error: the demo needs gradio: pip install "eyetoy[demo]"\n')


def test_a_folder_of_runs_that_is_not_there_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--runs", str(tmp_path / "runz")])
    assert "there is no folder" in capsys.readouterr().err


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


def test_a_path_at_the_start_of_an_error_stays_as_it_is():
    wrong = ValueError("runs/mine/checkpoints/best holds no classifier")
    assert sentence(wrong, Path("x.png")) == "runs/mine/checkpoints/best holds no classifier."


def test_the_name_of_a_file_in_an_error_makes_no_link(checkpoints, tmp_path):
    pytest.importorskip("gradio", reason="the demo needs gradio")
    from eyetoy_demo.page import _look

    bad = tmp_path / "[x](y) *z*.png"
    bad.write_bytes(b"not what its name says")
    message = _look("image", str(checkpoints / "runs" / "image"), str(bad), 0.5, 0.5)[0]
    assert r"\[x\](y) \*z\*.png" in message


def test_a_modality_without_its_packages_has_no_tab_and_names_its_extra(monkeypatch, tmp_path):
    gr = pytest.importorskip("gradio", reason="the demo needs gradio")
    from eyetoy_demo.page import build_page

    monkeypatch.setitem(sys.modules, "torchaudio", None)
    monkeypatch.setitem(sys.modules, "av", None)
    blocks = build_page(tmp_path).blocks.values()
    assert [block.label for block in blocks if isinstance(block, gr.Tab)] == ["Image"]
    (said,) = [block.value for block in blocks if isinstance(block, gr.Markdown) and "pip install" in str(block.value)]
    assert said == 'For sound and video: `pip install "eyetoy[demo]"`'
