"""Streams: every sample once over all ranks, the same micro batches from any one on, tar files and sets of a hub."""

from __future__ import annotations

import io
import json
import multiprocessing
import tarfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from eyetoy_train import HubStream, SampleStream, TarStream, UnreadableFileError, evaluate, train
from eyetoy_train.checkpoint.train_state import TrainState
from eyetoy_train.data.loading import Loading, training_data
from eyetoy_train.data.source import DecodedStream
from eyetoy_train.data.streaming import EvaluationStream, samples_of_rank
from eyetoy_train.engine.data_record import data_changes, data_record


class Numbers(SampleStream):
    """Shards of the given sizes; sample 1007 is the eighth of the second shard."""

    shuffle_buffer = 5

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes
        self.decoded = 0

    @property
    def num_shards(self):
        return len(self.sizes)

    def read(self, shard):
        return iter(range(1000 * shard, 1000 * shard + self.sizes[shard]))

    def decode(self, raw):
        self.decoded += 1
        return {"number": raw, "noise": torch.rand(())}

    @property
    def everything(self):
        return [number for shard in range(self.num_shards) for number in self.read(shard)]


sizes = st.lists(st.integers(0, 9), min_size=1, max_size=7)


@given(sizes=sizes, ranks=st.integers(1, 6), seed=st.integers(0, 9))
def test_ranks_share_a_stream_without_gaps_or_doubles(sizes, ranks, seed):
    stream = Numbers(*sizes)
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(seed)).tolist()
    taken = [raw for rank in range(ranks) for _, raw in samples_of_rank(stream, order, rank, ranks)]
    assert Counter(taken) == Counter(stream.everything)


class FailsOnce(Numbers):
    """As a disk that comes back."""

    def decode(self, raw):
        if raw == 2 and self.decoded < 4:
            self.decoded = 4
            raise OSError("the disk is away")
        return super().decode(raw)


def test_after_an_error_a_stream_goes_on_where_it_was():
    data = training_data(FailsOnce(6), Loading(batch_size=2, seed=0))
    seen = []
    with pytest.raises(OSError, match="the disk is away"):
        seen.extend(data.micro_batches(0, skip=0, count=3))
    seen.extend(data.micro_batches(0, skip=len(seen), count=3 - len(seen)))
    assert sorted(number for batch in seen for number in batch["number"].tolist()) == [0, 1, 2, 3, 4, 5]
    data.close()


def numbers(batches):
    return [batch["number"].tolist() for batch in batches]


def resumed(stream, loading, stopped):
    """Return training data that go on from a checkpoint of others, written as JSON."""
    values = json.loads(json.dumps(TrainState(stream=stopped).to_json()))
    data = training_data(stream, loading)
    data.resume(TrainState.from_json(values).stream)
    return data


@settings(max_examples=25)
@given(
    sizes=st.lists(st.integers(3, 9), min_size=1, max_size=5),
    processes=st.integers(1, 3),
    share=st.integers(1, 3),
    stop=st.integers(0, 24),
)
def test_a_stream_goes_on_after_any_micro_batch(sizes, processes, share, stop):
    stream = Numbers(*sizes)
    loadings = [
        Loading(batch_size=share * processes, seed=3, process=process, num_processes=processes)
        for process in range(processes)
    ]
    runs = [training_data(stream, loading) for loading in loadings]
    for run in runs:
        list(run.micro_batches(0, skip=0, count=stop))
    stopped = [run.progress() for run in runs]
    for loading in loadings:
        whole = list(training_data(stream, loading).micro_batches(0, skip=0, count=24))
        rest = list(resumed(stream, loading, stopped).micro_batches(0, skip=stop, count=24 - stop))
        for expected, actual in zip(whole[stop:], rest, strict=True):
            assert torch.equal(expected["number"], actual["number"])
            assert torch.equal(expected["noise"], actual["noise"])


@pytest.mark.parametrize("stop", [0, 1, 3, 4])
@pytest.mark.parametrize("shards", [1, 6])
def test_with_workers_too(stop, shards):
    stream, loading = Numbers(*[8] * shards), Loading(batch_size=2, seed=3, num_workers=2)
    whole = numbers(training_data(stream, loading).micro_batches(0, skip=0, count=6))
    run = training_data(stream, loading)
    assert numbers(run.micro_batches(0, skip=0, count=stop)) == whole[:stop]
    rest = resumed(stream, loading, [run.progress()])
    assert numbers(rest.micro_batches(0, skip=stop, count=6 - stop)) == whole[stop:]


@pytest.mark.parametrize("sizes", [(4, 6, 5), (15,)])
def test_a_pass_gives_every_sample_once_in_an_order_of_its_own_however_short_the_epochs(sizes):
    stream = Numbers(*sizes)
    data = training_data(stream, Loading(batch_size=1, seed=0))
    seen = [number for epoch in range(15) for (number,) in numbers(data.micro_batches(4 * epoch, skip=0, count=4))]
    passes = [seen[start : start + 15] for start in range(0, 60, 15)]
    assert [sorted(numbers) for numbers in passes] == [stream.everything] * 4
    assert len({tuple(numbers) for numbers in [*passes, stream.everything]}) == 5


def test_random_numbers_differ_between_the_passes():
    data = training_data(Numbers(1), Loading(batch_size=1, seed=0))
    assert len({batch["noise"].item() for batch in data.micro_batches(0, skip=0, count=5)}) == 5


@pytest.mark.parametrize("stopped", [None, [[(0, 0, 4), (1, 2, 1)]], [[(0, 2, 4)], [(1, 0, 3)]]])
def test_a_run_with_other_workers_goes_on_with_a_new_pass(stopped, capsys):
    stream, loading = Numbers(9), Loading(batch_size=3, seed=0)
    later = numbers(training_data(stream, loading).micro_batches(0, skip=0, count=12))[0 if stopped is None else 9 :]
    assert numbers(resumed(stream, loading, stopped).micro_batches(5, skip=0, count=3)) == later[:3]
    assert "goes on with a new pass over the stream" in capsys.readouterr().out


class Damaged(Numbers):
    """A stream whose samples are damaged where their number is divisible by 3."""

    skip_unreadable = True

    def decode(self, raw):
        if raw % 3 == 0:
            raise UnreadableFileError(f"sample {raw} is damaged")
        return super().decode(raw)


@pytest.mark.parametrize("stop", range(6))
def test_damaged_samples_are_left_out(stop):
    stream, loading = Damaged(20, 20), Loading(batch_size=4, seed=2)
    whole = numbers(training_data(stream, loading).micro_batches(0, skip=0, count=8))
    run = training_data(stream, loading)
    list(run.micro_batches(0, skip=0, count=stop))
    rest = resumed(stream, loading, [run.progress()]).micro_batches(0, skip=stop, count=8 - stop)
    assert numbers(rest) == whole[stop:]
    seen = Counter(number for batch in whole for number in batch)
    assert sorted(seen) == [number for number in stream.everything if number % 3]
    assert max(seen.values()) == 2  # 32 of 26 readable ones


def test_an_evaluation_leaves_damaged_samples_out_and_names_them(capsys):
    seen = [sample["number"] for sample in EvaluationStream(Damaged(10))]
    assert seen == [1, 2, 4, 5, 7, 8]
    said = capsys.readouterr().out.splitlines()
    assert said == [f"skipped: sample {number} is damaged" for number in (0, 3, 6, 9)]


def test_damaged_samples_stop_a_run_unless_asked_otherwise():
    stream = Damaged(10)
    stream.skip_unreadable = False
    with pytest.raises(UnreadableFileError, match="sample 0 is damaged"):
        list(EvaluationStream(stream))


def test_a_stream_of_nothing_readable_ends():
    stream = Damaged(1)
    with pytest.raises(ValueError, match="in a row cannot be read"):
        list(training_data(stream, Loading(batch_size=1, seed=0)).micro_batches(0, skip=0, count=1))


class Counted(Numbers):
    def read(self, shard):
        for raw in super().read(shard):
            self.reads = getattr(self, "reads", 0) + 1
            yield raw


def test_a_pass_that_is_finished_is_not_read_again():
    stream, loading = Counted(10, 5), Loading(batch_size=5, seed=0)
    run = training_data(stream, loading)
    list(run.micro_batches(0, skip=0, count=3))
    assert run.progress() == [(0, 1, 0)]
    rest = resumed(stream, loading, [run.progress()]).micro_batches(3, skip=0, count=1)
    stream.reads = 0
    next(rest)
    assert stream.reads == 10  # five of the batch, and as many in the buffer


@pytest.mark.parametrize("process", [0, 1])
def test_some_shards_may_be_empty(process):
    data = training_data(Numbers(8, 0), Loading(batch_size=2, seed=0, process=process, num_processes=2))
    seen = [number for (number,) in numbers(data.micro_batches(0, skip=0, count=40))]
    assert set(seen) == set(range(8))


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_loading_workers_end_with_the_run(streams, fails, toy, toy_recipe):
    task = toy.Streamed if streams else toy.Slopes

    class Failing(task):
        def loss(self, model, batch):
            raise ZeroDivisionError

    recipe = toy_recipe(epochs=1, steps_per_epoch=3, num_workers=2)
    with pytest.raises(ZeroDivisionError) if fails else nullcontext():
        train((Failing if fails else task)(recipe), recipe)
    assert not multiprocessing.active_children()


def test_what_a_run_has_seen_is_not_decoded_again(capsys):
    stream = Numbers(30)
    data = resumed(stream, Loading(batch_size=5, seed=0), [[(0, 0, 20)]])
    list(data.micro_batches(0, skip=4, count=1))
    assert stream.decoded == 5
    assert capsys.readouterr().out.startswith("20 samples of the stream")


@pytest.mark.parametrize("num_workers", [0, 3])
@pytest.mark.parametrize("sizes", [(5,), (3, 0, 4, 2)])
def test_an_evaluation_sees_every_sample_once(sizes, num_workers):
    stream = Numbers(*sizes)
    seen = []
    for process in range(2):
        loader = DataLoader(EvaluationStream(stream, process=process, num_processes=2), 2, num_workers=num_workers)
        seen += [number for batch in loader for number in batch["number"].tolist()]
    assert sorted(seen) == stream.everything


@pytest.mark.parametrize("sizes", [(3,), (1, 1, 1)])
def test_few_samples_are_evaluated_by_as_many_processes(sizes):
    for process in range(3):
        parts = EvaluationStream(Numbers(*sizes), process=process, num_processes=3)
        assert len([*DataLoader(parts, 1, num_workers=2)]) == 1


@pytest.mark.parametrize("change", ["another file", "a file less", "another content"])
def test_a_run_notices_other_tar_files(change, tmp_path):
    def write(name, count):
        with tarfile.open(tmp_path / name, "w") as archive:
            for number in range(count):
                header = tarfile.TarInfo(f"{number}.txt")
                header.size = 20_000
                archive.addfile(header, io.BytesIO(bytes(20_000)))

    def task():
        stream = TarStream(sorted(tmp_path.glob("*.tar")), decode=dict)
        decoded = DecodedStream(stream, decode=print, skip_unreadable=False)
        return SimpleNamespace(classes=["a"], dataset=lambda split: decoded if split == "train" else None)

    write("1.tar", 2)
    write("2.tar", 2)
    (tmp_path / "data.json").write_text(json.dumps(data_record(task())))
    assert data_changes(tmp_path / "data.json", task()) == []
    if change == "another file":
        write("3.tar", 2)
    elif change == "a file less":
        (tmp_path / "1.tar").unlink()
    else:
        write("1.tar", 3)
    assert data_changes(tmp_path / "data.json", task()) == ["train has other files or shards"]


def test_an_empty_share_is_refused_and_not_waited_for_forever():
    data = training_data(Numbers(1), Loading(batch_size=2, seed=0, process=1, num_processes=2))
    with pytest.raises(ValueError, match="loading worker 2 of 2, over all processes, finds no sample"):
        list(data.micro_batches(0, skip=0, count=1))


def test_a_model_trains_and_is_scored_on_streams(toy, toy_recipe):
    class OnStreams(toy.Streamed):
        def dataset(self, split):
            return toy.SlopeStream(self)

    recipe = toy_recipe(epochs=12, steps_per_epoch=5)
    results = train(OnStreams(recipe), recipe)
    assert results["test"]["count"] == 40
    assert results["test"]["accuracy"] > 0.8


def test_a_stream_and_a_set_of_the_same_samples_score_alike(toy, toy_recipe):
    task = toy.Slopes(toy_recipe())
    torch.manual_seed(0)
    model = task.build_model()

    class Plain(toy.SlopeStream):
        def decode(self, raw):
            return {"input": self.task.load_sample(raw, training=False), "label": raw[1] % 3}

    class Whole(toy.Slopes):
        def example(self, raw, *, training):
            return {"input": raw}

    expected = evaluate(Whole(toy_recipe()), model, Whole(toy_recipe()).dataset("train"), Accelerator(), batch_size=7)
    assert evaluate(task, model, Plain(task), Accelerator(), batch_size=7) == pytest.approx(expected, rel=1e-5)


def test_a_stream_needs_a_length_of_an_epoch(toy, toy_recipe):
    recipe = toy_recipe()
    with pytest.raises(ValueError, match="steps_per_epoch"):
        train(toy.Streamed(recipe), recipe)


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_files_in_the_layout_of_webdataset(tmp_path, mode):
    write_tar(tmp_path / "b.tar", {"x/0003.txt": b"three", "x/0003.cls": b"3"}, mode)
    write_tar(tmp_path / "a.tar", {"0001.cls": b"1", "0001.seg.PNG": b"p", "sub/0001.cls": b"2", "empty": b""}, mode)
    stream = TarStream(list(tmp_path.glob("*.tar")), decode=lambda raw: raw)
    assert stream.num_shards == 2
    assert [stream.decode(raw) for shard in range(2) for raw in stream.read(shard)] == [
        {"__key__": "0001", "cls": b"1", "seg.png": b"p"},
        {"__key__": "sub/0001", "cls": b"2"},
        {"__key__": "empty", "": b""},
        {"__key__": "x/0003", "txt": b"three", "cls": b"3"},
    ]


def test_hidden_members_of_a_tar_file_are_no_samples(tmp_path):
    """As macOS's tar writes them, each before its file."""
    files = ["./._0001.cls", "./0001.cls", "._0001.txt", "0001.txt", "__MACOSX/0002.txt", ".ipynb_checkpoints/3.txt"]
    write_tar(tmp_path / "mac.tar", {name: name.encode() for name in files})
    raw = list(TarStream([tmp_path / "mac.tar"], decode=lambda raw: raw).read(0))
    assert [list(sample.values())[1:] for sample in raw] == [[b"./0001.cls"], [b"0001.txt"]]


def test_a_cut_tar_file_is_named(tmp_path):
    write_tar(tmp_path / "cut.tar", {"0001.txt": bytes(5000)})
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[:3000])
    with pytest.raises(ValueError, match="cannot read .*cut.tar"):
        list(TarStream([tmp_path / "cut.tar"], decode=lambda raw: raw).read(0))


def damaged_archives(path):
    """Write archives of four files that are damaged before the third one, and one that is whole but for its end."""
    write_tar(path / "whole.tar", {f"{number}.txt": b"text" for number in range(4)})
    whole = (path / "whole.tar").read_bytes()
    start = 2 * 1024  # a header and a block of content for each file
    (path / "changed.tar").write_bytes(whole[: start + 5] + b"?" + whole[start + 6 :])
    (path / "zeroed.tar").write_bytes(whole[:start] + bytes(512) + whole[start + 512 :])
    (path / "hole.tar").write_bytes(whole[:start] + bytes(1024) + whole[start + 1024 :])
    (path / "joined.tar").write_bytes(whole[:start] + bytes(1024) + whole)
    (path / "cut_between.tar").write_bytes(whole[:start])
    (path / "cut_within.tar").write_bytes(whole[: start + 100])
    (path / "one_zero_block.tar").write_bytes(whole[: 4 * 1024 + 512])


@pytest.mark.parametrize("name", ["changed", "zeroed", "hole", "joined", "cut_between", "cut_within"])
def test_a_tar_file_with_a_damaged_header_is_not_taken_for_a_short_one(tmp_path, name):
    damaged_archives(tmp_path)
    with pytest.raises(ValueError, match=rf"cannot read .*{name}.tar: it is damaged.* 2,048 bytes from its start"):
        list(TarStream([tmp_path / f"{name}.tar"], decode=lambda raw: raw).read(0))


@pytest.mark.parametrize("name", ["whole", "one_zero_block"])
def test_a_tar_file_may_end_with_one_block_of_zeros(tmp_path, name):
    damaged_archives(tmp_path)
    assert len(list(TarStream([tmp_path / f"{name}.tar"], decode=lambda raw: raw).read(0))) == 4


def test_no_tar_file_is_refused():
    with pytest.raises(FileNotFoundError, match="at least one tar file"):
        TarStream([], decode=lambda raw: raw)


def test_a_set_of_a_hub_is_read_by_its_shards():
    rows = Dataset.from_dict({"number": list(range(10))}).to_iterable_dataset(num_shards=3)
    stream = HubStream(rows, decode=lambda row: {"number": row["number"]})
    assert stream.num_shards == 3
    shards = [[stream.decode(row)["number"] for row in stream.read(shard)] for shard in range(3)]
    assert sorted(number for shard in shards for number in shard) == list(range(10))
    assert all(shards)


@pytest.mark.parametrize("num_workers", [0, 2, 4])
def test_workers_share_a_set_of_a_hub(num_workers):
    rows = Dataset.from_dict({"number": list(range(10))}).to_iterable_dataset(num_shards=3)
    stream = HubStream(rows, decode=lambda row: {"number": row["number"]})
    stream.shuffle_buffer = 2
    loader = DataLoader(EvaluationStream(stream), batch_size=2, num_workers=num_workers)
    assert sorted(number for batch in loader for number in batch["number"].tolist()) == list(range(10))
    loading = Loading(batch_size=2, seed=0, num_workers=num_workers)
    whole = numbers(training_data(stream, loading).micro_batches(0, skip=0, count=9))
    run = training_data(stream, loading)
    list(run.micro_batches(0, skip=0, count=5))
    assert numbers(resumed(stream, loading, [run.progress()]).micro_batches(0, skip=5, count=4)) == whole[5:]


def test_a_set_is_opened_by_the_folder_of_its_files(tmp_path):
    Dataset.from_dict({"number": [4, 5, 6]}).to_parquet(tmp_path / "train.parquet")
    stream = HubStream.load(str(tmp_path), "train", decode=lambda row: {"number": row["number"]})
    assert [stream.decode(row)["number"] for shard in range(stream.num_shards) for row in stream.read(shard)] == [
        4,
        5,
        6,
    ]
