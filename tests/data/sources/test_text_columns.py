"""Tables of pairs, prompts with responses and chats: which characters are learned."""

from __future__ import annotations

import json

import pytest

from lessen import recipe
from lessen.data import auto
from lessen.errors import DataError

PAIRS, TEXTS = "seq2seq", "causal-lm"
CHAT = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "hello\nthere"},
    {"role": "user", "content": "more"},
    {"role": "assistant", "content": "no"},
]


def jsonl(folder, rows) -> str:
    path = folder / "a.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def read(task, path, **more):
    return auto.read(recipe.Data(path=str(path), **more), task)


def parquet(folder, columns) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), folder / "a.parquet")
    return str(folder / "a.parquet")


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet", "saved"])
def test_two_columns_are_pairs_in_every_kind_of_table(tmp_path, form):
    columns = {"id": ["1", "2"], "de": ["eins", "zwei"], "en": ["one", "two"]}
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    if form == "jsonl":
        path = jsonl(tmp_path, rows)
    elif form == "parquet":
        path = parquet(tmp_path, columns)
    elif form == "saved":
        import datasets

        path = str(tmp_path / "saved")
        datasets.disable_progress_bars()
        datasets.Dataset.from_dict(columns).save_to_disk(path)
    else:
        mark = "," if form == "csv" else "\t"
        path = str(tmp_path / f"a.{form}")
        lines = [mark.join(columns), *(mark.join(row.values()) for row in rows)]
        (tmp_path / f"a.{form}").write_text("\n".join(lines))
    for settings in ({"text_column": "en", "target_column": "de"}, {"languages": ("en", "de")}):
        table = read(PAIRS, path, **settings)
        assert table.form == "pairs"
        assert list(zip(table.inputs, table.labels, strict=True)) == [("one", "eins"), ("two", "zwei")]


def test_a_column_of_translations_is_read_by_language(tmp_path):
    path = parquet(tmp_path, {"translation": [{"de": "eins", "en": "one"}, {"de": "zwei", "en": "two"}]})
    table = read(PAIRS, path, languages=("en", "de"))
    assert list(zip(table.inputs, table.labels, strict=True)) == [("one", "eins"), ("two", "zwei")]
    with pytest.raises(DataError, match=r"row 1 of .* holds de, en; data\.languages asks for en, fr"):
        read(PAIRS, path, languages=("en", "fr"))


def test_columns_given_by_index_need_no_header(tmp_path):
    (tmp_path / "a.tsv").write_text("one\teins\ntwo\tzwei\nthree\tdrei\n")
    table = read(PAIRS, tmp_path / "a.tsv", text_column="1", target_column="0")
    assert list(zip(table.inputs, table.labels, strict=True)) == [("eins", "one"), ("zwei", "two"), ("drei", "three")]


def test_targets_of_a_usual_name_are_found_and_a_label_column_overrules_them(tmp_path):
    path = jsonl(tmp_path, [{"article": "long", "summary": "short", "topic": "x"}])
    table = read(PAIRS, path)
    assert (list(table.inputs), list(table.labels), table.form) == (["long"], ["short"], "pairs")
    table = read(PAIRS, path, text_column="article", label_column="topic")
    assert (list(table.labels), table.form) == (["x"], "labels")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("plain", "System: be kind\nUser: hi\nAssistant: hello\nthere\nUser: more\nAssistant: no\n"),
        (
            "chatml",
            "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
            "hello\nthere<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\nno<|im_end|>\n",
        ),
    ],
)
def test_of_chats_the_answers_are_learned_up_to_the_end_of_their_turns(tmp_path, form, text):
    path = jsonl(tmp_path, [{"messages": CHAT}])
    table = read(TEXTS, path, messages_column="messages", chat_format=form, supervise="response")
    assert list(table.inputs) == [text]
    end = "\n" if form == "plain" else "<|im_end|>\n"
    lead = " " if form == "plain" else ""
    assert [text[a:b] for a, b in table.spans[0]] == [f"{lead}hello\nthere{end}", f"{lead}no{end}"]
    whole = read(TEXTS, path, chat_format=form)
    assert list(whole.inputs) == [text], "the column is found by its usual name"
    assert list(whole.spans) == [()], "everything is learned"


def test_of_prompts_with_responses_the_response_is_learned(tmp_path):
    rows = [{"q": "2+2=", "a": "4"}, {"q": "", "a": "5"}, {"q": "ক", "a": "খ"}]
    table = read(TEXTS, jsonl(tmp_path, rows), text_column="q", target_column="a", supervise="response")
    assert list(table.inputs) == ["2+2=4", None, "কখ"]
    assert list(table.spans)[::2] == [((4, 5),), ((1, 2),)]
    assert list(table.labels) == ["", None, ""]
    everything = read(TEXTS, jsonl(tmp_path, rows), text_column="q", target_column="a")
    assert list(everything.spans) == [(), (), ()]


def test_a_chat_without_an_answer_is_missing_where_answers_are_learned(tmp_path):
    path = jsonl(tmp_path, [{"messages": CHAT[:2]}, {"messages": CHAT}, {"messages": None}])
    assert [x is None for x in read(TEXTS, path, supervise="response").inputs] == [True, False, True]
    assert [x is None for x in read(TEXTS, path).inputs] == [False, False, True]


@pytest.mark.parametrize(
    ("task", "row", "settings", "message"),
    [
        (
            TEXTS,
            {"messages": [{"role": "bot", "content": "x"}]},
            {},
            r"message 1 of row 1 .* role 'bot'; allowed are sys",
        ),
        (TEXTS, {"messages": [{"who": "user", "content": "x"}]}, {}, "message 1 of row 1 .* has who, content"),
        (TEXTS, {"messages": [{"role": "user", "content": 3}]}, {}, "content of message 1 of row 1 .* is int"),
        (TEXTS, {"messages": "hi"}, {}, "messages of row 1 .* not JSON"),
        (TEXTS, {"messages": 3}, {}, "messages of row 1 .* are int"),
        (TEXTS, {"text": "x"}, {"supervise": "response"}, "without responses"),
        (TEXTS, {"text": "x"}, {"target_column": "reply"}, "no column 'reply'; its columns are 'text'"),
        (TEXTS, {"body2": "x"}, {}, "its columns are 'body2'"),
        (PAIRS, {"text": "x"}, {"target_column": "to"}, "no column 'to'; its columns are 'text'"),
        (PAIRS, {"text": "x"}, {"target_column": "text"}, "both source and target"),
        (PAIRS, {"text": "x"}, {}, "no column of a usual label column name"),
        (PAIRS, {"text": "x", "summary": ["y"]}, {}, "text of row 1 .* is list"),
    ],
)
def test_bad_input_is_named_in_one_line(tmp_path, task, row, settings, message):
    with pytest.raises(DataError, match=message) as raised:
        read(task, jsonl(tmp_path, [row]), **settings)
    assert "\n" not in str(raised.value)
