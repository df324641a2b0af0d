from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from lessen.errors import RecipeError
from lessen.report import check, compare, junit, table


def test_a_drop_within_its_bound_passes_and_beyond_it_fails(make_report: Callable) -> None:
    gates = check(make_report(), {"max_drop": {"f1": 0.02}, "min_speedup": 5, "min_compression": 10})
    assert [g.passed for g in gates] == [True, True, True, True]
    (_, drop) = check(make_report(), {"max_drop": {"f1_macro": 0.01}})
    assert not drop.passed
    assert drop.text == "macro-F1 fell by 0.0140, more than 0.0100"


def test_a_value_that_is_not_known_does_not_pass(make_report: Callable) -> None:
    (_, gate) = check(make_report(timed=False), {"min_speedup": 1.5})
    assert not gate.passed
    assert "measured at the end" in gate.text


def test_a_run_that_is_not_complete_does_not_pass(make_report: Callable) -> None:
    (gate,) = check(make_report(complete=False), {})
    assert not gate.passed


def test_any_stage_and_metric_can_be_bounded(make_report: Callable) -> None:
    gates = check(make_report(), {"stage": "prune", "at_least": {"accuracy": 0.9}, "at_most": {"size": 8e6}})
    assert [(g.name, g.passed) for g in gates[1:]] == [("at_least accuracy", False), ("at_most file_bytes", True)]


@pytest.mark.parametrize("bounds", [{"min_speed": 1}, {"min_speedup": "fast"}, {"stage": "polish"}])
def test_an_unknown_bound_is_refused(make_report: Callable, bounds: dict) -> None:
    with pytest.raises(RecipeError):
        check(make_report(), bounds)


def test_junit_has_one_case_a_gate_and_escapes_text(make_report: Callable) -> None:
    gates = check(make_report(), {"max_drop": {"f1": 0.001}, "min_compression": 10})
    root = ElementTree.fromstring(junit(gates, suite='a"<b>'))
    suite = root[0]
    assert suite.attrib["name"] == 'a"<b>'
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("3", "1")
    assert [len(c.findall("failure")) for c in suite] == [0, 1, 0]


def test_runs_on_other_machines_or_data_are_said_to_be_incomparable(make_report: Callable) -> None:
    first, second = make_report(), make_report()
    second.environment["cpu"] = "Another CPU"
    second.data["digest"] = "cd34"
    found = compare([first, second])
    assert [set(r) == set(found["columns"]) for r in found["rows"]] == [True, True]
    assert any("speed cannot be compared" in r and "Another CPU" in r for r in found["remarks"])
    assert any("another data set or split" in r for r in found["remarks"])
    assert compare([first, first])["remarks"] == []


def test_the_table_has_a_line_a_row_and_the_baseline(make_report: Callable) -> None:
    made = table(make_report())
    assert made.row_count == 8
