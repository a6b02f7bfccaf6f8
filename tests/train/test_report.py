"""The report holds everything in one file, and nothing of it is taken for markup."""

from __future__ import annotations

from html.parser import HTMLParser

from eyetoy_train import train


class Page(HTMLParser):
    """Collects the text and the sources of pictures, and checks that tags are closed in order."""

    VOID = {"meta", "img"}

    def __init__(self):
        super().__init__()
        self.open, self.text, self.pictures = [], "", []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(dict(attributes)["src"])

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
    assert len(page.pictures) == 3
    assert all(source.startswith("data:image/png;base64,") for source in page.pictures)
    for text in ("<i>toy</i>", "<b>rising</b>", "flat & level", "optimizer steps", "name: <i>toy</i>", "torch"):
        assert text in page.text
    assert f"{results['test']['accuracy']:.2%} accuracy" in page.text
