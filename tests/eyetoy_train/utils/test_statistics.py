"""Samples that stand for all."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eyetoy_train.utils.statistics import even_places


@given(length=st.integers(0, 300), count=st.integers(1, 40))
def test_places_are_spread_over_the_whole_length(length, count):
    places = even_places(length, count)
    assert len(places) == min(length, count)
    gaps = [after - before for before, after in itertools.pairwise([*places, length])]
    assert places[:1] == [0][:length]
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


@pytest.mark.parametrize(("length", "count"), [(45, 24), (47, 24), (70, 24)])
def test_every_class_of_a_sorted_set_is_among_them(length, count):
    """Steps of a whole number, cut after `count`, would leave the last classes out."""
    classes = {place * 3 // length for place in even_places(length, count)}
    assert classes == {0, 1, 2}
