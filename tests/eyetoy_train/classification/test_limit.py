"""A quick try on few samples: which ones, and what the run says of it."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyetoy_train.classification.datasets import limited


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(1, 90), st.integers(0, 3))
def test_few_samples_are_spread_evenly_and_always_the_same(labels, limit, seed):
    samples = list(enumerate(labels))
    found = limited(samples, limit, seed)
    assert found == limited(samples, limit, seed)
    assert found == sorted(set(found))
    assert len(found) == min(limit, len(samples))
    before, after = Counter(labels), Counter(label for _, label in found)
    largest = max(after.values())
    # A class with fewer than another one has all of its samples, or one less than the other.
    assert all(after[label] in (before[label], largest, largest - 1) for label in before)


def test_another_seed_takes_others_and_a_class_does_not_depend_on_another():
    samples = [(i, i % 2) for i in range(100)]
    found = limited(samples, 20, 0)
    assert found != limited(samples, 20, 1)
    own = [sample for sample in found if not sample[1]]
    assert own == [sample for sample in limited([*samples, *[(i, 1) for i in range(100, 150)]], 20, 0) if not sample[1]]


@pytest.fixture
def sourced(slopes, toy):
    """The toy task with options about the data."""

    class Sourced(slopes):
        def __init__(self, recipe, **options):
            given = SimpleNamespace(**{"root": ".", "cache": False, "unreadable": "refuse", "limit": 6, **options})
            super(slopes, self).__init__(recipe, toy.SlopeSource(self.sizes), given)

    return Sourced


@pytest.mark.parametrize("unreadable", ["refuse", "skip"])
def test_all_splits_are_limited_and_the_first_line_says_so(unreadable, sourced, toy_recipe, capsys):
    task = sourced(toy_recipe(), unreadable=unreadable)
    task.prepare()
    assert "samples: train 6, val 6, test 6; left out: 46 samples beyond data.limit 6" in capsys.readouterr().err
    for split in ("train", "val", "test"):
        dataset = task.dataset(split)
        assert Counter(dataset[i]["label"] for i in range(len(dataset))) == {0: 2, 1: 2, 2: 2}


def test_a_limit_of_none_and_of_a_stream_is_refused(sourced, toy, toy_recipe, monkeypatch):
    with pytest.raises(ValueError, match=r"^data.limit must be at least 1; got 0"):
        sourced(toy_recipe(), limit=0)
    monkeypatch.setattr(toy.SlopeSource, "split", lambda self, split: toy.SlopeStream(None))
    with pytest.raises(ValueError, match=r"^data.limit=6 is for sets that are not streamed"):
        sourced(toy_recipe()).prepare()
