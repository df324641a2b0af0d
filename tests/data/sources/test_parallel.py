"""Line-aligned files: which line translates which, and what is refused."""

from __future__ import annotations

import gzip

import pytest

from lessen import recipe
from lessen.data import auto
from lessen.data.sources import parallel
from lessen.errors import DataError

LANGUAGES = ("en", "de")


def write(folder, name, lines, packed=False) -> None:
    raw = "".join(f"{line}\n" for line in lines).encode()
    path = folder / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(raw) if packed else raw)


def cfg(path, languages=LANGUAGES, **more) -> recipe.Data:
    return recipe.Data(path=str(path), languages=languages, **more)


def test_a_folder_keeps_its_parts_and_pairs_lines_by_number(tmp_path):
    for name, n in (("train", 3), ("val", 1), ("test_2016_flickr", 2)):
        write(tmp_path, f"{name}.en", [f"{name} e{i}" for i in range(n)], packed=True)
        write(tmp_path, f"{name}.de", [f"{name} d{i}" for i in range(n)], packed=name == "val")
    table = auto.read(cfg(tmp_path), "seq2seq")
    rows = list(zip(table.parts, table.inputs, table.labels, strict=True))
    assert sorted(rows) == sorted(
        [("train", f"train e{i}", f"train d{i}") for i in range(3)]
        + [("validation", "val e0", "val d0")]
        + [("test", f"test_2016_flickr e{i}", f"test_2016_flickr d{i}") for i in range(2)]
    )
    assert table.form == "pairs"
    assert table.facts["files"] == {"train": 3, "val": 1, "test_2016_flickr": 2}
    turned = auto.read(cfg(tmp_path, ("de", "en")), "seq2seq")
    assert set(zip(turned.inputs, turned.labels, strict=True)) == {(y, x) for _, x, y in rows}


@pytest.mark.parametrize("given", ["corpus.en", "corpus.de.gz"])
def test_one_file_finds_its_twin_and_is_split(tmp_path, given):
    write(tmp_path, "corpus.en", ["a", "b"])
    write(tmp_path, "corpus.de", ["x", "y"], packed=True)
    table = auto.read(cfg(tmp_path / given), "seq2seq")
    assert table.parts is None
    assert list(zip(table.inputs, table.labels, strict=True)) == [("a", "x"), ("b", "y")]


def test_only_line_feeds_end_a_line(tmp_path):
    """Unicode's other separators stand inside sentences: splitting at them would shift all lines that follow."""
    write(tmp_path, "c.en", ["a\u2028b", "c\x0bd", "e\r"])
    write(tmp_path, "c.de", ["1", "2", "3"])
    table = parallel.read(cfg(tmp_path), "seq2seq")
    assert list(zip(table.inputs, table.labels, strict=True)) == [("a\u2028b", "1"), ("c\x0bd", "2"), ("e", "3")]


def test_an_empty_line_on_either_side_is_missing(tmp_path):
    write(tmp_path, "c.en", ["a", "", "c"])
    write(tmp_path, "c.de", ["1", "2", " "])
    table = parallel.read(cfg(tmp_path), "seq2seq")
    assert list(zip(table.inputs, table.labels, strict=True)) == [("a", "1"), (None, "2"), ("c", None)]


@pytest.mark.parametrize(
    ("files", "languages", "message"),
    [
        ({"c.en": 2, "c.de": 3}, LANGUAGES, r"c\.en has 2 lines, c\.de has 3"),
        ({"c.en": 2}, LANGUAGES, r"has no c\.de or c\.de\.gz"),
        ({"c.en": 2, "c.de": 2}, ("fr", "it"), r"no files ending in \.fr or \.it; there is de, en"),
        ({"c.en": 2, "c.de": 2}, None, r"languages is not set for .*; its files end in de, en"),
        ({"c.en": 2, "c.de": 2}, ("en", "en"), "en twice"),
        (
            {"a.en": 1, "a.de": 1, "b.en": 1, "b.de": 1},
            LANGUAGES,
            "several pairs of files and none is named train: a, b",
        ),
        ({"c.en": 0, "c.de": 0}, LANGUAGES, r"c\.en is empty"),
    ],
)
def test_what_cannot_be_paired_is_named_in_one_line(tmp_path, files, languages, message):
    for name, n in files.items():
        write(tmp_path, name, [f"{i}" for i in range(n)])
    with pytest.raises(DataError, match=message) as raised:
        parallel.read(cfg(tmp_path, languages), "seq2seq")
    assert "\n" not in str(raised.value)


def test_a_damaged_gzip_file_is_named(tmp_path):
    write(tmp_path, "c.en", ["a"] * 99, packed=True)
    write(tmp_path, "c.de", ["a"] * 99)
    path = tmp_path / "c.en.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"c\.en\.gz is not a whole gzip file"):
        parallel.read(cfg(tmp_path), "seq2seq")


def test_other_tasks_are_refused(tmp_path):
    with pytest.raises(DataError, match="the task is causal-lm"):
        parallel.read(cfg(tmp_path), "causal-lm")
