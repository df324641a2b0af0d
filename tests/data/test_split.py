"""Splits: disjoint by content, stratified, the same for the same content and seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lessen import data, recipe
from lessen.data.clean import Clean, clean, normal_form
from lessen.data.split import assign
from lessen.data.table import PARTS, Table
from lessen.errors import DataError


def rows_of(labels: list, parts: list[str] | None = None) -> Clean:
    n = len(labels)
    names = [f"{i:04d}" for i in range(n)]
    return Clean(names, labels, names, names, parts or [""] * n, {})


def cfg(**more) -> recipe.Data:
    return recipe.Data(path="x", **more)


def write_csv(path, rows) -> str:
    import csv

    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("text", "label"), *rows])
    return str(path)


# few different texts in many spellings: duplicates, contradictions and missing cells are all likely
words = st.sampled_from(
    ["", " ", "red", "red ", " red", "Red", "blue\tsky", "blue sky", "caf\u00e9", "cafe\u0301", "x", "y"]
)
numbered = st.integers(0, 30).map(lambda n: f"text number {n}")
tables = st.lists(st.tuples(words | numbered, st.sampled_from(["a", "b", ""]), st.sampled_from(PARTS)), max_size=60)


@given(tables, st.booleans(), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_splits_of_any_table_are_disjoint_by_content_and_lose_no_row_uncounted(rows, has_parts, seed):
    table = Table(
        kind="text",
        inputs=[text if text.strip() else None for text, _, _ in rows],
        labels=[label or None for _, label, _ in rows],
        places=[f"row {i}" for i in range(len(rows))],
        parts=[part for _, _, part in rows] if has_parts else None,
    )
    try:
        kept = clean(table, ())
        chosen = assign(kept, cfg(), seed)
    except DataError:
        return  # too small a table is refused, which is not what is tested here
    contents = {part: [normal_form(kept.inputs[i]) for i in chosen[part]] for part in PARTS}
    everything = [content for part in PARTS for content in contents[part]]
    assert len(everything) == len(set(everything))
    assert len(everything) == len(kept)
    facts = kept.facts
    gone = ("missing_dropped", "duplicates_removed", "conflicting_texts_dropped", "removed_from_train")
    assert facts["rows_read"] - sum(facts[k] for k in gone) - facts["removed_from_validation"] == facts["rows_used"]
    for i, label in enumerate(kept.labels):  # the label that stays has the majority of its content's rows
        same = Counter(
            y
            for (x, y, p) in rows
            if y and normal_form(x) == normal_form(kept.inputs[i]) and (not has_parts or p == kept.parts[i])
        )
        assert same[label] > max([n for other, n in same.items() if other != label], default=0)


@given(st.permutations(list(range(24))), st.integers(0, 5))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_file_does_not_matter(tmp_path_factory, order, seed):
    rows = [(f"text {i // 2}" + " " * (i % 2), "ab"[i // 2 % 2]) for i in range(24)]
    folder = tmp_path_factory.mktemp("order")
    one = data.load(cfg().model_copy(update={"path": write_csv(folder / "a.csv", rows)}), "text-classification", seed)
    shuffled = [rows[i] for i in order]
    two = data.load(
        cfg().model_copy(update={"path": write_csv(folder / "b.csv", shuffled)}), "text-classification", seed
    )
    assert one.digest == two.digest
    assert one.train.inputs == two.train.inputs


def test_another_seed_gives_another_split():
    rows = rows_of(["a", "b"] * 50)
    one, two = assign(rows, cfg(), 1), assign(rows, cfg(), 2)
    assert one == assign(rows, cfg(), 1)
    assert set(one["test"]) != set(two["test"])


def test_classes_keep_their_shares():
    rows = rows_of(["a"] * 300 + ["b"] * 100)
    chosen = assign(rows, cfg(validation_frac=0.1, test_frac=0.2), 0)
    counts = {part: Counter(rows.labels[i] for i in at) for part, at in chosen.items()}
    assert counts == {
        "train": {"a": 210, "b": 70}, "validation": {"a": 30, "b": 10}, "test": {"a": 60, "b": 20},
    }  # fmt: skip


def test_without_stratification_only_the_sizes_are_kept():
    rows = rows_of(["a"] * 70 + ["b"] * 30)
    chosen = assign(rows, cfg(stratify=False), 0)
    assert {part: len(at) for part, at in chosen.items()} == {"train": 70, "validation": 10, "test": 20}


def test_the_smallest_class_still_has_a_row_everywhere():
    rows = rows_of(["a"] * 40 + ["b"] * 3)
    chosen = assign(rows, cfg(), 0)
    assert all(any(rows.labels[i] == "b" for i in chosen[part]) for part in PARTS)


def test_a_class_too_small_to_split_is_named():
    with pytest.raises(DataError, match="class 'rare' has 2 rows after duplicates were removed; 3 are needed"):
        assign(rows_of(["a"] * 40 + ["rare"] * 2), cfg(), 0)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_test_every_row_exactly_once_and_are_stratified(folds):
    rows = rows_of(["a"] * 23 + ["b"] * 12)
    tested: Counter[int] = Counter()
    for fold in range(folds):
        chosen = assign(rows, cfg(folds=folds, fold=fold), 7)
        assert sorted(i for at in chosen.values() for i in at) == list(range(35))
        for at in chosen.values():
            assert {rows.labels[i] for i in at} == {"a", "b"}
        tested.update(chosen["test"])
    assert tested == Counter(range(35))


@pytest.mark.parametrize(("folds", "enough"), [(2, 4), (3, 3), (5, 5)])
def test_folds_refuse_a_class_that_cannot_be_in_each(folds, enough):
    for fold in range(folds):
        chosen = assign(rows_of(["a"] * 40 + ["b"] * enough), cfg(folds=folds, fold=fold), 0)
        assert all(len([i for i in at if i >= 40]) for at in chosen.values())
    with pytest.raises(DataError, match="class 'b'"):
        assign(rows_of(["a"] * 40 + ["b"] * (enough - 1)), cfg(folds=folds, fold=0), 0)


def test_folds_refuse_data_with_a_test_part_of_its_own():
    rows = rows_of(["a", "b"] * 10, ["train"] * 16 + ["test"] * 4)
    with pytest.raises(DataError, match=r"data\.folds is 3"):
        assign(rows, cfg(folds=3, fold=0), 0)


def test_a_smaller_fraction_is_a_subset_of_a_larger_one_in_every_split():
    rows = rows_of(["a"] * 60 + ["b"] * 40)
    whole, half, tenth = (assign(rows, cfg(fraction=f), 3) for f in (1.0, 0.5, 0.1))
    for part in PARTS:
        assert set(tenth[part]) < set(half[part]) < set(whole[part])
        assert {rows.labels[i] for i in tenth[part]} == {"a", "b"}
    assert sum(map(len, half.values())) == 50


def test_a_part_that_the_source_gives_stays_and_only_the_rest_is_carved():
    rows = rows_of(["a", "b"] * 20, ["train"] * 30 + ["validation"] * 10)
    chosen = assign(rows, cfg(test_frac=0.2), 0)
    assert set(chosen["validation"]) == set(range(30, 40))
    assert len(chosen["test"]) == 6
    assert max(chosen["test"]) < 30


def test_rare_label_combinations_are_spread_together():
    labels = [(1, 0)] * 20 + [(0, 1)] * 20 + [(1, 1)] * 2 + [(0, 0)] * 2
    chosen = assign(rows_of(labels), cfg(), 0)
    assert all(any(i >= 40 for i in at) for at in chosen.values())
    few = assign(rows_of(labels[:41]), cfg(), 0)
    assert sorted(i for at in few.values() for i in at) == list(range(41))


def test_take_keeps_rows_together():
    split = data.Split("train", np.array(["a", "b", "c"]), ["A", "B", "C"], np.array([0, 1, 2]))
    taken = split.take([2, 0])
    assert (taken.ids.tolist(), list(taken.inputs), taken.labels.tolist()) == (["c", "a"], ["C", "A"], [2, 0])
    assert list(split.take(np.array([False, True, False])).inputs) == ["B"]
    assert len(split.take([])) == 0
