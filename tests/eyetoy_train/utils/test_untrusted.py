"""XML is read as elements and text alone, within bounds; tables and lists as they are meant, or not at all."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from eyetoy_train.data.unreadable import NAMED, name_few
from eyetoy_train.utils.untrusted import MAX_BYTES, MAX_DEPTH, read_class_names, read_names, read_table, read_xml

LAUGHS = '<!DOCTYPE a [<!ENTITY b "lol"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
def test_elements_and_text_are_read_in_any_encoding(tmp_path, encoding):
    path = tmp_path / "a.xml"
    declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
    path.write_bytes(f"{declared}<a><b c='1'>caf\u00e9</b><b>2 &lt; 3</b></a>".encode(encoding))
    root = read_xml(path)
    assert [entry.text for entry in root.findall("b")] == ["caf\u00e9", "2 < 3"]
    assert root.tag == "a"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("content", [LAUGHS, FILE, "<!DOCTYPE a><a/>", '<!DOCTYPE a SYSTEM "b.dtd"><a/>'])
def test_document_types_are_refused(tmp_path, content, encoding):
    path = tmp_path / "a.xml"
    path.write_bytes(content.encode(encoding))
    with pytest.raises(ValueError, match=r"a\.xml has a document type \(DOCTYPE\)"):
        read_xml(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is no XML file: no element found"),
        (b"<a>", "is no XML file: no element found"),
        (b"<a>&unknown;</a>", "is no XML file: undefined entity"),
        (b"<a/><b/>", "is no XML file: junk after document"),
        (b"<a>\xff</a>", "is no XML file: not well-formed"),
        (b'<?xml version="1.0" encoding="nothing"?><a/>', "is no XML file: unknown encoding"),
        (b"<a>" * (MAX_DEPTH + 1), f"must be nested {MAX_DEPTH} levels deep at most"),
        (b" " * (MAX_BYTES + 1), r"must have at most 16,777,216 bytes; got 16,777,217"),
    ],
    ids=["empty", "open", "entity", "two", "bytes", "encoding", "deep", "long"],
)
def test_what_is_no_xml_or_out_of_bounds_is_refused_by_name(tmp_path, content, why):
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a.xml {why}"):
        read_xml(path)


def test_a_column_that_stands_twice_is_refused_by_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("file, dog,cat,dog\na.png,1,0,0\n")
    with pytest.raises(ValueError, match=r"a\.csv has the column dog twice; rename one of them, or remove it"):
        read_table(path, ("file",))
    path.write_text("file,dog,,\na.png,1,,\n")  # as spreadsheets write empty columns
    assert read_table(path, ("file",)) == [{"file": "a.png", "dog": "1", "": ""}]


def test_a_class_that_is_named_twice_is_refused(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("crane\nheron\ncrane\n")
    with pytest.raises(ValueError, match=r"classes\.txt should name each class once; crane is in its lines 1 and 3"):
        read_class_names(path)


@pytest.mark.parametrize("read", [read_names, read_class_names])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_names_are_the_lines_of_a_list(tmp_path, read, encoding):
    path = tmp_path / "a.txt"
    path.write_text("caf\u00e9\r\n hot dog \n\n \n", encoding=encoding)
    assert read(path) == ["caf\u00e9", "hot dog"]
    path.write_text("", encoding=encoding)
    assert read(path) == []
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"^cannot read .*a\.txt: "):
        read(path)


@pytest.mark.parametrize(("text", "line"), [("\na\nb\n", 1), ("a\n\nb\n", 2), ("a\nb\n \nc", 3)])
def test_an_empty_line_shifts_no_class(tmp_path, text, line):
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"a\.txt should name the classes.* its line {line} is an empty line"):
        read_class_names(path)
    assert read_names(path) == [name.strip() for name in text.split("\n") if name.strip()]


def test_the_first_few_of_every_kind_are_named_and_the_others_counted():
    plain = name_few([f"line {number}" for number in range(NAMED + 2)])
    assert plain[-2:] == [f"line {NAMED - 1}", "and 2 more"]

    class Finding(SimpleNamespace):
        def __str__(self) -> str:
            return f"{self.kind}: {self.number}"

    found = [Finding(kind=kind, number=number) for number in range(NAMED + 1_234) for kind in ("small", "large")]
    lines = name_few([*found, Finding(kind="odd", number=1)])
    assert lines[NAMED] == "small: and 1,234 more"
    assert lines[-1] == "odd: 1"
    assert len(lines) == 2 * (NAMED + 1) + 1
