"""A report in a dozen numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lessen.report import Report
from lessen.report.summary import summary_of


def test_the_numbers_are_those_of_what_ships(make_report: Callable[..., Report]) -> None:
    report = make_report()
    found = summary_of(report)
    final, teacher = report.final, report.teacher
    assert final is not None
    assert teacher is not None
    assert found["final_stage"] == final.stage
    assert found["stages"] == [row.stage for row in report.rows]
    assert (found["score_name"], found["score"]) == ("f1_macro", final.value("f1_macro"))
    assert found["teacher_score"] == teacher.value("f1_macro")
    assert found["smaller"] == (teacher.value("file_bytes") or 0) / (final.value("file_bytes") or 1)
    assert found["faster"] == final.value("speedup")
    tested = report.comparison("teacher", final.stage)
    assert found["verdict"] == (tested.verdict if tested else None)


def test_a_run_that_has_just_begun_is_known_by_its_teacher(make_report: Callable[..., Report]) -> None:
    report = make_report()
    begun = report.model_copy(update={"rows": report.rows[:1], "complete": False, "comparisons": []})
    found = summary_of(begun)
    assert (found["complete"], found["final_stage"], found["verdict"]) == (False, "teacher", None)
    empty: dict[str, Any] = summary_of(report.model_copy(update={"rows": [], "comparisons": []}))
    assert (empty["final_stage"], empty["score"], empty["smaller"], empty["stages"]) == (None, None, None, [])
