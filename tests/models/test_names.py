"""Modules by pattern: whole names, everything below, and what an error offers."""

import pytest

from lessen.errors import RecipeError
from lessen.models.names import matching

NAMES = (
    "", "bert", "bert.encoder", "bert.encoder.layer.0", "bert.encoder.layer.0.attention",
    "bert.encoder.layer.0.attention.query", "bert.encoder.layer.1", "bert.encoder.layer.1.attention",
    "bert.encoder.layer.10", "classifier", "classifier_dropout",
)  # fmt: skip


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ((), set()),
        (("classifier",), {"classifier"}),
        (("*.layer.0.*",), {"bert.encoder.layer.0.attention", "bert.encoder.layer.0.attention.query"}),
        (("bert.encoder.layer.1",), {"bert.encoder.layer.1", "bert.encoder.layer.1.attention"}),
        (("*.query", "classifier*"), {NAMES[5], "classifier", "classifier_dropout"}),
        (("*",), set(NAMES[1:])),
    ],
)
def test_whole_names_match_and_take_all_below_them_along(patterns, found):
    assert matching(NAMES, patterns, "prune.ignore") == found


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("encoder.layer.0", "*.encoder.layer.0 matches bert.encoder.layer.0"),
        ("clasifier", "did you mean classifier"),
        ("bert.encoder.layr.1", "bert.encoder.layer.1"),
        ("", "names begin with bert, classifier, classifier_dropout"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_with_near_names(pattern, hint):
    with pytest.raises(RecipeError, match=r"quantize.ignore: no module of this model matches") as error:
        matching(NAMES, ("classifier", pattern), "quantize.ignore")
    assert repr(pattern) in error.value.message
    assert hint in error.value.hint
