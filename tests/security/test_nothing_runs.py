"""Nothing in a file runs: checkpoints, recipes, data sets and pictures with a real payload are refused."""

from __future__ import annotations

import io
import json
import os
import pickle  # noqa: TID251 (payloads)
import shutil
import subprocess
import sys
import tarfile
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import datasets as torchvision_datasets

from eyetoy import Classifier, create_model
from eyetoy_image.classification import APP
from eyetoy_image.classification.datasets import torchvision_sets
from eyetoy_image.dense.pyramids import build_pyramid
from eyetoy_image.io.files import UnreadableImageError, read_image
from eyetoy_train import CheckpointError, ClassificationRecipe, ModelRecipe, TarStream, parse_recipe
from eyetoy_train.data.hub import HubSet, stored_content
from eyetoy_train.models.build import build_classifier, find_checkpoint, load_classifier
from helpers.paths import REPOSITORY

PICKLES = ("pytorch_model.bin", "model.pt", "model.pth", "model.pkl", "checkpoint.ckpt", "model.safetensors")


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_in_a_checkpoint_is_not_loaded_whatever_its_name(payload, tmp_path, name):
    create_model("eyetoy2d_pico", num_classes=3).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save({"weight": payload}, tmp_path / name)
    with pytest.raises((CheckpointError, FileNotFoundError)):
        load_classifier(find_checkpoint(tmp_path))
    with pytest.raises(Exception, match=r"(?i)safetensors|header"):
        Classifier.from_pretrained(str(tmp_path))


def test_the_payload_does_run_where_pickles_are_loaded(tmp_path):
    """Otherwise the other tests would show nothing."""
    mark = tmp_path / "mark"
    from_conftest = type("Payload", (), {"__reduce__": lambda self: (os.mkdir, (str(mark),))})
    sys.modules[__name__].Payload = from_conftest
    torch.save(from_conftest(), tmp_path / "x.pt")
    torch.load(tmp_path / "x.pt", weights_only=False)  # noqa: TID251 (its own bytes)
    assert mark.is_dir()


@pytest.mark.parametrize("build", ["classifier", "checkpoint", "pyramid"])
def test_timm_is_not_told_to_load_a_file(payload, tmp_path, build):
    """Versions of timm before 1.0.20 or so unpickle what `checkpoint_path` names."""
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": payload}, path)
    options, model = {"checkpoint_path": str(path)}, tmp_path / "model"
    if build == "checkpoint":
        build_classifier(ModelRecipe(name="timm/test_vit"), num_classes=2).save_pretrained(model)
        config = json.loads((model / "config.json").read_text())
        config["arguments"] |= options
        (model / "config.json").write_text(json.dumps(config))
    builds = {
        "classifier": lambda: build_classifier(ModelRecipe(name="timm/test_vit", options=options), num_classes=2),
        "pyramid": lambda: build_pyramid(ModelRecipe(name="timm/test_convnext", options=options), None),
        "checkpoint": lambda: load_classifier(model),
    }
    with pytest.raises((ValueError, CheckpointError), match="must not have checkpoint_path"):
        builds[build]()


@pytest.mark.parametrize("option", ["pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_timm_is_not_told_to_fetch_weights(option):
    with pytest.raises(ValueError, match=f"must not have {option}"):
        build_classifier(ModelRecipe(name="timm/test_vit", options={option: "x"}), num_classes=2)


@pytest.mark.parametrize(
    "name",
    [
        "timm/hf-hub:someone/model",
        "timm/local-dir:/tmp/model",
        "timm/../model",
        "os/system",
        "torch.hub/load",
        "eyetoy2d_pico; touch it_ran",
        "__import__('os').mkdir('it_ran')",
        "../../etc/passwd",
    ],
)
def test_a_model_name_means_a_known_model_or_nothing(name, payload, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="named|family|known|no model"):
        build_classifier(ModelRecipe(name=name), num_classes=2)


RECIPES = [
    "name: !!python/object/apply:os.mkdir [it_ran]",
    "name: !!python/object/new:os.mkdir [it_ran]",
    "name: !!python/object/apply:subprocess.check_call [[mkdir, it_ran]]",
    "name: !!python/name:os.mkdir",
    "name: !!python/module:os",
    "model:\n  class_path: subprocess.Popen\n  init_args: {args: [mkdir, it_ran]}",
    "data:\n  class_path: subprocess.Popen\n  init_args: {args: [mkdir, it_ran]}",
    "class_path: subprocess.Popen\ninit_args: {args: [mkdir, it_ran]}",
    "ema: {class_path: os.mkdir, init_args: {path: it_ran}}",
]


@pytest.mark.parametrize("text", RECIPES)
def test_a_recipe_builds_recipes_alone(text, payload, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text + "\n")
    for app in (APP.recipe, ClassificationRecipe):
        with pytest.raises(SystemExit) as stop:
            parse_recipe(app, recipe, [])
        assert stop.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("path", ["os.mkdir", "harmless.mkdir"])
def test_options_of_a_model_stay_plain_data(payload, tmp_path, monkeypatch, path):
    """By default jsonargparse builds what looks like a class, anywhere in a value of any type."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "harmless.py").write_text("from os import mkdir\nmkdir('it_ran')\n")
    options = {"x": {"class_path": path, "init_args": {"path": "it_ran"}}}
    (tmp_path / "recipe.yaml").write_text(f"model: {{options: {json.dumps(options)}}}\n")
    recipe = parse_recipe(ClassificationRecipe, tmp_path / "recipe.yaml", [])
    with pytest.raises(ValueError, match="do not fit"):
        build_classifier(recipe.model, num_classes=2)


LAUGHS = "model:\n  options:\n    a0: &a0 [x, x]\n" + "".join(
    f"    a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LAUGHS, "must not repeat parts of itself"),
        ("model:\n  options: &a\n    b: *a\n", "must not repeat parts of itself"),
        ("model: {options: " + "[" * 5000 + "]" * 5000 + "}\n", "nested 64 levels"),
        ("{a: " * 5000 + "1" + "}" * 5000, "nested 64 levels"),
        ("name: " + "x" * 2**21, "at most 1,048,576 characters"),
    ],
    ids=["laughs", "itself", "lists", "dicts", "long"],
)
def test_a_recipe_that_would_grow_without_end_is_refused_at_once(text, message, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        parse_recipe(ClassificationRecipe, tmp_path / "recipe.yaml", [])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_cifar_is_a_pickle_and_read_only_if_it_is_the_known_one(payload, tmp_path):
    folder = tmp_path / torchvision_datasets.CIFAR10.base_folder
    folder.mkdir()
    for name in (*(name for name, _ in torchvision_datasets.CIFAR10.train_list), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(payload))
    with pytest.raises(FileNotFoundError, match="not in .*, or damaged"):
        torchvision_sets.TorchvisionSet("CIFAR10", tmp_path).prepare()


def test_a_data_set_script_is_refused(payload, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "birds"
    folder.mkdir()
    (folder / "birds.py").write_text(f"import os\nos.mkdir({str(payload.mark)!r})\n")
    with pytest.raises((ValueError, OSError, RuntimeError)):
        HubSet(str(folder), "Image").prepare()


@pytest.mark.parametrize("name", ["pandas", "folder"])
def test_a_set_of_pickles_is_refused(payload, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "train.pkl", tmp_path / "folder" / "train.pkl", tmp_path / "folder" / "train.pickle"):
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises((ValueError, OSError, RuntimeError)):
        HubSet(name if name == "pandas" else str(tmp_path / "folder"), "Image").prepare()


@pytest.mark.parametrize("address", ["ssh://host/a.png", "reference://a.png", "zip://a.png::sftp://host/b.zip"])
def test_a_set_names_files_by_known_protocols_alone(address):
    with pytest.raises(ValueError, match="files are read from"):
        stored_content({"bytes": None, "path": address}, "x")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_postscript_is_no_picture_whatever_its_name(payload, tmp_path, monkeypatch, suffix):
    """Pillow gives it to Ghostscript, a program, which it looks for on the path."""
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nmkdir {payload.mark}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    picture = tmp_path / f"picture{suffix}"
    picture.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    for source in (picture, io.BytesIO(picture.read_bytes())):
        with pytest.raises(UnreadableImageError, match="cannot identify image file"):
            read_image(source, grayscale=False)


def test_a_class_name_is_text_in_the_report(tmp_path):
    """A page that is opened in a browser runs what is in it."""
    name = "<script>alert(1)</script>"
    for label in (name.replace("/", "\u2215"), "b"):
        for split in ("train", "val"):
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for index in range(4):
                Image.new("RGB", (32, 32), (index, 0, 0)).save(tmp_path / "data" / split / label / f"{index}.png")
    options = ["--data.source", "folder", "--data.root", str(tmp_path / "data"), "--data.image_size", "32"]
    options += ["--model.name", "eyetoy2d_pico", "--epochs", "1", "--batch_size", "4", "--trackers", "[]"]
    options += ["--output_dir", str(tmp_path / "run"), "--name", name, "--warmup_epochs", "0"]
    APP.train(options)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script" in page


@pytest.mark.parametrize(
    "member", ["../outside.jpg", "/absolute.jpg", "a/../../outside.jpg", "link.jpg", "hard.jpg", "device.jpg"]
)
def test_an_archive_writes_nothing(tmp_path, member):
    """Streams read tar files without unpacking them: no name of a member is a place on disk."""
    path = tmp_path / "inner" / "train-0.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(member)
        kinds = {"link.jpg": tarfile.SYMTYPE, "hard.jpg": tarfile.LNKTYPE, "device.jpg": tarfile.CHRTYPE}
        info.type, info.linkname, info.size = kinds.get(member, tarfile.REGTYPE), "/etc/passwd", 4
        archive.addfile(info, io.BytesIO(b"data") if member not in kinds else None)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="is a link or a device") if member in kinds else nullcontext():
        assert [sample["jpg"] for sample in TarStream([path], lambda raw: raw).read(0)] == [b"data"]
    assert sorted(tmp_path.rglob("*")) == before


FORBIDDEN = {
    "torch.load": "import torch\ntorch.load('x')\n",
    "torch.load, safe": "import torch\ntorch.load('x', weights_only=True)\n",
    "torch.load by its name": "from torch import load\nload('x')\n",
    "torch.hub": "import torch\ntorch.hub.load('a', 'b')\n",
    "torch.jit.load": "import torch\ntorch.jit.load('x')\n",
    "yaml.load": "import yaml\nyaml.load('x', Loader=yaml.Loader)\n",
    "yaml.unsafe_load": "import yaml\nyaml.unsafe_load('x')\n",
    "yaml.full_load": "import yaml\nyaml.full_load('x')\n",
    "pickle": "import pickle\n",
    "pickle.loads": "from pickle import loads\n",
    "joblib": "import joblib\n",
    "numpy.load": "import numpy as np\nnp.load('x', allow_pickle=True)\n",
    "marshal": "import marshal\nmarshal.loads(b'')\n",
    "eval": "eval('1')\n",
    "exec": "exec('1')\n",
    "shell": "import subprocess\nsubprocess.run('ls', shell=True)\n",
    "extractall": "import tarfile\ntarfile.open('a').extractall('b')\n",
    "unpack_archive": "import shutil\nshutil.unpack_archive('a')\n",
    "zipfile": "import zipfile\n",
}


@pytest.mark.parametrize("what", FORBIDDEN)
@pytest.mark.parametrize("place", ["packages/eyetoy/x.py", "apps/image/src/eyetoy_image/x.py", "benchmarks/x.py"])
def test_the_linter_forbids_what_could_run_a_file(what, place):
    ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
    root = REPOSITORY
    command = [ruff, "check", "--no-cache", "--stdin-filename", str(root / place), "-"]
    found = subprocess.run(command, input=FORBIDDEN[what], capture_output=True, text=True, cwd=root, check=False)
    assert any(rule in found.stdout for rule in ("S1", "S2", "S3", "S5", "S6", "TID251")), found.stdout + found.stderr
