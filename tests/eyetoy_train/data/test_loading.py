"""Which samples come when: the same for any number of processes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from eyetoy_train.data.loading import EvaluationSampler, Loading, SeededDataset, ShuffledSampler, training_data
from eyetoy_train.utils.seeds import derive_seed


class Noise(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return {"index": index, "noise": torch.rand(())}


@given(size=st.integers(1, 60), share=st.integers(1, 5), processes=st.integers(1, 4), seed=st.integers(0, 9))
def test_processes_share_the_batches_of_a_single_one(size, share, processes, seed):
    batch_size = share * processes
    single = ShuffledSampler(size, batch_size, seed, process=0, num_processes=1)
    several = [ShuffledSampler(size, batch_size, seed, process=p, num_processes=processes) for p in range(processes)]
    together = list(single)
    parts = [list(sampler) for sampler in several]
    assert all(len(part) == len(sampler) for part, sampler in zip(parts, several, strict=True))
    for batch in range(single.micro_batches_per_epoch):
        pieces = [key for part in parts for key in part[batch * share : (batch + 1) * share]]
        assert pieces == together[batch * batch_size : (batch + 1) * batch_size]


@given(size=st.integers(1, 60), batch_size=st.integers(1, 20))
def test_an_epoch_sees_no_sample_twice_unless_the_set_is_smaller_than_a_batch(size, batch_size):
    indices = [index for _, index, _ in ShuffledSampler(size, batch_size, 0, process=0, num_processes=1)]
    assert set(indices) <= set(range(size))
    if size >= batch_size:
        assert len(set(indices)) == len(indices) == size // batch_size * batch_size
    else:
        assert set(indices) == set(range(size))


@given(size=st.integers(1, 60), batch_size=st.integers(1, 20), repeats=st.integers(2, 5))
def test_repeats_follow_each_other_and_are_told_apart(size, batch_size, repeats):
    once = list(ShuffledSampler(size, batch_size, 0))
    keys = list(ShuffledSampler(size, batch_size, 0, repeats=repeats))
    assert len(keys) == len(once)
    assert len(set(keys)) == len(keys)
    for place, (epoch, index, times) in enumerate(keys):
        assert times == sum(other == (epoch, index) for other in [key[:2] for key in keys[:place]])
    assert [index for _, index, _ in keys] == [once[place // repeats][1] for place in range(len(keys))]


def test_every_epoch_has_an_order_of_its_own():
    sampler = ShuffledSampler(50, 10, 0, process=0, num_processes=1)
    first = [index for _, index, _ in sampler]
    sampler.start, sampler.stop = 5, 10
    second = list(sampler)
    assert {epoch for epoch, _, _ in second} == {1}
    assert [index for _, index, _ in second] != first
    sampler.start, sampler.stop = 0, 5
    assert [index for _, index, _ in sampler] == first


@given(size=st.integers(1, 60), share=st.integers(1, 5), count=st.integers(1, 3), start=st.integers(0, 20))
def test_a_run_can_begin_at_any_micro_batch(size, share, count, start):
    sampler = ShuffledSampler(size, share * count, 0, num_micro_batches=count)
    sampler.stop = start + 4
    whole = list(sampler)
    sampler.start = start
    assert list(sampler) == whole[start * share :]
    assert len(sampler) == 4 * share


@given(size=st.integers(1, 60), processes=st.integers(1, 7))
def test_an_evaluation_counts_every_sample_once_and_gives_all_processes_the_same_number(size, processes):
    samplers = [EvaluationSampler(size, process=p, num_processes=processes) for p in range(processes)]
    assert len({len(list(sampler)) for sampler in samplers}) == 1
    counted = [index for sampler in samplers for index in list(sampler)[: sampler.num_real]]
    assert sorted(counted) == list(range(size))


def test_who_has_one_sample_less_sees_the_last_again():
    shares = [list(EvaluationSampler(5, process=process, num_processes=2)) for process in range(2)]
    assert shares == [[0, 2, 4], [1, 3, 4]]


def test_random_draws_depend_on_seed_epoch_and_sample_alone():
    dataset = SeededDataset(Noise(), seed=3)
    torch.manual_seed(1)
    first = dataset[(2, 5, 0)]["noise"]
    torch.manual_seed(2)
    assert dataset[(2, 5, 0)]["noise"] == first
    others = [SeededDataset(Noise(), seed=4)[(2, 5, 0)], *(dataset[key] for key in ((3, 5, 0), (2, 6, 0), (2, 5, 1)))]
    assert all(other["noise"] != first for other in others)


def test_drawing_a_sample_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    SeededDataset(Noise(), seed=3)[(0, 0, 0)]
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("draws", [True, False])
def test_a_dataset_that_draws_nothing_is_not_seeded_and_gets_the_same_seeds(draws):
    class Plain(Noise):
        def __getitem__(self, index):
            return {"index": index, "state": torch.initial_seed()}

    plain = Plain()
    plain.uses_randomness = draws
    before = torch.initial_seed()
    samples = SeededDataset(plain, seed=3).__getitems__([(0, 4, 0), (1, 4, 2)])
    seeds = [derive_seed(3, "sample", 0, 4), derive_seed(3, "sample", 1, 4, 2)]
    assert [sample["seed"] for sample in samples] == seeds
    assert [sample["state"] for sample in samples] == (seeds if draws else [before, before])
    assert [sample["index"] for sample in samples] == [4, 4]


class DiesAsItHandsOver:
    """Raises in the process that takes it, as a tensor does whose worker was killed after it sent the batch's place."""

    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        return _raise, (self.error,)


def _raise(error):
    raise error


class HandedOver(Noise):
    def __init__(self, error, *, loaded):
        self.error, self.loaded = error, loaded

    def __getitem__(self, index):
        if self.loaded:
            raise self.error
        return {"index": index, "noise": DiesAsItHandsOver(self.error)}

    @staticmethod
    def collate(samples):
        return samples


GONE = [ConnectionResetError(104, "Connection reset by peer"), EOFError(), FileNotFoundError(2, "No such file")]


@pytest.mark.parametrize("error", GONE, ids=lambda error: type(error).__name__)
def test_a_worker_that_dies_as_it_hands_over_a_batch_is_named(error):
    data = training_data(HandedOver(error, loaded=False), Loading(batch_size=2, seed=0, num_workers=1))
    with pytest.raises(RuntimeError, match="DataLoader worker exited unexpectedly while it handed over a batch"):
        next(data.micro_batches(0, skip=0, count=1))
    data.close()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_sample_that_cannot_be_read_is_another_error(num_workers):
    missing = FileNotFoundError(2, "No such file", "a.png")
    data = training_data(HandedOver(missing, loaded=True), Loading(batch_size=2, seed=0, num_workers=num_workers))
    with pytest.raises(FileNotFoundError, match=r"a\.png"):
        next(data.micro_batches(0, skip=0, count=1))
    data.close()


def test_workers_change_nothing():
    batches = []
    for workers in (0, 2):
        data = training_data(Noise(), Loading(batch_size=5, seed=1, num_workers=workers))
        given = [*data.micro_batches(0, skip=0, count=2), *data.micro_batches(2, skip=1, count=1)]
        batches.append(torch.cat([batch["noise"] for batch in given]))
        assert len(batches[-1]) == 15
    assert torch.equal(*batches)


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=2, max_size=30, unique=True))
def test_derived_seeds_differ(parts):
    assert len({derive_seed(*part) for part in parts}) == len(parts)


def test_a_message_can_name_the_samples_of_a_micro_batch():
    data = training_data(Noise(), Loading(batch_size=10, seed=1))
    said = data.describe(3, 1)
    (batch,) = data.micro_batches(3, skip=0, count=1)
    assert ", ".join(map(str, batch["index"][:8].tolist())) + " and 2 more of the training set" in said
