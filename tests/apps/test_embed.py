"""embed.py: a vector for each file of a folder, its neighbours, and scores of labelled folders."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import eyetoy
from eyetoy_audio.app import APP as AUDIO
from eyetoy_image.app import APP as IMAGE
from eyetoy_train.embedding import neighbours, scores, vectors
from eyetoy_video.app import APP as VIDEO
from helpers.commands import write_pictures

APPS = {"image": (IMAGE, "pictures"), "audio-masked": (AUDIO, "sounds"), "video": (VIDEO, "videos")}


def report_of(capsys) -> dict:
    out = capsys.readouterr().out
    return json.loads(out[out.index("{") :])


def rows_of(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("run", APPS)
def test_a_row_is_the_vector_of_a_file_with_its_class_and_split(run, checkpoints, tmp_path, capsys):
    (app, data), output = APPS[run], tmp_path / "vectors.parquet"
    app.embed([str(checkpoints / "runs" / run), str(checkpoints / data), "--output", str(output), "--batch_size", "4"])
    report = report_of(capsys)
    table = pq.read_table(output).to_pylist()
    files = sorted(path for path in (checkpoints / data).rglob("*") if path.suffix in (".png", ".wav", ".mp4"))
    assert [row["file"] for row in table] == [path.relative_to(checkpoints / data).as_posix() for path in files]
    assert [row["label"] for row in table] == [path.parent.name for path in files]
    if run == "video":
        assert [row["split"] for row in table] == [path.parts[-3] for path in files]
        assert report["knn"]["protocol"] == "neighbours among 8 files of train, scored on 8 files of test"
    else:
        assert {row["split"] for row in table} == {"train", "val", "test"}, "what training would hold out"
        assert report["knn"]["protocol"] == "leave one out of 6 files"
    assert (report["files"], report["skipped"], report["channels"]) == (len(files), 0, len(table[0]["vector"]))
    expected = eyetoy.load(checkpoints / "runs" / run).embed(files)
    np.testing.assert_allclose([row["vector"] for row in table], expected, rtol=1e-4, atol=1e-5)


def test_numpy_reads_the_other_format_and_names_stand_beside_it(checkpoints, tmp_path, capsys):
    run, data = str(checkpoints / "runs" / "image"), str(checkpoints / "pictures")
    IMAGE.embed([run, data, "--output", str(tmp_path / "a.npy"), "--neighbours", "2", "--batch_size", "4"])
    report = report_of(capsys)
    IMAGE.embed([run, data, "--output", str(tmp_path / "b.parquet")])
    found, table = np.load(tmp_path / "a.npy"), pq.read_table(tmp_path / "b.parquet").to_pylist()  # noqa: TID251
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [row.pop("vector") for row in table], rtol=1e-4, atol=1e-5)
    assert rows_of(tmp_path / "a.csv") == table
    assert report["output"] == [str(tmp_path / name) for name in ("a.npy", "a.csv", "a.neighbours.csv")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.neighbours.csv", "a.npy", "b.parquet"]
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    near = rows_of(tmp_path / "a.neighbours.csv")
    assert [row["file"] for row in near] == [row["file"] for row in table for _ in range(2)]
    assert [row["rank"] for row in near] == ["1", "2"] * 6
    places = {row["file"]: place for place, row in enumerate(table)}
    best = np.sort(similarity, 1)[:, ::-1][:, :2].ravel()
    for row, expected in zip(near, best, strict=True):
        assert float(row["similarity"]) == pytest.approx(expected, abs=2e-6)
        assert similarity[places[row["file"]], places[row["neighbour"]]] == pytest.approx(expected, abs=2e-6)


def test_a_folder_without_classes_has_neither_labels_nor_scores(checkpoints, tmp_path, capsys):
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, path in enumerate(sorted((checkpoints / "pictures").rglob("*.png"))):
        shutil.copy(path, flat / f"{number}.png")
    (flat / "broken.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as stop:
        IMAGE.embed([str(checkpoints / "runs" / "image"), str(flat), "--output", str(tmp_path / "v.parquet")])
    assert stop.value.code == 1
    out, error = capsys.readouterr()
    assert "skipped: cannot read" in error
    report = json.loads(out)
    assert (report["files"], report["skipped"]) == (6, 1)
    assert report.keys() == {"checkpoint", "files", "skipped", "channels", "output"}
    table = pq.read_table(tmp_path / "v.parquet").to_pylist()
    assert [(row["file"], row["label"], row["split"]) for row in table] == [(f"{i}.png", None, None) for i in range(6)]


def test_folders_that_are_no_classes_are_embedded_without_labels_and_it_is_said(checkpoints, tmp_path, capsys):
    write_pictures(tmp_path / "odd", count=1)  # too few to hold any out
    IMAGE.embed([str(checkpoints / "runs" / "image"), str(tmp_path / "odd"), "--output", str(tmp_path / "v.npy")])
    out, error = capsys.readouterr()
    assert "the vectors have no labels, and no score: no class has enough files" in error
    assert "knn" not in json.loads(out)


def test_the_splits_of_a_run_on_the_folder_are_those_of_its_groups_and_fold(checkpoints, tmp_path, capsys):
    for name in ("dark", "bright"):
        for number, path in enumerate(sorted((checkpoints / "pictures" / name).glob("*.png")) * 4):
            (tmp_path / "grouped" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "grouped" / name / f"s{number % 4}_{number}.png")
    shutil.copytree(checkpoints / "runs" / "image", tmp_path / "run")
    recipe = tmp_path / "run" / "checkpoints" / "best" / "recipe.yaml"
    changed = yaml.safe_load(recipe.read_text())
    changed["data"] |= {"root": str(tmp_path / "grouped"), "group_pattern": "^(s[0-9])_", "folds": 4, "fold": 3}
    recipe.write_text(yaml.safe_dump(changed))
    IMAGE.embed([str(tmp_path / "run"), str(tmp_path / "grouped"), "--output", str(tmp_path / "v.npy")])
    capsys.readouterr()
    task = IMAGE.open(tmp_path / "run").task
    expected = {path: split for split in ("train", "val", "test") for path, _ in task.source.split(split)}
    rows = rows_of(tmp_path / "v.csv")
    assert {row["file"]: row["split"] for row in rows} == {
        path.relative_to(tmp_path / "grouped").as_posix(): split for path, split in expected.items()
    }
    split_of = {row["file"].partition("/")[2][:2]: row["split"] for row in rows}
    assert len(split_of) == 4
    assert all(row["split"] == split_of[row["file"].partition("/")[2][:2]] for row in rows), "whole groups"


def test_a_table_that_no_embedding_wrote_is_not_overwritten(checkpoints, tmp_path, capsys):
    (tmp_path / "all.csv").write_text("file,labels\n")
    with pytest.raises(SystemExit, match="2"):
        IMAGE.embed([str(checkpoints / "runs" / "image"), str(checkpoints / "pictures"), "--output",
                     str(tmp_path / "all.npy")])  # fmt: skip
    assert f"--output would overwrite {tmp_path / 'all.csv'}" in capsys.readouterr().err
    assert (tmp_path / "all.csv").read_text() == "file,labels\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output", "v.csv"], "--output must end in .parquet or .npy; got v.csv"),
        (["--output", "v.npy", "--neighbours", "0"], "--neighbours must be at least 1; got 0"),
        (["--output", "v.npy", "--knn", "0"], "--knn must be at least 1; got 0"),
        (["--output", "v.npy", "--batch_size", "0"], "--batch_size must be at least 1; got 0"),
        (["--output", "v.npy", "--epochs", "3"], "--epochs is used by training alone; leave it out"),
    ],
)
def test_wrong_options_are_refused(arguments, said, checkpoints, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        IMAGE.embed([str(checkpoints / "runs" / "image"), str(checkpoints / "pictures"), *arguments])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_vector_and_no_folder_is_refused(checkpoints, tmp_path, refused):
    output = ("--output", tmp_path / "v.npy")
    pictures, runs = checkpoints / "pictures", checkpoints / "runs"
    assert "embed takes the checkpoint of a classifier" in refused(
        tmp_path, "apps/image/embed.py", runs / "detection", pictures, *output
    )
    file = pictures / "dark" / "0.png"
    assert "is no folder; embed takes a folder of files" in refused(
        tmp_path, "apps/image/embed.py", runs / "image", file, *output
    )
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.wav").write_bytes(b"")
    said = refused(tmp_path, "apps/audio/embed.py", runs / "audio", tmp_path / "bad", *output)
    assert "none of the 1 files" in said
    assert not (tmp_path / "v.npy").exists()


NUM, CHANNELS, CLASSES = 300, 8, 3


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """Vectors of three overlapping classes in a file that is read in small chunks, their rows, labels and splits."""
    monkeypatch.setattr(neighbours, "ASKING", 64)
    monkeypatch.setattr(neighbours, "ASKED", 70)
    monkeypatch.setattr(scores, "CHUNK", 45)
    generator = np.random.default_rng(0)
    labels = generator.integers(CLASSES, size=NUM)
    x = (generator.normal(size=(NUM, CHANNELS)) + 1.2 * np.eye(CLASSES, CHANNELS)[labels]).astype(np.float32)
    splits = np.where(np.arange(NUM) % 3 == 0, "test", "train")
    file = vectors.VectorFile(tmp_path / "x.npy")
    for part in np.array_split(x, 7):
        file.append(part)
    rows = [vectors.Row(str(i), f"class {labels[i]}", splits[i]) for i in range(NUM)]
    return file, x, rows, labels, splits == "train"


def test_the_votes_of_neighbours_are_those_of_scikit_learn(labelled):
    file, x, rows, labels, learned = labelled
    for k in (1, 5):
        found = scores.scores(file, rows, k, has_splits=True)["knn"]["accuracy"]
        model = KNeighborsClassifier(k, metric="cosine").fit(x[learned], labels[learned])
        near = model.predict_proba(x[~learned])
        expected, tied = near.argmax(1) == labels[~learned], (near == near.max(1, keepdims=True)).sum(1) > 1
        assert expected[~tied].sum() <= round(found * len(near)) <= expected[~tied].sum() + tied.sum()
        assert 0.5 < found < 0.95
    alone = scores.scores(file, rows, 1, has_splits=False)["knn"]["accuracy"]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = unit @ unit.T - 2 * np.eye(NUM)
    assert alone == (labels[similarity.argmax(1)] == labels).mean()


def test_the_probe_is_that_of_scikit_learn_and_learns_from_a_bounded_number(labelled, monkeypatch):
    file, x, rows, labels, learned = labelled
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x[learned], labels[learned])
    found = scores.scores(file, rows, 1, has_splits=True)["linear_probe"]
    assert found["accuracy"] == probe.score(x[~learned], labels[~learned])
    assert found["protocol"] == "learned from 200 files, scored on 100 files of test"
    monkeypatch.setattr(scores, "MOST_PROBED", 50)
    assert scores.scores(file, rows, 1, has_splits=True)["linear_probe"]["protocol"].startswith("learned from 50 files")


def test_neighbours_are_the_same_in_chunks_of_any_size(labelled, monkeypatch):
    file, x, *_ = labelled
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = unit @ unit.T - 2 * np.eye(NUM)
    expected = np.argsort(-similarity, 1, kind="stable")[:, :4]
    everywhere = np.ones(NUM, bool)
    for asking, asked in ((64, 70), (1, 2), (1000, 3), (7, 1000)):
        monkeypatch.setattr(neighbours, "ASKING", asking)
        monkeypatch.setattr(neighbours, "ASKED", asked)
        chunks = list(neighbours.nearest(file, 4, asking=everywhere, asked=everywhere))
        assert np.concatenate([chunk.asking for chunk in chunks]).tolist() == list(range(NUM))
        assert (np.concatenate([chunk.places for chunk in chunks]) == expected).all()
    assert list(neighbours.nearest(file, 4, asking=everywhere, asked=~everywhere)) == []


def test_one_class_has_no_score(labelled):
    file, _, rows, *_ = labelled
    assert scores.scores(file, [row._replace(label="a") for row in rows], 5, has_splits=True) == {}


def test_an_interrupted_output_leaves_nothing(tmp_path):
    def interrupted() -> None:
        with vectors.written(tmp_path / "v.parquet") as output:
            output.append([vectors.Row("a")], np.zeros((1, 3), np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    with vectors.written(tmp_path / "v.parquet") as output:
        output.append([vectors.Row("caf\udce9.png")], np.zeros((1, 3), np.float32))
    assert pq.read_table(tmp_path / "v.parquet").to_pylist()[0]["file"] == "caf\\udce9.png"
