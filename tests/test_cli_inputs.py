"""Rows to answer keep their order, whatever file they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lessen.cli.inputs import content, read
from lessen.errors import DataError


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.csv", 'id,Comments\n1,"one, two"\n2,three\n3,\n', ["one, two", "three", ""]),
        ("a.csv", "\ufefftext\nfirst\n", ["first"]),
        ("a.tsv", 'text\tlabel\nsay "it\t1\n', ['say "it']),
        ("a.jsonl", '{"text": "b"}\n\n{"text": "a"}\n', ["b", "a"]),
        ("a.jsonl", '"b"\n"a"\n', ["b", "a"]),
        ("a.txt", "b\n\na\n", ["b", "", "a"]),
    ],
)
def test_texts_are_read_in_order(name: str, text: str, rows: list[str], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert list(read(path, "text")) == rows


def test_a_column_may_be_named_or_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("first,second\nx,y\n")
    assert list(read(path, "text", "second")) == ["y"]
    assert list(read(path, "text", "0")) == ["x"]
    assert list(read(path, "text", "1", header=False)) == ["second", "y"]


@pytest.mark.parametrize(
    ("name", "raw", "told"),
    [
        ("a.csv", b"first,second\nx,y\n", "first, second"),
        ("a.csv", b"", "no rows"),
        ("a.txt", b"\xff\xfe\xfa", "not UTF-8"),
        ("a.jsonl", b"{]\n", "line 1 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 3}\n', "row 2 has no text"),
        ("a.jsonl", b"3\n", "neither strings nor objects"),
    ],
)
def test_what_cannot_be_read_is_told(name: str, raw: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(DataError, match=told):
        read(path, "text")


def test_images_come_from_a_file_or_a_folder_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, value in (("b.png", 200), ("a.png", 100)):
        Image.fromarray(np.full((4, 5), value, np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    found = [content(row) for row in read(tmp_path, "image")]
    assert [int(pixels[0, 0, 0]) for pixels in found] == [100, 200]
    assert found[0].shape == (4, 5, 3)
    with pytest.raises(DataError, match="not an image"):
        read(tmp_path / "notes.txt", "image")
    with pytest.raises(DataError, match="is a folder"):
        read(tmp_path, "text")


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.png"):
        content(path)
