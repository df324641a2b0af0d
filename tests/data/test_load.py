"""load(): what is dropped is counted, what cannot work is refused with the row's name."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest

from lessen import data, recipe
from lessen.data.images import Images
from lessen.errors import DataError, UnknownNameError

TEXT, IMAGE = "text-classification", "image-classification"
ROWS = [(f"good thing {i}", "pos") for i in range(10)] + [(f"bad thing {i}", "neg") for i in range(10)]


def table(path, rows=ROWS, header=("text", "label")) -> str:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return str(path)


def load(path, **more) -> data.Splits:
    return data.load(recipe.Data(path=str(path), **more), TEXT, 42)


def contents(split: data.Split) -> set[str]:
    return set(split.inputs)


def test_labels_are_numbered_in_sorted_order_and_stay_with_their_texts(tmp_path):
    splits = load(table(tmp_path / "a.csv"))
    assert splits.labels == ("neg", "pos")
    for split in (splits.train, splits.validation, splits.test):
        assert split.labels.dtype == np.int64
        assert split.labels.tolist() == [int(text.startswith("good")) for text in split.inputs]
    assert splits.facts["rows_per_class"]["test"] == {"neg": 2, "pos": 2}


def test_whole_numbers_are_sorted_by_value(tmp_path):
    rows = [(f"text {i}", str(i % 11)) for i in range(44)]
    assert load(table(tmp_path / "a.csv", rows)).labels == tuple(map(str, range(11)))


def test_the_allow_list_decides_the_order_of_the_outputs(tmp_path):
    splits = load(table(tmp_path / "a.csv"), labels=("pos", "neg"))
    assert splits.labels == ("pos", "neg")
    assert splits.train.labels.tolist() == [int(text.startswith("bad")) for text in splits.train.inputs]


def test_missing_rows_and_duplicates_are_dropped_and_counted(tmp_path):
    rows = [
        *ROWS, ("", "pos"), ("   ", "neg"), ("NaN", "neg"), ("a text", ""),
        ("good  thing\t1", "pos"), ("good thing 1", "pos"),  # two more of one that is there
        ("caf\u00e9", "pos"), ("cafe\u0301", "pos"),  # one text in two normal forms
    ]  # fmt: skip
    facts = load(table(tmp_path / "a.csv", rows)).facts
    assert facts["rows_read"] == 28
    assert facts["missing_dropped"] == 4
    assert facts["duplicates_removed"] == 3
    assert facts["rows_used"] == 21
    assert sum(facts["rows"].values()) == 21


def test_contradicting_duplicates_take_the_majority_or_go(tmp_path):
    rows = [*ROWS, ("odd", "pos"), ("odd", "pos"), ("odd", "neg"), ("even", "pos"), ("even", "neg")]
    splits = load(table(tmp_path / "a.csv", rows))
    assert splits.facts["conflicting_texts"] == 2
    assert splits.facts["conflicting_texts_dropped"] == 1
    by_text = {
        t: y for s in (splits.train, splits.validation, splits.test) for t, y in zip(s.inputs, s.labels, strict=True)
    }
    assert splits.labels[by_text["odd"]] == "pos"
    assert "even" not in by_text


def test_training_rows_that_stand_in_the_test_file_are_removed_from_train(tmp_path):
    path = table(tmp_path / "train.csv")
    test = table(tmp_path / "test.csv", [("good thing 3 ", "pos"), ("bad thing 4", "neg"), ("new", "neg")])
    splits = load(path, test_path=test)
    assert contents(splits.test) == {"good thing 3 ", "bad thing 4", "new"}
    assert splits.facts["removed_from_train"] == 2
    assert not contents(splits.train) & {"good thing 3", "bad thing 4"}
    assert not contents(splits.validation) & {"good thing 3", "bad thing 4"}
    assert len(splits.train) + len(splits.validation) == 18


def test_validation_rows_that_stand_in_the_test_file_are_removed_too(tmp_path):
    validation = table(tmp_path / "v.csv", [("v1", "pos"), ("v2", "neg"), ("shared", "neg")])
    test = table(tmp_path / "t.csv", [("t1", "pos"), ("t2", "neg"), ("shared", "neg")])
    splits = load(table(tmp_path / "a.csv"), validation_path=validation, test_path=test)
    assert contents(splits.validation) == {"v1", "v2"}
    assert splits.facts["removed_from_validation"] == 1
    assert len(splits.train) == 20, "nothing is carved from train"


def test_the_same_text_has_the_same_id_in_any_data_set(tmp_path):
    one = load(table(tmp_path / "a.csv"))
    two = load(table(tmp_path / "b.csv", [*ROWS, *((f"more {i}", "pos") for i in range(5))]))
    ids = [dict(zip(s.train.inputs, s.train.ids, strict=True)) for s in (one, two)]
    shared = ids[0].keys() & ids[1].keys()
    assert shared
    assert all(ids[0][t] == ids[1][t] and len(ids[0][t]) == 16 for t in shared)


def test_the_digest_changes_with_content_labels_and_seed(tmp_path):
    rows = list(ROWS)
    digests = {load(table(tmp_path / "a.csv")).digest}
    digests.add(data.load(recipe.Data(path=str(tmp_path / "a.csv")), TEXT, 43).digest)
    digests.add(load(table(tmp_path / "b.csv", [*rows[:-1], ("changed", "neg")])).digest)
    digests.add(load(table(tmp_path / "c.csv", [*rows[:-1], (rows[-1][0], "pos")])).digest)
    assert len(digests) == 4


def test_fold_zero_stands_for_the_folds_where_none_is_chosen(tmp_path):
    path = table(tmp_path / "a.csv")
    assert load(path, folds=4).digest == load(path, folds=4, fold=0).digest != load(path, folds=4, fold=1).digest
    assert load(path, folds=4).facts["fold"] == 0


def test_several_labels_a_row(tmp_path):
    rows = [(f"text {i}", str(i % 2), "true" if i % 3 else "FALSE") for i in range(30)]
    path = table(tmp_path / "a.csv", rows, ("text", "rude", "Angry"))
    splits = load(path, label_columns=("angry", "rude"))
    assert splits.multi_label
    assert splits.labels == ("Angry", "rude")
    assert splits.train.labels.dtype == np.float32
    for text, flags in zip(splits.train.inputs, splits.train.labels.tolist(), strict=True):
        i = int(text.split()[1])
        assert flags == [float(i % 3 > 0), float(i % 2)]


def test_a_flag_that_is_neither_zero_nor_one_is_named(tmp_path):
    rows = [(f"text {i}", str(i % 2), "0.5" if i == 6 else "1") for i in range(9)]
    with pytest.raises(DataError, match=r"column 'b' of row 7 of .*a\.csv is '0\.5'; allowed are 0 and 1"):
        load(table(tmp_path / "a.csv", rows, ("text", "a", "b")), label_columns=("a", "b"))


def test_a_flag_that_never_changes_is_refused(tmp_path):
    rows = [(f"text {i}", str(i % 2), "1") for i in range(9)]
    with pytest.raises(DataError, match="label 'b' is 1 in every training row"):
        load(table(tmp_path / "a.csv", rows, ("text", "a", "b")), label_columns=("a", "b"))


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        ([], {}, "has no rows|is empty"),
        ([("", "a"), (" ", "b")], {}, "every text of .* is empty"),
        ([("x", ""), ("y", "")], {}, "every label of .* is empty"),
        ([("x", ""), ("", "a")], {}, "no row of .* has both text and label"),
        ([(f"t{i}", "only") for i in range(9)], {}, "all training rows have the label 'only'"),
        (
            [*ROWS, ("odd one", "maybe")],
            {"labels": ("pos", "neg")},
            r"row 21 of .* has label 'maybe'; allowed are pos, neg",
        ),
        (ROWS, {"labels": ("pos", "neg", "neutral")}, "label 'neutral' of data.labels has no training rows"),
        ([*ROWS, ("single", "rare")], {}, "class 'rare' has 1 rows"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused(tmp_path, rows, settings, message):
    with pytest.raises(DataError, match=message):
        load(table(tmp_path / "a.csv", rows), **settings)


def test_a_label_that_only_the_test_file_has_is_refused(tmp_path):
    test = table(tmp_path / "t.csv", [("t1", "pos"), ("t2", "1")])
    with pytest.raises(DataError, match=r"row 2 of .*t\.csv has label '1'; the training split has neg, pos"):
        load(table(tmp_path / "a.csv"), test_path=test)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.csv", "there is no file or folder"),
        ("tabel.csv", r"did you mean .*table\.csv"),
        ("notes.xyz", r"suffix \.xyz"),
        ("empty", "holds neither tables"),
    ],
)
def test_paths_that_nothing_reads_are_refused(tmp_path, path, message):
    table(tmp_path / "table.csv")
    (tmp_path / "notes.xyz").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        load(tmp_path / path)
    assert re.search(message, str(error.value))


def test_a_path_must_be_given():
    with pytest.raises(DataError, match=r"data\.path is not set"):
        data.load(recipe.Data(), TEXT, 0)


def test_an_unknown_source_lists_those_there_are():
    with pytest.raises(UnknownNameError, match="csv, digits, docstrings"):
        data.load(recipe.Data(source="excel", path="x"), TEXT, 0)


def test_embedded_sources_are_found_by_name_alone():
    splits = data.load(recipe.Data(path="digits", limit=6), IMAGE, 0)
    assert splits.facts["source"] == "digits"
    assert isinstance(splits.train.inputs, Images)
    assert splits.train.inputs[0].shape == (8, 8, 3)


def test_a_source_of_the_other_kind_is_refused():
    with pytest.raises(DataError, match="source digits holds images, the task is text-classification"):
        data.load(recipe.Data(source="digits"), TEXT, 0)


def test_files_of_different_forms_cannot_be_joined(tmp_path):
    rows = [(f"text {i}", str(i % 2), str(i % 3 and 1)) for i in range(12)]
    path = table(tmp_path / "a.csv", rows, ("text", "a", "b"))
    test = table(tmp_path / "b.csv", rows, ("text", "A", "b"))
    with pytest.raises(DataError, match="different things"):
        load(path, label_columns=("a", "b"), test_path=test)
