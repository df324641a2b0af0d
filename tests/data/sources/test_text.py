"""Running text: what one document is, and that nothing of a file is lost."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lessen import recipe
from lessen.data import auto
from lessen.data.sources import text
from lessen.errors import DataError

WIKI = " \n = One = \n \n first text \n \n = = Part = = \n \n more \n \n = Two <unk> = 2 = \n \n second \n"
TASK = "causal-lm"


def read(path, **more):
    return auto.read(recipe.Data(path=str(path), **more), TASK)


def file(folder, content, name="a.txt"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode()
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.txt.gz", "a.gz"])
def test_level_one_headings_start_documents_and_lower_ones_do_not(tmp_path, name):
    table = read(file(tmp_path, WIKI, name))
    assert table.facts["documents"] == "heading"
    assert [document.split("\n")[0] for document in table.inputs] == [" = One = ", " = Two <unk> = 2 = "]
    assert "= = Part = =" in table.inputs[0]
    assert table.form == "documents"


@pytest.mark.parametrize(
    ("how", "want"),
    [
        ("file", ["a b\nc\n\n  \nd\ne"]),
        ("line", ["a b", "c", "d", "e"]),
        ("paragraph", ["a b\nc", "d\ne"]),
        ("heading", ["a b\nc\n\n  \nd\ne"]),
        ("auto", ["a b\nc", "d\ne"]),
    ],
)
def test_the_setting_decides_what_a_document_is(tmp_path, how, want):
    assert list(read(file(tmp_path, "\na b\r\nc\n\n  \nd\ne\n\n"), documents=how).inputs) == want


def test_the_files_of_a_folder_are_documents(tmp_path):
    for name in ("b.md", "sub/c.txt", "a.txt.gz", ".hidden.txt", "table.csv.gz"):
        file(tmp_path, f"in {name}\n\nmore", name)
    table = read(tmp_path)
    assert list(table.inputs) == [f"in {name}\n\nmore" for name in ("a.txt.gz", "b.md", "sub/c.txt")]
    assert table.parts is None


def test_files_named_after_parts_keep_them_and_a_file_that_merely_begins_so_does_not(tmp_path):
    for name in ("train.txt", "valid.txt", "test.txt"):
        file(tmp_path / "parts", f"x {name}\n\ny {name}", name)
    table = read(tmp_path / "parts", documents="paragraph")
    assert list(table.parts) == ["test"] * 2 + ["train"] * 2 + ["validation"] * 2
    for name in ("train_tips.md", "testing_in_python.md", "other.md"):
        file(tmp_path / "docs", name, name)
    assert read(tmp_path / "docs").parts is None


@given(st.text(st.sampled_from("a =\n\t"), max_size=60), st.sampled_from(["file", "line", "paragraph", "heading"]))
def test_no_character_but_blank_space_is_lost(content, how):
    documents = text.split(content, how)
    assert "".join("".join(documents).split()) == "".join(content.split())
    assert all(document.strip() for document in documents)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("  \n\n ", {}, r"a\.txt is empty"),
        ("some text", {"supervise": "response"}, "supervise is response, and .* is running text"),
        (None, {}, "there is no file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, settings, message):
    if content is not None:
        file(tmp_path, content)
    with pytest.raises(DataError, match=message):
        text.read(recipe.Data(path=str(tmp_path / "a.txt"), **settings), TASK)


def test_a_text_file_stays_a_table_for_other_tasks(tmp_path):
    path = file(tmp_path, "text,label\na,1\n")
    assert auto.choose(recipe.Data(path=str(path)), "text-classification") == "csv"
    assert auto.choose(recipe.Data(path=str(path)), TASK) == "text"
    assert auto.choose(recipe.Data(path=str(tmp_path)), "text-classification") == "folder"
    assert auto.choose(recipe.Data(path=str(tmp_path)), TASK) == "text"
    file(tmp_path, "text,label\na,1\n", "b.csv")
    assert auto.choose(recipe.Data(path=str(tmp_path)), TASK) == "folder"
