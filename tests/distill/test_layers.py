import pytest

from lessen.distill.layers import pairs
from lessen.errors import RecipeError


def test_uniform_spreads_the_students_layers_over_the_teachers():
    assert pairs("uniform", 6, 12) == ((1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12))
    assert pairs("uniform", 4, 6) == ((1, 2), (2, 3), (3, 5), (4, 6))
    assert pairs("uniform", 1, 3) == ((1, 3),)


@pytest.mark.parametrize(("student", "teacher"), [(2, 7), (5, 5), (7, 3), (1, 1)])
def test_uniform_ends_at_both_last_layers_and_uses_no_layer_twice(student, teacher):
    chosen = pairs("uniform", student, teacher)
    assert chosen[-1] == (student, teacher)
    assert len({s for s, _ in chosen}) == len({t for _, t in chosen}) == len(chosen) == min(student, teacher)
    assert all(s >= 1 and t >= 1 for s, t in chosen)


def test_stages_are_paired_from_the_last():
    assert pairs("uniform", 5, 4, stages=True) == ((2, 1), (3, 2), (4, 3), (5, 4))


def test_last_pairs_the_last_layers():
    assert pairs("last", 3, 12) == ((3, 12),)


def test_explicit_pairs_are_taken_as_given():
    assert pairs(((1, 4), (2, 9)), 2, 12) == ((1, 4), (2, 9))


def test_a_pair_beyond_the_layers_is_refused_with_both_counts():
    with pytest.raises(RecipeError, match=r"pair \(2, 13\); the student has layers 0 to 2, the teacher 0 to 12"):
        pairs(((1, 4), (2, 13)), 2, 12)


def test_layer_zero_is_refused_where_there_is_none():
    with pytest.raises(RecipeError, match=r"layers 1 to 2"):
        pairs(((0, 1),), 2, 12, lowest=1)


def test_an_empty_map_is_refused():
    with pytest.raises(RecipeError, match="empty"):
        pairs((), 2, 12)
