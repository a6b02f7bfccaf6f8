"""Sets in their true formats, small: torchvision's, Caltech-256's, ImageNet's, the hub's and WebDataset's."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import pickle  # noqa: TID251 (its own bytes)
import struct
import tarfile

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value, load_from_disk
from PIL import Image as PillowImage
from torchvision import datasets as torchvision_datasets

from eyetoy_image.classification import APP
from eyetoy_image.classification.datasets import torchvision_sets
from eyetoy_image.classification.datasets.caltech256 import read_caltech256
from eyetoy_image.classification.datasets.torchvision_sets import TorchvisionSet, unpack_fashion_mnist
from eyetoy_image.classification.datasets.webdataset import TarSet
from eyetoy_image.io.hub import read_stored_image
from eyetoy_train import SampleStream, UnreadableFileError, train


def task(source, root, **options):
    recipe = APP.recipe()
    recipe.data.source, recipe.data.root, recipe.data.image_size = source, str(root), 8
    for name, value in options.items():
        setattr(recipe.data, name, value)
    return APP.task(recipe)


def picture(shade, size=(9, 7), mode="RGB"):
    return PillowImage.new(mode, size, (shade,) * 3 if mode == "RGB" else shade)


def encoded(shade, kind="PNG"):
    file = io.BytesIO()
    picture(shade).save(file, kind)
    return file.getvalue()


def everything(dataset):
    samples = list(dataset) if isinstance(dataset, SampleStream) else [dataset[i] for i in range(len(dataset))]
    return sorted((int(sample["input"].float().mean()), int(sample["label"])) for sample in samples)


def open_training_set(found):
    found.prepare()
    return found.dataset("train")


@pytest.fixture
def debian(tmp_path):
    """Five training and four test pictures in idx files; picture i is filled with the shade i."""
    folder = tmp_path / "package"
    folder.mkdir()
    for prefix, count in (("train", 5), ("t10k", 4)):
        pixels = np.repeat(np.arange(count, dtype=np.uint8), 28 * 28)
        images = struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes()
        labels = struct.pack(">II", 2049, count) + bytes(9 - i for i in range(count))
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    return folder


def test_fashion_mnist_is_unpacked_from_debians_package_once(debian, tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision_sets, "NUM_VAL", 2)
    root = tmp_path / "data"
    unpack_fashion_mnist(root, debian)
    unpack_fashion_mnist(root, tmp_path / "nowhere")
    found = TorchvisionSet("FashionMNIST", root)
    assert found.classes[0] == "T-shirt/top"
    splits = {split: found.split(split) for split in ("train", "val", "test")}
    assert {split: len(samples) for split, samples in splits.items()} == {"train": 3, "val": 2, "test": 4}
    for samples in splits.values():
        for pixels, label in samples:
            assert pixels.shape == (1, 28, 28)
            assert label == 9 - int(pixels[0, 0, 0])
    shades = [int(pixels[0, 0, 0]) for split in ("train", "val") for pixels, _ in splits[split]]
    assert sorted(shades) == [0, 1, 2, 3, 4]


CIFAR = {
    "CIFAR10": ("cifar10", ["data_batch_1", "data_batch_2"], ["test_batch"], "batches.meta", "labels", "label_names"),
    "CIFAR100": ("cifar100", ["train"], ["test"], "meta", "fine_labels", "fine_label_names"),
}


@pytest.fixture(params=CIFAR)
def cifar(request, tmp_path, monkeypatch):
    """A small CIFAR in its own format, whose MD5 sums torchvision knows; picture i is filled with the shade i."""
    name = request.param
    source, train, test, meta, labels, names = CIFAR[name]
    loader = getattr(torchvision_datasets, name)
    folder = tmp_path / loader.base_folder
    folder.mkdir()
    sums = {}

    def write(file, content):
        (folder / file).write_bytes(pickle.dumps(content))
        sums[file] = hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest()

    for file in (*train, *test):
        pixels = np.repeat(np.arange(6, dtype=np.uint8)[:, None], 3072, axis=1)
        write(file, {"data": pixels, labels: [i % 3 for i in range(6)]})
    write(meta, {names: ["red", "green", "blue"]})
    monkeypatch.setattr(loader, "train_list", [[file, sums[file]] for file in train])
    monkeypatch.setattr(loader, "test_list", [[file, sums[file]] for file in test])
    monkeypatch.setattr(loader, "meta", {"filename": meta, "key": names, "md5": sums[meta]})
    monkeypatch.setattr(torchvision_sets, "NUM_VAL", 2)
    torchvision_sets._open.cache_clear()
    return source, tmp_path, folder / test[0], 6 * len(train)


def test_cifar_is_read(cifar):
    source, root, _, num_train = cifar
    found = task(source, root)
    found.prepare()
    assert list(found.classes) == ["red", "green", "blue"]
    splits = {split: everything(found.dataset(split)) for split in ("train", "val", "test")}
    assert {split: len(samples) for split, samples in splits.items()} == {"train": num_train - 2, "val": 2, "test": 6}
    assert all(label == shade % 3 for samples in splits.values() for shade, label in samples)
    assert found.dataset("train")[0]["input"].shape == (3, 8, 8)


def test_a_damaged_cifar_is_not_read(cifar):
    source, root, file, _ = cifar
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(FileNotFoundError, match=r"or damaged. This fetches it \(\d+ MB\)"):
        task(source, root).prepare()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("fashion_mnist", "from torchvision.datasets import FashionMNIST; FashionMNIST('nowhere', download=True)"),
        ("cifar10", "(171 MB)"),
        ("cifar100", "CIFAR100('nowhere', download=True)"),
        ("caltech256", "(1.2 GB)"),
        ("imagenet", "ILSVRC2012_img_train.tar (138 GB)"),
        ("webdataset", "nowhere should hold tar files for training and validation"),
        ("folder", "there is no folder nowhere"),
    ],
)
def test_missing_data_are_told_with_the_command_that_fetches_them(source, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torchvision_sets, "DEBIAN_FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        open_training_set(task(source, "nowhere"))
    assert said in str(error.value)


def write_pictures(folder, count, name="{index}.png", shade=0):
    folder.mkdir(parents=True)
    for index in range(1, count + 1):
        picture(shade).save(folder / name.format(index=index))


def test_caltech256_is_split_by_a_published_rule(tmp_path):
    folder = tmp_path / "caltech256" / "256_ObjectCategories"
    for number, name in ((1, "ak47"), (2, "american-flag"), (257, "clutter")):
        (folder / f"{number:03d}.{name}").mkdir(parents=True)
        for index in range(1, 91):
            (folder / f"{number:03d}.{name}" / f"{number:03d}_{index:04d}.jpg").write_bytes(encoded(number, "JPEG"))
    found = read_caltech256(tmp_path)
    assert found.classes == ("001.ak47", "002.american-flag")
    assert {split: len(samples) for split, samples in found.splits.items()} == {"train": 120, "val": 20, "test": 40}
    names = {split: {path for path, _ in samples} for split, samples in found.splits.items()}
    assert len(set.union(*names.values())) == 180
    # The 61st to 70th in the order of the sums that `printf 001.ak47/001_0001.jpg | sha256sum` and so on give.
    expected = {24, 26, 32, 44, 8, 19, 84, 76, 23, 51}
    assert {int(path.stem[-4:]) for path in names["val"] if path.parent.name == "001.ak47"} == expected
    assert task("caltech256", tmp_path).dataset("val")[0]["input"].shape == (3, 8, 8)


def test_imagenet_as_torchvision_unpacks_it(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for wnid in ("n01440764", "n01443537"):
            write_pictures(tmp_path / split / wnid, count, name="ILSVRC2012_{index}.JPEG")
    found = task("imagenet", tmp_path)
    found.prepare()
    assert list(found.classes) == ["n01440764", "n01443537"]
    assert [len(found.dataset(split)) for split in ("train", "val")] == [6, 4]
    assert found.dataset("test") is None


@pytest.fixture
def hub(tmp_path):
    """A set in Parquet files, as the hub keeps them; pictures of class y are filled with the shade 10 + y."""
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    for split, count in (("train", 20), ("test", 6)):
        labels = [i % 2 for i in range(count)]
        images = [{"bytes": encoded(10 + label), "path": None} for label in labels]
        rows = Dataset.from_dict({"image": images, "label": labels}, features=features)
        (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
        rows.to_parquet(tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet")
    return tmp_path / "set"


def test_a_set_of_the_hub(hub):
    found = task("hub", hub)
    found.prepare()
    assert list(found.classes) == ["cat", "dog"]
    assert [len(found.dataset(split)) for split in ("train", "val", "test")] == [18, 2, 6]
    for split in ("train", "val", "test"):
        assert all(shade == 10 + label for shade, label in everything(found.dataset(split)))


def test_patients_of_a_set_of_the_hub_are_in_one_split(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"]), "who": Value("int64")})
    columns = {
        "image": [{"bytes": encoded(10 + i % 2), "path": f"p{i // 4}_{i}.png"} for i in range(20)],
        "label": [i % 2 for i in range(20)],
        "who": [i // 4 for i in range(20)],
    }
    parquet = tmp_path / "train-00000-of-00001.parquet"
    Dataset.from_dict(columns, features=features).to_parquet(parquet)
    for options in ({"group_column": "who"}, {"group_pattern": "^p(.)_"}):
        found = task("hub", tmp_path, **options)
        found.prepare()
        parts = [found.dataset(split) for split in ("train", "val")]
        assert [len(part) for part in parts] == [16, 4]
        assert [len({source.group for source, _ in part.samples}) for part in parts] == [4, 1]
        assert all({source.group for source, _ in part.samples} <= set("01234") for part in parts)
    with pytest.raises(ValueError, match=r"\(train\) has no column 'whom', which data.group_column names; it has "):
        task("hub", tmp_path, group_column="whom").prepare()
    with pytest.raises(ValueError, match=r"^data.group_column is for sets that are not streamed"):
        task("hub", tmp_path, group_column="who", streaming=True).prepare()
    Dataset.from_dict(columns | {"who": [None, *range(19)]}, features=features).to_parquet(parquet)
    with pytest.raises(ValueError, match=r"^the column who of .*, is empty for 1 of 20 samples: row 0; every sample"):
        task("hub", tmp_path, group_column="who").prepare()
    nameless = [{"bytes": encoded(10), "path": None}] * 20
    Dataset.from_dict(columns | {"image": nameless}, features=features).to_parquet(parquet)
    with pytest.raises(ValueError, match=r"names of files, and 20 of 20 files of .* have none: row 0, row 1"):
        task("hub", tmp_path, group_pattern="(.)").prepare()


def test_a_folder_whose_table_names_the_classes(tmp_path):
    for split in ("train", "test"):
        lines = ["file_name,label"]
        for number in range(12):
            name, shade = ("cat", 10) if number % 2 else ("dog", 11)
            path = tmp_path / split / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            picture(shade).save(path)
            lines.append(f"{path.name},{name}")
        (tmp_path / split / "metadata.csv").write_text("\n".join(lines))
    found = task("hub", tmp_path, label_column="label")
    found.prepare()
    assert found.classes == ["cat", "dog"]
    for sample in found.dataset("test"):
        assert (sample["input"] == 10 + sample["label"]).all()


def test_damaged_pictures_of_a_set_of_the_hub_are_left_out(tmp_path, capsys):
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    for split in ("train", "validation"):
        images = [{"bytes": b"damaged" if i % 3 == 0 else encoded(10 + i % 2), "path": None} for i in range(9)]
        rows = Dataset.from_dict({"image": images, "label": [i % 2 for i in range(9)]}, features=features)
        rows.to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    found = task("hub", tmp_path, unreadable="skip")
    assert len(found.dataset("train")) == 6
    said = capsys.readouterr().out
    assert said.count("skipped 3 of 9 files, which cannot be read:") == 1
    found.dataset("train")
    assert "skipped" not in capsys.readouterr().out
    assert [f"cannot read picture {i} of " in said for i in range(9)] == [i % 3 == 0 for i in range(9)]
    with pytest.raises(UnreadableFileError, match="cannot read picture 0 of"):
        everything(task("hub", tmp_path).dataset("val"))


def labelled_shades(names, labels):
    """Rows whose pictures have the shade 10 for the class a, 11 for b and so on."""
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    images = [{"bytes": encoded(10 + "abc".index(label)), "path": None} for label in labels]
    return Dataset.from_dict({"image": images, "label": [names.index(label) for label in labels]}, features=features)


def saved_to_disk(root, val_names=("a", "b", "c")):
    train, val = labelled_shades(["a", "b", "c"], "abcabc"), labelled_shades(list(val_names), "bcbc")
    DatasetDict(train=train, validation=val).save_to_disk(root)
    return root


@pytest.mark.parametrize("streaming", [False, True])
def test_what_was_saved_to_disk_is_read_without_what_map_keeps_beside_it(tmp_path, streaming):
    root = saved_to_disk(tmp_path / "set")
    rows = load_from_disk(root)["train"]
    rows.map(lambda row: {"label": (row["label"] + 1) % 3}, load_from_cache_file=False)
    rows.filter(lambda row: row["label"] < 2, load_from_cache_file=False)
    assert len(list((root / "train").glob("*.arrow"))) == 3
    found = task("hub", root, streaming=streaming)
    found.prepare()
    if streaming:
        stream = found.evaluation_set("train")
        samples = [stream.decode(raw) for shard in range(stream.num_shards) for raw in stream.read(shard)]
    else:
        samples = everything(found.evaluation_set("train"))
    assert len(samples) == 6


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("names", [("b", "c"), ("c", "b", "a")])
def test_splits_that_number_their_classes_otherwise_have_the_classes_of_training(tmp_path, names, streaming):
    found = task("hub", saved_to_disk(tmp_path / "set", names), streaming=streaming)
    found.prepare()
    stream = found.dataset("val")
    if streaming:
        samples = [stream.decode(raw) for shard in range(stream.num_shards) for raw in stream.read(shard)]
    else:
        samples = [stream[place] for place in range(len(stream))]
    assert len(samples) == 4
    for sample in samples:
        assert (sample["input"] == 10 + sample["label"]).all()


def test_a_class_that_training_does_not_have_is_refused(tmp_path):
    train, val = labelled_shades(["a", "b"], "abab"), labelled_shades(["a", "c"], "acac")
    DatasetDict(train=train, validation=val).save_to_disk(tmp_path / "set")
    with pytest.raises(ValueError, match=r"the val split of .* has the classes c, and training has not"):
        task("hub", tmp_path / "set").dataset("val")


def test_labels_may_be_the_numbers_of_the_classes_of_training(tmp_path):
    numbered = labelled_shades(["a", "b", "c"], "cab").cast_column("label", Value("int64"))
    DatasetDict(train=labelled_shades(["a", "b", "c"], "abc"), validation=numbered).save_to_disk(tmp_path / "set")
    found = task("hub", tmp_path / "set")
    assert everything(found.dataset("val")) == [(10, 0), (11, 1), (12, 2)]
    with pytest.raises(ValueError, match=r"data.config and data.revision are for sets of the hub"):
        task("hub", tmp_path / "set", revision="main").prepare()


@pytest.mark.parametrize("nothing", [None, {"bytes": None, "path": None}])
def test_nothing_stored_is_named(nothing):
    with pytest.raises(UnreadableFileError, match="row 3 has no file"):
        read_stored_image(nothing, "row 3", grayscale=False)


def test_a_row_without_a_file_is_left_out_or_named(tmp_path):
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    images = [None if number == 3 else {"bytes": encoded(10), "path": None} for number in range(8)]
    for split in ("train", "validation"):
        rows = Dataset.from_dict({"image": images, "label": [number % 2 for number in range(8)]}, features=features)
        rows.to_parquet(tmp_path / f"{split}-00000-of-00001.parquet")
    assert len(task("hub", tmp_path, unreadable="skip").dataset("train")) == 7
    with pytest.raises(UnreadableFileError, match="picture 3 of .*has no file"):
        everything(task("hub", tmp_path).dataset("val"))


def test_a_set_of_the_hub_as_a_stream(hub):
    found = task("hub", hub, streaming=True, splits={"val": "test"})
    stream = found.dataset("val")
    samples = [stream.decode(raw) for shard in range(stream.num_shards) for raw in stream.read(shard)]
    assert sorted((int(s["input"].float().mean()), s["label"]) for s in samples) == [(10, 0)] * 3 + [(11, 1)] * 3
    with pytest.raises(ValueError, match=r"no validation split to stream; name one by data.splits.val"):
        task("hub", hub, streaming=True).prepare()
    assert task("hub", hub, splits={"val": "test"}).dataset("test") is None
    for splits in ({"val": "dev"}, {"validation": "test"}, {"train": ""}):
        with pytest.raises(ValueError, match="has the splits train, test"):
            task("hub", hub, splits=splits).prepare()
    assert task("hub", hub, splits={"test": ""}).dataset("test") is None


def test_a_test_split_with_secret_labels_is_left_out(hub):
    features = Features({"image": Image(), "label": ClassLabel(names=["cat", "dog"])})
    secret = {"image": [{"bytes": encoded(10), "path": None}], "label": [-1]}
    (parquet,) = (hub / "data").glob("test*")
    Dataset.from_dict(secret, features=features).to_parquet(parquet)
    assert task("hub", hub).dataset("test") is None


def test_a_stream_of_files_by_their_addresses(tmp_path):
    (tmp_path / "x.png").write_bytes(encoded(12))
    stored = {"bytes": None, "path": f"file://{tmp_path / 'x.png'}"}
    assert read_stored_image(stored, "x", grayscale=True).unique().tolist() == [12]
    assert read_stored_image(
        {"bytes": None, "path": str(tmp_path / "x.png")}, "x", grayscale=True
    ).unique().tolist() == [12]


def test_tar_files(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    for name in ("train-000.tar", "train-001.tar", "val-000.tar"):
        with tarfile.open(tmp_path / name, "w") as archive:
            for index in range(4):
                for extension, content in (("png", encoded(10 + index % 2)), ("cls", str(index % 2).encode())):
                    member = tarfile.TarInfo(f"{index:04d}.{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    found = task("webdataset", tmp_path)
    found.prepare()
    stream = found.dataset("train")
    samples = [stream.decode(raw) for shard in range(stream.num_shards) for raw in stream.read(shard)]
    assert len(samples) == 8
    assert all(torch.equal(s["input"], torch.full((3, 8, 8), 10 + s["label"], dtype=torch.uint8)) for s in samples)
    assert found.dataset("test") is None
    for name in ("medieval-train-002.tar", "latest_train.tar.gz", "train-000.tar.md5"):
        (tmp_path / name).touch()
    names = {split: [p.name for p in TarSet(tmp_path)._paths(split)] for split in ("train", "val", "test")}
    assert names["train"] == ["latest_train.tar.gz", "medieval-train-002.tar", "train-000.tar", "train-001.tar"]
    assert (names["val"], names["test"]) == (["val-000.tar"], [])
    (tmp_path / "classes.txt").write_text("cat\n")
    stream = task("webdataset", tmp_path).dataset("val")
    with pytest.raises(ValueError, match="0001 has class 1, but classes.txt names 1 classes"):
        [stream.decode(raw) for raw in stream.read(0)]


def test_a_classifier_learns_from_tar_files(tmp_path):
    shades = [20 + 200 * (index % 2) for index in range(8)]
    pairs = [((f"{n}.png", encoded(shade)), (f"{n}.cls", str(n % 2).encode())) for n, shade in enumerate(shades)]
    write_tars(tmp_path, *itertools.chain(*pairs), names=("train-0.tar", "train-1.tar", "val-0.tar"))
    recipe = APP.recipe()
    recipe.data.source, recipe.data.root, recipe.data.image_size = "webdataset", str(tmp_path), 8
    recipe.model.name, recipe.output_dir = "eyetoy2d_pico", str(tmp_path / "run")
    recipe.epochs, recipe.steps_per_epoch, recipe.batch_size, recipe.warmup_epochs = 2, 3, 8, 0
    results = train(APP.task(recipe), recipe)
    assert results["val"]["count"] == 8


def write_tars(root, *members, classes="cat\ndog\n", names=("train-0.tar", "val-0.tar")):
    """Write tar files with the same members: names with contents, or types with the name of what they link to."""
    (root / "classes.txt").write_text(classes)
    for name in names:
        with tarfile.open(root / name, "w") as archive:
            for path, content in members:
                member = tarfile.TarInfo(path)
                if isinstance(content, tuple):
                    member.type, member.linkname = content
                    content = b""
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return root


PAIR = (("0.png", b"x"), ("0.cls", b"1"))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ((*PAIR, ("1.jpg", (tarfile.LNKTYPE, "0.png")), ("1.cls", (tarfile.LNKTYPE, "0.cls"))), "1.jpg is a link or"),
        ((*PAIR, ("1.jpg", (tarfile.SYMTYPE, "0.png"))), "1.jpg is a link or a device; write the tar file with"),
        ((*PAIR, ("0.PNG", b"y")), "0 has two files with the extension 'png'"),
        ((*PAIR, ("0.jpg", b"y")), "0 should hold one picture .* it has __key__, png, cls, jpg"),
        ((("0.cls", b"1"),), "0 should hold one picture"),
        ((("0.png", b"x"), ("0.cls", b"1_0")), "0 should come with a .cls file that holds a whole number"),
        ((("0.png", b"x"), ("1.cls", b"1")), "0 should come with a .cls file that holds a whole number"),
    ],
)
def test_members_of_a_tar_file_that_would_be_lost_are_refused(tmp_path, members, said):
    stream = TarSet(write_tars(tmp_path, *members)).split("train")
    with pytest.raises(ValueError, match=said):
        [stream.decode(raw) for raw in stream.read(0)]


def test_hidden_members_and_folders_of_a_tar_file_are_no_samples(tmp_path):
    hidden = [("._0.png", b"x"), ("deep", (tarfile.DIRTYPE, "")), ("__MACOSX/1.png", b"x")]
    stream = TarSet(write_tars(tmp_path, *hidden, *PAIR)).split("train")
    assert [stream.decode(raw)["label"] for raw in stream.read(0)] == [1]


def test_a_tar_file_of_two_held_out_splits_is_refused(tmp_path):
    with pytest.raises(ValueError, match="val-test-0.tar has the names of two splits"):
        TarSet(write_tars(tmp_path, *PAIR, names=("train-0.tar", "val-test-0.tar"))).prepare()


@pytest.mark.parametrize(
    ("classes", "read"), [("cat\ndog\n\n", ["cat", "dog"]), ("\ufeffcat\n", ["cat"]), ("a\n\nb\n", None), ("", None)]
)
def test_empty_lines_in_the_list_of_classes(tmp_path, classes, read):
    found = TarSet(write_tars(tmp_path, *PAIR, classes=classes))
    if read is None:
        with pytest.raises(ValueError, match=r"classes.txt should name the classes, one in each line.* empty"):
            found.prepare()
    else:
        assert found.classes == read


def test_a_run_says_what_it_read_of_tar_files_and_of_sets_of_the_hub(tmp_path, hub, capsys):
    root = tmp_path / "tars"
    root.mkdir()
    for name in ("holdout-0.tar", ".hidden"):
        (root / name).touch()
    (root / "deep").mkdir()
    task("webdataset", write_tars(root, *PAIR, names=("train-0.tar", "Train-1.tar", "val-0.tar"))).prepare()
    task("hub", hub).prepare()
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("data: ")] == [
        "data: 2 classes; samples: train a stream of 2 parts, val a stream of 1 parts; left out: "
        "1 files that are no split's tar file, 1 folders (deep), 1 hidden or system files",
        "data: 2 classes; samples: train 18 (train), val 2 (held out), test 6 (test)",
        "data: samples of each class, train / val / test: cat 9 / 1 / 3; dog 9 / 1 / 3",
    ]
