"""`eyetoy.load`: a file or an array in, the answer of `predict.py` out."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import eyetoy
import eyetoy_train.models.transfer
from eyetoy_audio.app import APP as AUDIO
from eyetoy_image.app import APP as IMAGE
from eyetoy_image.detection import DetectionPredictor
from eyetoy_image.segmentation import SegmentationPredictor
from eyetoy_train import ClassifierPredictor, UnreadableFileError
from eyetoy_video.app import APP as VIDEO

APPS = {"image": IMAGE, "audio": AUDIO, "audio-image": AUDIO, "audio-masked": AUDIO, "video": VIDEO}
FILES = {"image": "pictures/**/*.png", "audio": "sounds/**/*.wav", "video": "videos/test/**/*.mp4"}


def files(checkpoints: Path, run: str) -> list[Path]:
    return sorted(checkpoints.glob(FILES[run.partition("-")[0]]))


def predicted(checkpoints: Path, run: str, output: Path) -> list[dict]:
    """Return what `predict.py` writes of all files of a run."""
    found = map(str, files(checkpoints, run))
    APPS[run].predict([str(checkpoints / "runs" / run), *found, "--output", str(output), "--top_k", "2"])
    return json.loads(output.read_text())


def as_row(prediction) -> dict:
    return {
        "file": prediction.file,
        "classes": list(prediction.classes),
        "probabilities": list(prediction.probabilities),
    }


def test_threads_get_the_vectors_that_one_gets(checkpoints):
    model, given = eyetoy.load(checkpoints / "runs" / "image"), files(checkpoints, "image")
    expected = {file: model.embed(file) for file in given}
    with ThreadPoolExecutor(4) as pool:
        tasks = [(file, pool.submit(model.embed, file), pool.submit(model.predict, file)) for file in given * 8]
        for file, vector, _ in tasks:
            np.testing.assert_allclose(vector.result(), expected[file], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("run", APPS)
def test_files_are_answered_as_by_the_command(run, checkpoints, tmp_path):
    expected = predicted(checkpoints, run, tmp_path / "predictions.json")
    model = eyetoy.load(checkpoints / "runs" / run)
    assert isinstance(model, ClassifierPredictor)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = model.predict([str(file) for file in files(checkpoints, run)], top_k=2)
    assert [as_row(answer) for answer in answers] == expected
    single = model.predict(files(checkpoints, run)[0], top_k=2)
    assert as_row(single)["classes"] == expected[0]["classes"]
    assert single.label == expected[0]["classes"][0]
    assert single.probability == pytest.approx(expected[0]["probabilities"][0], abs=1e-3)


def test_pictures_in_memory_are_answered_as_files(checkpoints):
    model, paths = eyetoy.load(str(checkpoints / "runs" / "image")), files(checkpoints, "image")
    expected = [answer.probabilities for answer in model.predict(paths)]
    arrays = [np.asarray(Image.open(path)) for path in paths]
    given = (arrays, tuple(arrays), np.stack(arrays), [Image.open(path) for path in paths])
    assert [[answer.probabilities for answer in model.predict(batch)] for batch in given] == [expected] * 4
    assert model.predict(arrays[0]).file == ""
    alpha = np.concatenate([arrays[0], np.full((*arrays[0].shape[:2], 1), 255, np.uint8)], 2)
    assert model.predict(alpha).probabilities == pytest.approx(expected[0], abs=2e-4)
    grey = model.predict(arrays[0][..., 0])
    assert grey.probabilities == model.predict(np.repeat(arrays[0][..., :1], 3, 2)).probabilities


@pytest.mark.parametrize("run", ["audio", "audio-image", "audio-masked"])
def test_sounds_in_memory_are_answered_as_files_at_any_rate(run, checkpoints):
    model, paths = eyetoy.load(checkpoints / "runs" / run), files(checkpoints, run)
    expected = [answer.probabilities for answer in model.predict(paths)]
    sounds = []
    for path in paths:
        with wave.open(str(path)) as file:
            assert file.getframerate() == 8000
            sounds.append(np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768)
    found = [answer.probabilities for answer in model.predict(sounds, rate=8000)]
    np.testing.assert_allclose(found, expected, atol=2e-4)
    stereo = [np.stack([sound * 1.5, sound * 0.5]).astype(np.float64) for sound in sounds]
    found = [answer.probabilities for answer in model.predict(stereo, rate=8000)]
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_clips_in_memory_are_answered_as_files(checkpoints):
    from eyetoy_train.media.video import decode, open_video

    model, paths = eyetoy.load(checkpoints / "runs" / "video"), files(checkpoints, "video")[:2]
    expected = [answer.probabilities for answer in model.predict(paths)]
    clips = []
    for path in paths:
        with open_video(path) as video:
            clips.append(decode(video, range(len(video.index)), "auto", None).movedim(1, -1).numpy())
    assert model.predict(clips[0]).probabilities == model.predict(clips[0], rate=7).probabilities
    for batch in (clips, np.stack(clips)):
        np.testing.assert_allclose([a.probabilities for a in model.predict(batch)], expected, atol=2e-4)


def test_a_rate_that_the_recipe_counts_in_must_be_given(checkpoints):
    opened = VIDEO.open(checkpoints / "runs" / "video", ["--data.frame_stride=1", "--data.frame_rate=2"])
    model, clip = ClassifierPredictor(opened), np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"data\.frame_rate is 2; give them as rate, such as rate=25"):
        model.predict(clip)
    # At 2 frames a second, four of them are every fifth frame of ten a second.
    again = ClassifierPredictor(VIDEO.open(checkpoints / "runs" / "video", ["--data.frame_stride=5"]))
    assert model.predict(clip, rate=10).probabilities == again.predict(clip).probabilities
    assert model.predict(clip, rate=20).probabilities != again.predict(clip).probabilities


BYTES, FLOATS = np.zeros((4, 5, 3), np.uint8), np.zeros(800, np.float32)
BAD = {
    "float pixels": (
        "image",
        BYTES.astype(np.float32),
        {},
        r"or \[height, width\]; got an array of float32 \[4, 5, 3\]",
    ),
    "channels first": ("image", BYTES.transpose(2, 0, 1), {}, r"got an array of uint8 \[3, 4, 5\]"),
    "a tensor": ("image", torch.zeros(3, 4, 5), {}, r"got a tensor: give its \.numpy\(\)"),
    "nothing": ("image", None, {}, "must be a file, an image of Pillow, or pixels, uint8 .*; got a NoneType"),
    "no pixel": ("image", BYTES[:0], {}, r"got an array of uint8 \[0, 5, 3\]"),
    "an empty batch": ("image", [], {}, "the batch is empty"),
    "a rate of a picture": ("image", BYTES, {"rate": 5}, "a picture has none; got 5"),
    "no rate": ("audio", FLOATS, {}, "give them as rate, such as rate=44100"),
    "half a rate": ("audio", FLOATS, {"rate": 0.5}, "rate must be a positive integer, .*; got 0.5"),
    "integers": ("audio", FLOATS.astype(np.int16), {"rate": 8000}, r"got an array of int16 \[800\]"),
    "samples first": (
        "audio",
        np.zeros((800, 2), np.float32),
        {"rate": 8000},
        r"with at most 32 channels; got .*\[800, 2\]",
    ),
    "not finite": ("audio", FLOATS + np.nan, {"rate": 8000}, "holds NaN or infinity"),
    "a picture as a clip": ("video", BYTES, {}, r"or a clip, uint8 \[time, height, width, 3\]; got .* \[4, 5, 3\]"),
    "a timeline of an array": ("audio", FLOATS, {"timeline": 1}, "timeline is for files of sounds and videos"),
    "a timeline of nothing": ("audio", "a.wav", {"timeline": 0}, "above 0 seconds; got 0"),
    "a rate of a file": ("audio", "a.wav", {"rate": 8000}, r"the file a\.wav tells its own"),
    "no class": ("image", BYTES, {"top_k": 0}, "top_k must be at least 1; got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_sample_is_refused_in_a_sentence(case, checkpoints):
    run, given, options, said = BAD[case]
    model = ClassifierPredictor(APPS[run].open(checkpoints / "runs" / run))
    with pytest.raises(ValueError, match=said):
        model.predict(given, **options)


def test_a_file_that_cannot_be_read_is_an_error(checkpoints, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"")
    model = eyetoy.load(checkpoints / "runs" / "image")
    with pytest.raises(UnreadableFileError, match=r"broken\.png"):
        model.predict(tmp_path / "broken.png")


def test_a_timeline_is_that_of_the_command(checkpoints, tmp_path):
    run, file = checkpoints / "runs" / "video", files(checkpoints, "video")[0]
    VIDEO.predict([str(run), str(file), "--timeline", "0.1", "--output", str(tmp_path / "parts.json")])
    parts = eyetoy.load(run).predict(file, timeline=0.1)
    expected = json.loads((tmp_path / "parts.json").read_text())
    assert [part | {"file": str(file)} for part in expected] == expected
    assert [{**as_row(part), **part.span} for part in parts] == expected


@pytest.mark.parametrize(("run", "kind"), [("detection", DetectionPredictor), ("segmentation", SegmentationPredictor)])
def test_detectors_and_segmenters_come_with_their_predictors(run, kind, checkpoints):
    model = eyetoy.load(checkpoints / "runs" / run, device="cpu")
    assert type(model) is kind
    picture = next((checkpoints / "composed").rglob("test/*.jpg"))
    assert model.predict(picture) is not None


def test_labels_and_preprocessing_travel_with_the_weights(checkpoints, tmp_path):
    for run, modality in (("image", "image"), ("audio-image", "audio"), ("video", "video"), ("detection", "image")):
        best = checkpoints / "runs" / run / "checkpoints" / "best"
        config = json.loads((best / "config.json").read_text())
        assert config["preprocessing"]["modality"] == modality
        first = int(run == "detection")  # label 0 is the background
        labels = json.loads((best / "labels.json").read_text())
        assert config["id2label"] == {str(i): name for i, name in enumerate(labels, first)}
    model = eyetoy.Classifier.from_pretrained(checkpoints / "runs" / "image")
    assert model.id2label == {0: "bright", 1: "dark"}
    assert model.preprocessing["size"] == [16, 16]
    model.save_pretrained(tmp_path / "again")
    again = eyetoy.Classifier.from_pretrained(tmp_path / "again")
    assert (again.id2label, again.preprocessing) == (model.id2label, model.preprocessing)
    assert eyetoy.Classifier.from_pretrained(tmp_path / "again", num_classes=3).id2label == {}
    again.reset_classifier(2)
    assert again.id2label == {}


UNPREPARED = {
    "image": lambda raw, x: (raw[None].float(), raw[None] / 255),
    "audio": lambda raw, x: (raw[None, :, : x.shape[-1]],),
    "audio-masked": lambda raw, x: (3 * x - 13,),  # logarithms of energies, of no mean 0 and variance 1
    "video": lambda raw, x: (raw.movedim(1, 0)[None].float(), raw.movedim(1, 0)[None] / 255),
}


@pytest.mark.parametrize("run", UNPREPARED)
def test_a_model_warns_of_what_was_not_prepared_and_of_nothing_else(run, checkpoints):
    app, file = APPS[run], files(checkpoints, run)[0]
    opened = app.open(checkpoints / "runs" / run)
    task, model = opened.task, eyetoy.Classifier.from_pretrained(opened.folder)
    raw = task.load_sample(file, training=False)
    example = task.example(raw, training=False)
    if task.num_views not in (1, None):  # None: as many windows as a sound has, and these have one
        example = {key: value[0] for key, value in example.items()}
    prepared = task.to_input({key: value[None] for key, value in example.items()})
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        model(*task.model_args(prepared))
        model(torch.zeros_like(prepared["input"]))
        model(torch.randn_like(prepared["input"]))
    for unprepared in UNPREPARED[run](raw, prepared["input"]):
        model = eyetoy.Classifier.from_pretrained(opened.folder)
        arguments = (unprepared, *task.model_args(prepared)[1:])
        with pytest.warns(UserWarning, match=r"so its answer is likely wrong; eyetoy\.load\(checkpoint\)\.predict"):
            model(*arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a second time says nothing new
            model(*arguments)


@pytest.mark.parametrize("run", ["image", "audio", "video"])
def test_an_empty_batch_is_no_raw_input(checkpoints, run):
    model = eyetoy.Classifier.from_pretrained(checkpoints / "runs" / run)
    assert model.preprocessing
    params = model.encoder.params
    with torch.inference_mode():
        logits = model(torch.zeros(0, params.in_channels, *[16] * params.num_spatial_dims))
    assert logits.shape == (0, model.num_classes)


def test_what_the_padding_of_sounds_holds_is_not_looked_at():
    model = eyetoy.Classifier(eyetoy.encoder_params("eyetoy1d_pico"), num_classes=2).eval()
    model.preprocessing = {"rms": 1.0}
    x = torch.randn(2, 1, 2000)
    x[0, :, 1000:] = torch.inf
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        model(x, torch.tensor([1000, 2000]))
    with pytest.warns(UserWarning, match="the input has a root mean square"), torch.inference_mode():
        model(9 * x, torch.tensor([1000, 2000]))


def test_pixels_as_they_are_are_refused(checkpoints):
    model = eyetoy.Classifier.from_pretrained(checkpoints / "runs" / "image")
    with pytest.raises(ValueError, match=r"got torch\.uint8; eyetoy\.load\(checkpoint\)\.predict takes pixels"):
        model(torch.zeros(1, 1, 16, 16, dtype=torch.uint8))


def test_the_look_at_values_leaves_no_trace_in_compiled_and_exported_models(checkpoints):
    model = eyetoy.Classifier.from_pretrained(checkpoints / "runs" / "image")
    x = torch.rand(2, *(model.encoder.params.in_channels, 16, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        program = torch.export.export(model, (x,))
        compiled = torch.compile(model, backend="eager", fullgraph=True)  # a look would break the graph
        torch.testing.assert_close(compiled(x), program.module()(x), rtol=1e-4, atol=1e-5)
    names = {str(node.target) for node in program.graph.nodes}
    assert names.isdisjoint({"aten.aminmax.default", "aten.item.default", "aten._local_scalar_dense.default"})
    assert model.warns_of_raw_input


def test_old_checkpoints_still_load(checkpoints, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(checkpoints / "runs" / "audio" / "checkpoints" / "best", folder)
    config = json.loads((folder / "config.json").read_text())
    del config["preprocessing"], config["id2label"]
    (folder / "config.json").write_text(json.dumps(config))
    file = files(checkpoints, "audio")[0]
    new, old = eyetoy.load(checkpoints / "runs" / "audio"), eyetoy.load(folder)
    assert old.predict(file).probabilities == new.predict(file).probabilities
    assert eyetoy.Classifier.from_pretrained(folder).preprocessing == {}


@pytest.mark.parametrize(
    "preprocessing",
    [{"mean": "x", "std": 1}, {"mean": [0.5, 0.5], "std": [1]}, {"mean": 0.5}, {"rms": 0}, {"std": 0}, 3],
)
def test_a_description_that_is_none_is_not_taken(preprocessing, checkpoints, tmp_path):
    folder = tmp_path / "odd"
    shutil.copytree(checkpoints / "runs" / "image" / "checkpoints" / "best", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"preprocessing": preprocessing, "id2label": {"0": "cat", "2": "dog"}}
    (folder / "config.json").write_text(json.dumps(config))
    model = eyetoy.Classifier.from_pretrained(folder)
    assert (model.id2label, model.preprocessing) == ({}, {})


def test_a_name_on_the_hub_is_fetched(checkpoints, monkeypatch):
    folder = checkpoints / "runs" / "image" / "checkpoints" / "best"
    monkeypatch.setattr(eyetoy_train.models.transfer, "snapshot_download", lambda name, **_: {"me/it": folder}[name])
    assert eyetoy.load("me/it").labels == ["bright", "dark"]


@pytest.mark.parametrize(("missing", "extra"), [("eyetoy_train", "image"), ("eyetoy_audio", "audio")])
def test_what_is_not_installed_is_named_with_the_extra(missing, extra, checkpoints, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(
        sys, "meta_path", [finder for finder in sys.meta_path if hasattr(finder, "_path_importer_cache")]
    )
    with pytest.raises(ModuleNotFoundError, match=rf'needs {missing}, .*: pip install "eyetoy\[{extra}\]"'):
        eyetoy.load(checkpoints / "runs" / "audio")


def test_there_must_be_a_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        eyetoy.load(tmp_path)


@pytest.mark.parametrize("run", APPS)
def test_the_vector_of_a_sample_is_what_the_head_sees(run, checkpoints):
    model, paths = eyetoy.load(checkpoints / "runs" / run), files(checkpoints, run)[:3]
    vectors = model.embed(paths, batch_size=2)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(model.embed(paths[1]), vectors[1], rtol=1e-4, atol=1e-5)
    if model.task.num_views in (1, None):  # a file of these has one window
        with torch.inference_mode():
            probabilities = model.model.head(vectors).softmax(-1)
        for answer, row in zip(model.predict(paths), probabilities, strict=True):
            assert answer.probability == pytest.approx(float(row.max()), abs=1e-4)
    else:
        examples = [model.task.example(model.task.load_sample(path, training=False), training=False) for path in paths]
        for vector, example in zip(vectors, examples, strict=True):
            views = model.task.to_input(example)
            with torch.inference_mode():
                contexts = model.model.encoder(*model.task.model_args(views)).context
            torch.testing.assert_close(vector, contexts.mean(0), rtol=1e-4, atol=1e-5)
