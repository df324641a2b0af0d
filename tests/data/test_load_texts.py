"""load() of pairs and documents: each content once, in one split, whatever the order of the file."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from lessen import data, recipe
from lessen.data.docstring_text import documents_of
from lessen.errors import DataError

PAIRS, TEXTS = "seq2seq", "causal-lm"
ROWS = [(f"source {i}", f"target {i}") for i in range(20)]


def pairs(folder, rows=ROWS, name="a.jsonl") -> str:
    path = folder / name
    path.write_text("\n".join(json.dumps({"source": x, "target_text": y}) for x, y in rows), encoding="utf-8")
    return str(path)


def lines(folder, rows, name="a.txt") -> str:
    (folder / name).write_text("\n".join(rows), encoding="utf-8")
    return str(folder / name)


def load(task, path, seed=42, **more) -> data.Splits:
    return data.load(recipe.Data(path=path, **more), task, seed)


def parts(splits) -> tuple[data.Split, ...]:
    return splits.train, splits.validation, splits.test


def contents(splits) -> dict[str, str]:
    return {x: y for split in parts(splits) for x, y in zip(split.inputs, split.labels, strict=True)}


def test_every_pair_is_in_one_split_with_its_target(tmp_path):
    splits = load(PAIRS, pairs(tmp_path))
    assert contents(splits) == dict(ROWS)
    assert [len(split) for split in parts(splits)] == [14, 2, 4]
    assert (splits.labels, splits.train.labels.dtype) == ((), object)
    assert splits.settings.path == str(tmp_path / "a.jsonl")


def test_of_one_source_with_several_targets_the_first_by_content_stays(tmp_path):
    """Translations differ and none is wrong: nothing is voted on, and no source is dropped for its contradictions."""
    more = [
        ("source  3", "another"),
        ("source 3", "a third"),
        ("source 4", "target 4"),
        ("caf\u00e9", "y"),
        ("cafe\u0301", "x"),
    ]
    for rows in ([*ROWS, *more], [*more[::-1], *ROWS[::-1]]):
        splits = load(PAIRS, pairs(tmp_path, rows))
        found = contents(splits)
        assert len(found) == 21
        assert found["source  3"] == "another"
        assert found["cafe\u0301"] == "x"
        assert splits.facts["duplicates_removed"] == 4
        assert splits.facts["sources_with_several_targets"] == 2


@pytest.mark.parametrize("task", [PAIRS, TEXTS])
def test_the_order_of_the_file_does_not_change_the_splits(tmp_path, task):
    rows = ROWS * 2
    mixed = random.Random(0).sample(rows, len(rows))
    made = []
    for order in (rows, mixed):
        path = pairs(tmp_path, order) if task == PAIRS else lines(tmp_path, [x for x, _ in order])
        made.append(load(task, path, **({} if task == PAIRS else {"documents": "line"})))
    assert made[0].digest == made[1].digest
    assert [list(s.inputs) for s in parts(made[0])] == [list(s.inputs) for s in parts(made[1])]
    other = load(task, path, seed=7, **({} if task == PAIRS else {"documents": "line"}))
    assert other.digest != made[0].digest


def test_sources_of_validation_and_test_files_are_removed_from_train(tmp_path):
    train = pairs(tmp_path, [*ROWS, ("held", "one")])
    splits = load(
        PAIRS,
        train,
        validation_path=pairs(tmp_path, [("held", "two"), ("source 1", "z"), ("both", "b")], "v.jsonl"),
        test_path=pairs(tmp_path, [("source  2", "y"), ("both", "c")], "t.jsonl"),
    )
    assert dict(zip(splits.validation.inputs, splits.validation.labels, strict=True)) == {
        "held": "two",
        "source 1": "z",
    }
    assert dict(zip(splits.test.inputs, splits.test.labels, strict=True)) == {"source  2": "y", "both": "c"}
    assert not {"held", "source 1", "source 2"} & set(splits.train.inputs)
    assert (splits.facts["removed_from_train"], splits.facts["removed_from_validation"]) == (3, 1)


def test_ids_cover_source_prefix_and_target_but_the_split_is_decided_without_prefix(tmp_path):
    path = pairs(tmp_path)
    plain, prefixed = load(PAIRS, path), load(PAIRS, path, prefix="to German: ")
    assert [f"to German: {x}" for x in plain.test.inputs] == list(prefixed.test.inputs)
    assert not set(plain.test.ids) & set(prefixed.test.ids)
    changed = load(PAIRS, pairs(tmp_path, [(x, f"{y}!") for x, y in ROWS]))
    assert not {*plain.train.ids, *plain.test.ids} & {*changed.train.ids, *changed.test.ids}
    every = [i for split in parts(plain) for i in split.ids]
    assert len(set(every)) == len(every) == 20


def test_labels_become_words_in_class_order(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"thing {i},{i % 3}\n" for i in range(30)))
    splits = load(PAIRS, str(path), label_words={"0": "bad", "2": "good"}, prefix="rate: ")
    assert splits.task == PAIRS
    assert splits.labels == ("bad", "1", "good")
    assert splits.train.labels.dtype == np.int64
    for split in parts(splits):
        assert [int(x.removeprefix("rate: thing ")) % 3 for x in split.inputs] == split.labels.tolist()
    assert splits.facts["rows_per_class"]["test"] == {"bad": 2, "1": 2, "good": 2}
    as_classes = data.load(recipe.Data(path=str(path)), "text-classification", 42)
    assert [f"rate: {x}" for x in as_classes.test.inputs] == list(splits.test.inputs), "split as classes are"
    assert load(PAIRS, str(path)).labels == ("0", "1", "2")
    assert load(PAIRS, str(path)).digest != splits.digest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"3": "x"}, "label_words has '3'; the labels are 0, 1"),
        ({"0": "same", "1": "same"}, "label words are 'same', 'same'"),
        ({"0": " "}, "label words are ' ', '1'"),
    ],
)
def test_label_words_that_cannot_answer_are_refused(tmp_path, words, message):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "".join(f"thing {i},{i % 2}\n" for i in range(30)))
    with pytest.raises(DataError, match=message):
        load(PAIRS, str(path), label_words=words)


def test_documents_are_deduplicated_and_disjoint(tmp_path):
    rows = [f"line {i % 25}" for i in range(50)] + ["line  3", "", "  "]
    splits = load(TEXTS, lines(tmp_path, rows), documents="line")
    every = [x for split in parts(splits) for x in split.inputs]
    assert {" ".join(x.split()) for x in every} == {f"line {i}" for i in range(25)}
    assert len(every) == 25
    assert splits.facts["duplicates_removed"] == 26
    assert all(label == () for split in parts(splits) for label in split.labels)
    assert splits.facts["characters"]["test"] == sum(map(len, splits.test.inputs))


def test_bytes_are_counted_in_utf8(tmp_path):
    splits = load(TEXTS, lines(tmp_path, [f"ক{i}" for i in range(10)]), documents="line")
    assert splits.facts["characters"]["train"] == 2 * 7
    assert splits.facts["bytes"]["train"] == 4 * 7
    assert splits.facts["rows"] == {"train": 7, "validation": 1, "test": 2}


def test_held_out_texts_are_whole_and_leave_train(tmp_path):
    rows = [f"line {i}" for i in range(30)]
    path = lines(tmp_path, rows)
    plain = load(TEXTS, path, documents="line")
    shared = [plain.train.inputs[0], plain.train.inputs[1], plain.test.inputs[0], "new", "new"]
    held = {"wiki": lines(tmp_path, [x for s in shared for x in (s, "")], "h.txt")}
    splits = load(TEXTS, path, documents="line", held_out=held)
    assert list(splits.held_out["wiki"].inputs) == shared, "a repeated document too, in the order of the file"
    assert len(set(splits.held_out["wiki"].ids)) == 5
    assert set(plain.train.inputs) - set(splits.train.inputs) == set(shared[:2])
    assert list(splits.test.inputs) == list(plain.test.inputs)
    assert splits.facts["held_out_removed_from_train"] == 2
    assert splits.facts["rows"]["wiki"] == 5
    lines(tmp_path, [x for s in [*shared, "more"] for x in (s, "")], "h.txt")
    longer = load(TEXTS, path, documents="line", held_out=held)
    assert list(longer.train.ids) == list(splits.train.ids)
    assert longer.digest != splits.digest


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (TEXTS, {"held_out": {"test": "a.txt"}}, "a text named 'test'"),
        (TEXTS, {"held_out": {"x": "nowhere.txt"}}, "no file or folder nowhere.txt"),
        (TEXTS, {"prefix": "a: "}, "prefix is 'a: ', task is causal-lm"),
        (PAIRS, {"held_out": {"x": "a.txt"}}, "held_out has 'x', task is seq2seq"),
        (PAIRS, {"label_words": {"x": "y"}}, "the data has targets, not labels"),
    ],
)
def test_settings_of_another_task_are_refused(tmp_path, task, settings, message):
    path = pairs(tmp_path) if task == PAIRS else lines(tmp_path, [f"line {i}" for i in range(9)])
    with pytest.raises(DataError, match=message):
        load(task, path, **({"documents": "line"} if task == TEXTS else {}), **settings)


def test_nothing_to_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="has both source and target"):
        load(PAIRS, pairs(tmp_path, [("a", ""), ("", "b")]))
    (tmp_path / "e.jsonl").write_text('{"text": ""}\n{"text": null}')
    with pytest.raises(DataError, match=r"every document of .* is empty"):
        load(TEXTS, str(tmp_path / "e.jsonl"))
    with pytest.raises(DataError, match="the data has 2 rows"):
        load(TEXTS, lines(tmp_path, ["a", "b"]), documents="line")


def test_pydocs_are_whole_documents_unmasked_and_a_limit_is_a_part_of_a_larger_one():
    splits = load(TEXTS, "pydocs", limit=60)
    every = {x for split in parts(splits) for x in split.inputs}
    assert 55 <= len(every) <= 60
    fewer = {x for split in parts(load(TEXTS, "pydocs", limit=20)) for x in split.inputs}
    assert fewer < every
    assert any(len(x) > 600 for x in every), "not cut"
    assert splits.facts["path"] == "Python documentation"
    with pytest.raises(DataError, match="Python documentation has no responses"):
        load(TEXTS, "pydocs", limit=20, supervise="response")


def test_the_choice_of_docstrings_does_not_depend_on_the_order_of_the_files(tmp_path):
    files = []
    for i in range(8):
        files.append(tmp_path / f"m{i}.py")
        files[-1].write_text(f'"""The docstring of module number {i}, long enough to be one."""\n')
    want = documents_of(tmp_path, files, 5)
    assert len(want) == 5
    assert documents_of(tmp_path, files[::-1], 5) == want


def test_docstrings_of_packages_are_documents_too():
    splits = load(TEXTS, "docstrings", labels=("jinja2", "yaml"), limit=30)
    assert sum(map(len, parts(splits))) == 30
    assert "ninja" in " ".join(splits.train.inputs).lower() or "yaml" in " ".join(splits.train.inputs).lower()


def test_data_seed_fixes_the_splits_whatever_the_seed_of_the_recipe() -> None:
    from lessen import data
    from lessen.recipe import Data

    def ids(seed: int, cfg: Data) -> list[str]:
        return [str(i) for i in data.load(cfg, "causal-lm", seed).test.ids]

    free, fixed = Data(source="pydocs", limit=60), Data(source="pydocs", limit=60, seed=7)
    assert ids(1, free) != ids(2, free)
    assert ids(1, fixed) == ids(2, fixed) == ids(7, free)
