"""visualize.py of every app, as a user runs it, and what it draws."""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from PIL import Image

import eyetoy_audio.visualize
import eyetoy_image.visualize
import eyetoy_video.visualize
from eyetoy import create_encoder
from eyetoy_audio.transforms.waveform import windows
from eyetoy_image.classification import APP
from eyetoy_image.dense import views
from eyetoy_image.segmentation import SegmenterRecipe
from eyetoy_image.segmentation.model import Segmenter
from eyetoy_train import ModelRecipe
from eyetoy_train.commands.visualize import figure_pixels, write_figure
from eyetoy_train.visualize.classifier import ClassifierView
from eyetoy_train.visualize.figures import heated, outlined
from eyetoy_train.visualize.legend import families, runs
from eyetoy_train.visualize.maps import collect_maps
from eyetoy_video.io.files import frame_seconds

FILES = {
    "image": ("image", "pictures/dark/0.png"),
    "audio": ("audio", "sounds/low/0.wav"),
    "video": ("video", "videos/test/left/00000.mp4"),
}


@pytest.mark.parametrize("run", FILES)
def test_maps_of_a_file_are_drawn(run, checkpoints, run_command, tmp_path):
    app, name = FILES[run]
    arguments = (checkpoints / "runs" / run, checkpoints / name, "--output", "maps")
    done = run_command(tmp_path, f"apps/{app}/visualize.py", *arguments)
    written = sorted((tmp_path / "maps").iterdir())
    stem = Path(name).stem
    assert [path.name for path in written] == [f"{stem}.mp4", f"{stem}.png"][run != "video" :]
    assert all(f"maps/{path.name}" in done.stdout for path in written)
    assert_is_drawn(written[-1])
    if run == "video":
        with av.open(str(written[0])) as clip:
            frames = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
        assert len(frames) == 4
        assert frames[0].shape[1] > 3 * frames[0].shape[0]


def assert_is_drawn(path: Path) -> None:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) > 500
    assert pixels.std(axis=(0, 1)).min() > 20


@pytest.mark.parametrize("run", ["detection", "segmentation"])
def test_maps_of_dense_predictors_are_drawn_and_what_they_find(run, checkpoints, tmp_path):
    file = next((checkpoints / "composed").rglob("test/*.jpg"))
    view = eyetoy_image.visualize.open_viewer(checkpoints / "runs" / run)(file, None)
    assert_is_drawn(write_figure(view.maps, tmp_path / "maps.png"))
    height, width, channels = view.answer.shape
    assert min(height, width) >= 480
    assert channels == 3
    assert all(0 <= share <= 1 for _, share in view.classes)


@pytest.mark.parametrize(("run", "axes"), [("audio-image", ("frequency", "time")), ("audio-masked", ("time",))])
def test_maps_of_features_of_a_sound_are_drawn(run, axes, checkpoints, tmp_path):
    view = eyetoy_audio.visualize.open_viewer(checkpoints / "runs" / run)
    assert view.axes == axes
    assert_is_drawn(write_figure(view(checkpoints / "sounds/low/0.wav").maps, tmp_path / "maps.png"))


@pytest.mark.parametrize(
    ("run", "main", "point"),
    [
        ("image", eyetoy_image.visualize.main, (0.5,)),
        ("audio", eyetoy_audio.visualize.main, (0.2, 1.5)),
        ("video", eyetoy_video.visualize.main, (0.5, 0.5, -1)),
    ],
)
def test_a_point_that_no_file_has_is_refused(run, main, point, checkpoints, tmp_path, capsys):
    arguments = [checkpoints / "runs" / run, checkpoints / FILES[run][1], "--output", tmp_path, "--point", *point]
    with pytest.raises(SystemExit, match="2"):
        main([str(argument) for argument in arguments])
    said = capsys.readouterr().err.strip()
    assert "--point must be a fraction from 0 to 1 of each of" in said
    assert said.endswith(f"got {' '.join(f'{share:g}' for share in point)}")


def test_what_cannot_be_read_is_named_and_the_rest_is_drawn(checkpoints, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = [tmp_path / "broken.png", checkpoints / "pictures/dark/0.png", checkpoints / "pictures/bright/0.png"]
    arguments = [checkpoints / "runs" / "image", *files, "--output", tmp_path / "maps"]
    with pytest.raises(SystemExit, match="1"):
        eyetoy_image.visualize.main([str(argument) for argument in arguments])
    assert f"skipped: cannot read {files[0]} as a picture" in capsys.readouterr().err
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"0.png", "0-2.png"}


def test_every_file_has_maps_of_its_own(checkpoints, tmp_path):
    files = [tmp_path / name for name in ("one/a.png", "two/a.png", "two/a-2.png", "three/A.png")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        shutil.copy(checkpoints / "pictures/dark/0.png", file)
    arguments = [checkpoints / "runs" / "image", *files, "--output", tmp_path / "maps"]
    eyetoy_image.visualize.main([str(argument) for argument in arguments])
    assert {path.name for path in (tmp_path / "maps").iterdir()} == {"a.png", "a-2.png", "a-2-2.png", "A-3.png"}


@pytest.mark.parametrize(
    ("script", "run", "options"),
    [
        ("visualize", "image", ()),
        ("visualize", "video", ()),
        ("predict", "segmentation", ("--maps",)),
        ("predict", "detection", ()),
    ],
)
def test_what_is_read_is_not_overwritten(script, run, options, checkpoints, refused, tmp_path):
    app, name = FILES.get(run, FILES["image"])
    file = tmp_path / "mine" / Path(name).name
    file.parent.mkdir()
    shutil.copy(checkpoints / name, file)
    (tmp_path / "link").symlink_to("mine")
    before = file.read_bytes()
    arguments = (checkpoints / "runs" / run, "mine", *options, "--output", "link")
    said = refused(tmp_path, f"apps/{app}/{script}.py", *arguments)
    assert f"--output link would overwrite {Path('link') / file.name}, which is read; choose another folder" in said
    assert file.read_bytes() == before


def test_a_map_is_brightest_where_it_is_greatest():
    picture, values = np.full((4, 5, 3), 0.5, np.float32), np.zeros((4, 5), np.float32)
    values[1, 2] = 3
    laid = heated(picture, values)
    assert laid.shape == picture.shape
    assert np.unravel_index(laid.sum(-1).argmax(), values.shape) == (1, 2)


def test_maps_lie_on_the_input(checkpoints):
    view = ClassifierView(APP.open(checkpoints / "runs" / "image"))
    example = view.example(checkpoints / "pictures/dark/0.png")
    maps = view.maps(example, (0.0, 1.0), "pixels")
    assert maps.point == (0, 15)
    assert maps.context.shape == maps.field.shape == maps.components.shape[:2] == (16, 16)
    assert [group.title for group in maps.stages[0].groups][1] == "7 x 7 tokens of 4 x 4 pixels"
    for stage in maps.stages:
        for group in stage.groups:
            assert group.seen[maps.point]
            assert not group.weights[~group.seen].any()
    x = view.model_input(example)
    np.testing.assert_array_equal(collect_maps(view.encoder, x, (0.0, 1.0), "pixels").context, maps.context)


@pytest.mark.parametrize(("out_indices", "num_stages"), [(None, 2), ([0], 1)])
def test_maps_of_a_dense_predictor_are_of_the_parts_that_it_trains(out_indices, num_stages, monkeypatch):
    seen = []
    monkeypatch.setattr(views, "draw_picture_maps", lambda *arguments, **options: seen.append((arguments, options)))
    recipe = SegmenterRecipe(kind="linear", auxiliary_weight=0.0, out_indices=out_indices)
    model = Segmenter(ModelRecipe(name="eyetoy2d_pico"), recipe, 3)
    answer = np.zeros((8, 8, 3), np.uint8)
    views.DenseMaps(model.eval()).draw(torch.randn(1, 3, 32, 48), (0.5, 0.5), answer)
    ((_, maps), options) = seen[0]
    assert maps.context is None
    assert len(maps.stages) == num_stages
    assert maps.field.shape == maps.components.shape[:2] == (32, 48)
    assert np.array_equal(maps.field, maps.stages[-1].field) == (num_stages == 1)  # without the global stack
    assert options["answer"] is answer
    assert "context token" in options["note"]


def test_a_figure_shows_the_answer_beside_the_maps(checkpoints):
    file = next((checkpoints / "composed").rglob("test/*.jpg"))
    view = eyetoy_image.visualize.open_viewer(checkpoints / "runs" / "segmentation")(file, None)
    shown = {axes.get_title(): axes.images[0].get_array() for axes in view.maps.axes if axes.images}
    np.testing.assert_array_equal(shown["prediction"], view.answer)
    assert not any("context" in title for title in shown)


OUTSIDE = "outside of it: not seen"


@pytest.mark.parametrize(
    ("app", "run", "name", "texts"),
    [
        (eyetoy_image, "image", "pictures/dark/0.png", ["gradient, largest = 1", "attention per token", OUTSIDE]),
        (eyetoy_audio, "audio", "sounds/low/0.wav", ["seconds", "Hz", "share of the row's greatest value"]),
        (eyetoy_audio, "audio-image", "sounds/low/0.wav", ["seconds", "Hz", "attention per token", "1000", OUTSIDE]),
        (
            eyetoy_video,
            "video",
            "videos/test/left/00000.mp4",
            ["0.00 s", "frame 1 of 4", "attention per token", OUTSIDE],
        ),
    ],
)
def test_a_figure_names_its_file_its_scales_and_the_look_of_outside(app, run, name, texts, checkpoints):
    figure = app.visualize.open_viewer(checkpoints / "runs" / run)(checkpoints / name).maps
    assert figure.get_suptitle().split("\n")[0] == Path(name).name
    figure_pixels(figure)  # lays the figure out
    said = " | ".join(text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text")))
    assert all(text in said for text in [*texts, "the chosen point"])
    assert (OUTSIDE in said) == (OUTSIDE in texts)  # sounds have no attention here
    needed = figure.get_tightbbox()  # in inches
    assert min(needed.x0, needed.y0) > -0.02, "nothing is cut off"
    assert needed.x1 < figure.get_figwidth() + 0.02
    assert needed.y1 < figure.get_figheight() + 0.02


def test_a_colour_bar_ends_at_the_greatest_weight(checkpoints):
    view = eyetoy_image.visualize.open_viewer(checkpoints / "runs" / "image")
    file = checkpoints / "pictures/dark/0.png"
    figure, group = view(file).maps, view.maps(view.example(file), (0.5, 0.5), "pixels").stages[0].groups[1]
    (axes,) = (one for one in figure.axes if one.get_title() == f"stage 1: {group.title}")
    (bar,) = axes.child_axes
    assert [label.get_text() for label in bar.get_xticklabels()][::2] == ["0 %", f"{100 * group.weights.max():.3g} %"]


def test_outside_of_a_neighborhood_looks_unlike_a_weight_of_zero():
    figure = Figure(figsize=(4, 3), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    seen = np.zeros((3, 4), dtype=bool)
    seen[1:, [0, 2]] = True  # as with a dilation of 2
    axes.imshow(heated(np.full((3, 4, 3), 0.5, np.float32), np.zeros((3, 4), np.float32)), aspect="auto")
    outlined(axes, seen)
    tiles = figure_pixels(figure).reshape(3, 110, 4, 110, 3).swapaxes(1, 2)[:, :, 20:90, 20:90].astype(int)
    tint = (tiles.max(-1) - tiles.min(-1)).reshape(3, 4, -1)
    assert (tint.min(-1) > 30)[seen].all(), "zero is a colour"
    assert (tint.max(-1) < 16)[~seen].all(), "outside is grey"
    assert (tiles.std((2, 3)).max(-1) > 10)[~seen].all(), "with lines"


def test_runs_are_the_stretches_of_a_mask():
    assert runs(np.array([True, False, True, True])) == [(0, 1), (2, 4)]
    assert runs(np.array([False, False])) == []


def test_letters_that_the_usual_font_lacks_are_drawn_with_another():
    assert families("Latin, Кириллица") == ["DejaVu Sans"]
    assert families("a\U0010fffd")[0] == "DejaVu Sans"  # a letter of no font changes nothing


@pytest.mark.parametrize("total", [7, 8, 9, 20, 21])
def test_a_part_lies_in_its_sound_and_that_of_the_middle_is_what_an_evaluation_hears(total):
    places = torch.arange(float(total))[None]
    assert eyetoy_audio.visualize.part_begin(total, 8, 0.5) == int(windows(places, 8, 1)[0][0, 0])
    assert eyetoy_audio.visualize.part_begin(total, 8, 0.0) == 0
    assert eyetoy_audio.visualize.part_begin(total, 8, 1.0) == max(total - 8, 0)


@pytest.mark.parametrize(
    ("seconds", "point", "span"), [(5, 0.5, (2.0, 3.0)), (5, 0.9, (4.0, 5.0)), (0.5, 0.5, (0, 0.5))]
)
def test_maps_of_a_sound_have_the_seconds_of_the_file(seconds, point, span, checkpoints, tmp_path):
    soundfile.write(tmp_path / "x.wav", np.random.default_rng(0).normal(0, 0.1, int(8000 * seconds)), 8000)
    figure = eyetoy_audio.visualize.open_viewer(checkpoints / "runs" / "audio")(tmp_path / "x.wav", (point,)).maps
    assert figure.axes[0].get_xlim() == pytest.approx(span)
    assert figure.axes[0].lines[-1].get_xdata()[0] == pytest.approx(point * seconds, abs=1e-3)
    said = figure.legends[0].get_title().get_text()
    assert (f"from {span[0]:.2f} to {span[1]:.2f} s of 5.00 s" in said) == (seconds > 1)


def test_a_model_of_sounds_without_attention_has_receptive_fields_alone():
    changes = {"scales": [], "local_kernel": 5, "global_depth": 0}
    encoder = create_encoder("eyetoy1d_pico", changes=changes).eval()
    x = torch.randn(1, 1, 800)
    maps = collect_maps(encoder, x, (0.5,), "samples")
    assert maps.context is None
    assert [stage.groups for stage in maps.stages] == [[], []]
    heard = eyetoy_audio.visualize.Heard(0.0, 0.1, 0.1)
    figure = eyetoy_audio.visualize.draw_sound_maps(x[0, 0].numpy(), 8000, maps, heard)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title for title in titles if title.startswith("stage")] == [
        "stage 1: no attention",
        "stage 2: no attention",
    ]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["the chosen point"]


def test_frames_of_a_clip_have_the_times_that_the_file_says(checkpoints):
    file = checkpoints / "videos/test/left/00000.mp4"
    view = eyetoy_video.visualize.open_viewer(checkpoints / "runs" / "video")
    with av.open(str(file)) as clip:
        times = [frame.time for frame in clip.decode(video=0)]
    found = frame_seconds(file, view.task.evaluation_sampling)
    assert len(found) == 4
    assert found == sorted(found)
    assert all(min(abs(at - time) for time in times) < 1e-6 for at in found)
    assert found == pytest.approx(np.array(times)[[0, 2, 3, 5]], abs=1e-6)
