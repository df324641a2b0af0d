"""CSV, TSV, JSON and Parquet: columns by name, cells as they are, errors with the row."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lessen import recipe
from lessen.data import auto
from lessen.data.images import decode
from lessen.errors import DataError

TEXT, IMAGE = "text-classification", "image-classification"


def read(path: Path, task: str = TEXT, **more):
    return auto.read(recipe.Data(path=str(path), **more), task)


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("header", ["text,label", "Comments,HateSpeech", "SENTENCE,Target", " review , sentiment "])
def test_usual_column_names_are_found_in_any_case(tmp_path, header):
    table = read(put(tmp_path / "a.csv", f"{header}\nhello,1\nworld,0\n"))
    assert list(table.inputs) == ["hello", "world"]
    assert list(table.labels) == ["1", "0"]


def test_columns_may_be_named_and_the_rest_is_left_alone(tmp_path):
    path = put(tmp_path / "a.csv", "text,title,label,stars\nbody,head,x,5\n")
    table = read(path, text_column="TITLE", label_column="stars")
    assert (list(table.inputs), list(table.labels)) == (["head"], ["5"])
    assert table.facts["columns"] == {"text": "title", "label": "stars"}


def test_a_wrong_column_lists_those_there_are_and_the_nearest(tmp_path):
    path = put(tmp_path / "a.csv", "id,Comments,HateSpeech\n1,a,0\n")
    with pytest.raises(DataError) as error:
        read(path, text_column="coments")
    assert error.value.message.endswith("has no column 'coments'; its columns are 'id', 'Comments', 'HateSpeech'")
    assert "did you mean 'Comments'?" in error.value.hint


def test_columns_without_a_usual_name_must_be_named(tmp_path):
    with pytest.raises(DataError, match="its columns are 'foo', 'bar'"):
        read(put(tmp_path / "a.csv", "foo,bar\nsome words,1\nmore words,0\nagain words,1\n"))


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match="2 columns named 'text'"):
        read(put(tmp_path / "a.csv", "text,Text,text,label\na,b,c,1\n"))


def test_one_column_cannot_be_both(tmp_path):
    with pytest.raises(DataError, match="both input and label"):
        read(put(tmp_path / "a.csv", "text,label\na,1\n"), label_column="text")


def test_a_file_without_a_header_is_recognised_by_its_labels(tmp_path):
    table = read(put(tmp_path / "a.tsv", "one fine film\t1\na dull one\t0\ngood\t1\nbad\t0\n"))
    assert list(table.inputs) == ["one fine film", "a dull one", "good", "bad"]
    assert list(table.labels) == ["1", "0", "1", "0"]
    assert table.facts["header"] is False


def test_a_file_without_a_header_may_hold_the_label_first(tmp_path):
    table = read(put(tmp_path / "a.csv", "pos,good film\nneg,bad film\npos,fine\nneg,dull\n"))
    assert list(table.labels) == ["pos", "neg", "pos", "neg"]


def test_columns_may_be_given_by_index(tmp_path):
    path = put(tmp_path / "a.tsv", "7\tgood\t1\n8\tbad\t0\n9\tfine\t1\n")
    table = read(path, text_column="1", label_column="2")
    assert (list(table.inputs), list(table.labels)) == (["good", "bad", "fine"], ["1", "0", "1"])
    headed = put(tmp_path / "b.tsv", "id\tphrase\trating\n8\tbad\t0\n9\tfine\t1\n")
    table = read(headed, text_column="1", label_column="2")
    assert list(table.inputs) == ["bad", "fine"], "a first row whose label never comes again is a header"


def test_cells_are_never_coerced(tmp_path):
    table = read(put(tmp_path / "a.csv", "text,label\nNA,007\nnull,1.0\nNone,TRUE\n1e5,1\n"))
    assert list(table.inputs) == ["NA", "null", "None", "1e5"]
    assert list(table.labels) == ["007", "1.0", "TRUE", "1"]


def test_quoted_cells_hold_separators_and_line_breaks(tmp_path):
    table = read(put(tmp_path / "a.csv", 'text,label\n"a, b\nc ""d""",1\n\nnext,0\n'))
    assert list(table.inputs) == ['a, b\nc "d"', "next"]


def test_lone_quotation_marks_in_a_tab_separated_file_are_text(tmp_path):
    table = read(put(tmp_path / "a.tsv", 'text\tlabel\n"so he said\t1\nmiddle\t0\nthe end"\t1\n'))
    assert list(table.inputs) == ['"so he said', "middle", 'the end"']
    assert table.facts["quoting"] is False
    assert list(read(put(tmp_path / "b.tsv", 'text\tlabel\n"a\tb"\t1\nc\t0\n')).inputs) == ["a\tb", "c"]


@pytest.mark.parametrize("separator", [",", ";", "|", "\t"])
def test_the_separator_is_found(tmp_path, separator):
    assert list(read(put(tmp_path / "a.csv", f"text{separator}label\nx{separator}1\n")).inputs) == ["x"]


@pytest.mark.parametrize("body", ["a,1\nb,0,extra\n", '"never closed,1\nb,0\n'])
def test_a_row_that_does_not_fit_is_refused(tmp_path, body):
    with pytest.raises(DataError, match=r"a\.csv: .*(line 3|row 1|EOF)"):
        read(put(tmp_path / "a.csv", f"text,label\n{body}"))


def test_a_row_that_lacks_its_label_is_missing_and_not_an_error(tmp_path):
    table = read(put(tmp_path / "a.csv", "text,label\na,1\nb\nc,0\n"))
    assert list(table.labels) == ["1", None, "0"]


def test_a_wrong_encoding_names_the_byte_and_the_setting(tmp_path):
    path = put(tmp_path / "a.csv", "text,label\nok,1\ncafé,0\n".encode("latin-1"))
    with pytest.raises(DataError) as error:
        read(path)
    assert "byte 0xe9 at position 19 (line 3)" in error.value.message
    assert "--data.encoding" in error.value.hint
    assert list(read(path, encoding="latin-1").inputs) == ["ok", "café"]


def test_byte_order_marks_and_utf_16_are_understood(tmp_path):
    assert list(read(put(tmp_path / "a.csv", "text,label\nx,1\n".encode("utf-8-sig"))).inputs) == ["x"]
    wide = put(tmp_path / "b.csv", "text,label\nx,1\n".encode("utf-16"))
    assert list(read(wide, encoding="utf-16").inputs) == ["x"]
    with pytest.raises(DataError, match="utf-16"):
        read(wide)
    with pytest.raises(DataError, match="zero character"):
        read(put(tmp_path / "c.csv", "text,label\nx,1\n".encode("utf-16-le")))
    with pytest.raises(DataError, match="there is no encoding 'utf-9'"):
        read(wide, encoding="utf-9")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="is empty"):
        read(put(tmp_path / "a.csv", content))


ROWS = [{"text": "a", "label": 1}, {"text": None, "label": True}, {"label": "x", "text": "c"}, {"text": "d"}]


@pytest.mark.parametrize("form", ["lines", "array", "wrapped", "columns"])
def test_json_is_read_in_every_usual_form(tmp_path, form):
    columns = {"text": [r.get("text") for r in ROWS], "label": [r.get("label") for r in ROWS]}
    content = {
        "lines": "\n".join(map(json.dumps, ROWS)) + "\n\n",
        "array": json.dumps(ROWS),
        "wrapped": json.dumps({"version": 1, "data": ROWS}),
        "columns": json.dumps(columns),
    }[form]
    table = read(put(tmp_path / ("a.jsonl" if form == "lines" else "a.json"), content))
    assert list(table.inputs) == ["a", None, "c", "d"]
    assert list(table.labels) == ["1", "true", "x", None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "label": 1}\n{"text": "b", \n', r"line 2 of .* is not JSON"),
        ('[{"text": "a"},', "is not JSON"),
        ('{"text": ["a", "b"], "label": [1]}', "differ in length: text 2, label 1"),
        ("[1, 2]", "row 1 of .* is int, not an object"),
        ('[{"text": 5, "label": 1}]', "the text of row 1 of .* is int '5'"),
        ('[{"text": "a", "label": [1, 2]}]', "the label of row 1 of .* is list"),
        ('[{"text": "\\ud800 half", "label": 1}]', "half a character at position 0"),
        ('[{"body_text": "a", "label": 1}]', "its columns are 'body_text', 'label'"),
    ],
)
def test_json_that_cannot_be_used_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(put(tmp_path / "a.json", content))


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def parquet(path: Path, columns: dict, features: dict | None = None) -> Path:
    import pyarrow as pa
    from pyarrow import parquet as pq

    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path


def test_parquet_keeps_order_and_types(tmp_path):
    path = parquet(tmp_path / "a.parquet", {"id": [3, 1], "sentence": ["z", None], "label": [1, 0]})
    table = read(path)
    assert (list(table.inputs), list(table.labels)) == (["z", None], ["1", "0"])


def test_class_names_of_the_hub_take_the_place_of_numbers(tmp_path):
    features = {"label": {"_type": "ClassLabel", "names": ["no", "yes"]}, "text": {"_type": "Value"}}
    path = parquet(tmp_path / "a.parquet", {"text": ["a", "b", "c"], "label": [1, 0, -1]}, features)
    table = read(path)
    assert table.classes == ("no", "yes")
    assert list(table.labels) == ["yes", "no", None]
    wrong = parquet(tmp_path / "b.parquet", {"text": ["a"], "label": [2]}, features)
    with pytest.raises(DataError, match=r"row 1 of .* has label 2; there are 2 class names"):
        read(wrong)


@pytest.mark.parametrize("form", ["bytes", "dict"])
def test_images_in_parquet_are_bytes_or_the_hubs_structure(tmp_path, form):
    cells = [png(7), png(9)]
    column = cells if form == "bytes" else [{"bytes": c, "path": None} for c in cells]
    table = read(parquet(tmp_path / "a.parquet", {"img": column, "label": [0, 1]}), IMAGE)
    assert [decode(x, "x")[0, 0, 0] for x in table.inputs] == [7, 9]


def test_image_paths_in_a_table_count_from_its_folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    put(tmp_path / "pictures" / "a.png", png(3))
    table = read(put(tmp_path / "a.csv", "image,label\npictures/a.png,cat\n,dog\n"), IMAGE)
    assert decode(table.inputs[0], "x").shape == (4, 5, 3)
    assert table.inputs[1] is None


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    with pytest.raises(DataError, match=r"a\.parquet is not a Parquet file"):
        read(put(tmp_path / "a.parquet", b"PAR1 nothing PAR1"))
