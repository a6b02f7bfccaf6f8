"""A data set with the class numbers of a trained model."""

from __future__ import annotations

import pytest

from eyetoy_train import SampleStream
from eyetoy_train.data.relabelled import RelabelledSource
from eyetoy_train.data.source import ClassificationSource


class Animals(ClassificationSource):
    classes = ("cat", "dog")
    given = {"train": [("a", 0)], "val": [("b", 1)], "test": [("c", 1), ("d", 0)]}

    def split(self, split):
        return self.given.get(split)


class Stream(SampleStream):
    num_shards = 1

    def read(self, shard):
        return iter([("a", 0), ("b", 1)])

    def decode(self, raw):
        return {"source": raw[0], "label": raw[1]}


def relabelled(labels, source=None, **options):
    found = RelabelledSource(source or Animals(), labels, **options)
    found.prepare()
    return found


def test_labels_go_by_name():
    found = relabelled(["dog", "eel", "cat"])
    assert found.classes == ["dog", "eel", "cat"]
    assert found.split("test") == [("c", 0), ("d", 2)]
    assert found.notes == ["2 of the checkpoint's 3 classes"]
    assert relabelled(["cat", "dog"]).split("test") == Animals.given["test"]


def test_all_splits_may_be_one():
    found = relabelled(["cat", "dog"], whole=True)
    assert found.split("test") == [("a", 0), ("b", 1), ("c", 1), ("d", 0)]
    assert found.split("train") is None


def test_names_are_compared_as_they_are_read():
    source = Animals()
    source.classes = ("cafe\u0301", "dog")  # as macOS once stored it
    assert relabelled(["dog", "caf\u00e9"], source).split("val") == [("b", 0)]


def test_a_class_that_the_model_does_not_know_is_refused():
    with pytest.raises(ValueError, match="does not know: dog; it knows cat, eel"):
        relabelled(["cat", "eel"])


def test_several_labels_of_a_sample_and_a_stream():
    source = Animals()
    source.multi_label = True
    source.given = {"test": [("a", (0, 1)), ("b", ())]}
    found = relabelled(["dog", "cat"], source)
    assert found.multi_label
    assert found.split("test") == [("a", [1, 0]), ("b", [])]
    source = Animals()
    source.given = {"test": Stream()}
    stream = relabelled(["dog", "cat"], source).split("test")
    assert [stream.decode(raw) for raw in stream.read(0)] == [{"source": "a", "label": 1}, {"source": "b", "label": 0}]
    with pytest.raises(ValueError, match="streamed"):
        relabelled(["dog", "cat"], source, whole=True).split("test")
