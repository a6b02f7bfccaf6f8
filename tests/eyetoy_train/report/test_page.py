"""The report holds everything in one file, and nothing of it is taken for markup."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
import torch

from eyetoy_train import train
from eyetoy_train.report.page import _scores
from eyetoy_train.utils.statistics import interval


class Page(HTMLParser):
    """Collects the text and the sources of pictures, and checks that tags are closed in order."""

    VOID = {"meta", "img"}
    MEDIA = {"img", "audio", "video"}

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""
        self.media = {tag: [] for tag in self.MEDIA}

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in self.MEDIA:
            self.media[tag].append(dict(attributes)["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_report_holds_scores_pictures_classes_and_the_recipe(slopes, toy_recipe, tmp_path):
    class Marked(slopes):
        classes = ("falling", "<b>rising</b>", "flat & level")

    recipe = toy_recipe(epochs=2, name="<i>toy</i>")
    results = train(Marked(recipe), recipe)
    page = Page()
    page.feed((tmp_path / "run" / "report.html").read_text())
    assert page.open == []
    mistakes = round((1 - results["test"]["accuracy"]) * results["test"]["count"])
    assert mistakes  # after two epochs there are some
    assert [len(page.media[tag]) for tag in ("img", "audio", "video")] == [4, 0, 0]
    assert f"{mistakes} of 13 samples; first those of which the model was surest" in page.text
    assert "('test'" not in page.text  # what are no files are called by their places
    assert re.search(r"\bsample \d", page.text)
    low, high = interval(results["test"]["accuracy"], 13)
    assert f"95 % interval: {low:.1%} to {high:.1%}" in page.text
    assert all(source.startswith("data:image/png;base64,") for source in page.media["img"])
    for text in ("<i>toy</i>", "<b>rising</b>", "flat & level", "optimizer steps", "name: <i>toy</i>", "torch"):
        assert text in page.text
    assert f"{results['test']['accuracy']:.2%} accuracy" in page.text


@pytest.mark.parametrize(("suffix", "tag", "kind"), [(".wav", "audio", "audio/"), (".gif", "img", "image/gif")])
def test_a_report_plays_its_samples(slopes, toy_recipe, tmp_path, suffix, tag, kind):
    class Played(slopes):
        def play(self, x, path):
            path.parent.mkdir(exist_ok=True)
            file = path.with_name(f"{path.name}{suffix}")
            file.write_bytes(b"what a browser plays")
            return file

    recipe = toy_recipe(epochs=1)
    train(Played(recipe), recipe)
    page = Page()
    page.feed((tmp_path / "run" / "report.html").read_text())
    played = [source for source in page.media[tag] if source.startswith(f"data:{kind}")]
    assert [base64.b64decode(source.partition(",")[2]) for source in played] == [b"what a browser plays"] * len(played)
    files = sorted(file for name in ("samples", "mistakes") for file in (tmp_path / "run" / name).iterdir())
    assert len(files) == len(played) > 5
    assert all(file.stem in page.text for file in files)


def test_words_are_aligned_to_the_left_and_numbers_to_the_right(slopes, toy_recipe, tmp_path):
    recipe = toy_recipe(epochs=1)
    train(slopes(recipe), recipe)
    heads = re.findall(r'<th( class="text")?>([^<]*)</th>', (tmp_path / "run" / "report.html").read_text())
    # "confidence" is a range in the table of the calibration, and a number in that of the mistakes.
    left = {name for aligned, name in heads if aligned}
    right = {name for aligned, name in heads if not aligned} - {"confidence"}
    assert {"class", "confidence", "file", "truth"} <= left
    assert {"samples", "recall", "mean confidence", "training loss", "val loss", "waiting for data"} <= right
    assert not left & right


def test_no_label_and_a_label_called_none_are_two_things(slopes, toy_recipe, tmp_path):
    class Tagged(slopes):
        classes = ("none", "a", "b", "a, b")
        multi_label = True

        def target(self, label):
            return super().target([(), (0,), (1, 2)][label])

    recipe = toy_recipe(epochs=1)
    task = Tagged(recipe)
    assert [task._named(labels) for labels in ((), (0,), (1, 2), (3,))] == ["(no label)", "none", "a, b", '"a, b"']
    train(task, recipe)
    model = task.load(tmp_path / "run" / "checkpoints" / "best").eval()
    dataset = task.dataset("test")
    with torch.inference_mode():
        decisions = [(model(one["input"][None])[0] > 0, one["label"] > 0) for one in dataset]
    mistakes = sum(not torch.equal(*pair) for pair in decisions)
    assert mistakes
    assert f"{mistakes} of 13 samples" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(("every", "said"), [(1, False), (2, True)])
def test_a_report_says_how_many_epochs_were_evaluated(slopes, toy_recipe, tmp_path, every, said):
    recipe = toy_recipe(epochs=3, eval_epochs=every)
    train(slopes(recipe), recipe)
    text = (tmp_path / "run" / "report.html").read_text()
    assert ("evaluated after 2 of 3 epochs" in text) == said
    assert "No epoch of the run was evaluated" not in text


def test_a_score_that_a_split_does_not_have_is_left_empty():
    """A detector has no loss on a test without an object."""
    results = {"val": {"loss": 1.25, "box_AP": 0.5, "count": 3.0}, "test": {"box_AP": -1.0, "count": 2.0}}
    table = _scores(results)
    assert table.header == ("", "val", "test")
    assert [row[0] for row in table.rows] == ["loss", "box_AP", "samples"]
    assert table.rows[0][2] == ""
