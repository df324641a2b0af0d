from __future__ import annotations

from collections.abc import Callable

import pytest

from lessen.report.distributions import cumulative, reliability
from lessen.report.files import complete
from lessen.report.html import html
from lessen.report.rows import Report
from lessen.report.svg import Scale


def latency(low: float) -> dict:
    return {"latency": {"1": {"n": 155, "quantiles_ms": [low * (1 + k / 100) for k in range(101)]}}}


def sure(accuracy: float) -> dict:
    empty = [{"low": k / 15, "high": (k + 1) / 15, "n": 0, "confidence": None, "accuracy": None} for k in range(15)]
    empty[13] |= {"n": 40, "confidence": 0.9, "accuracy": accuracy}
    empty[8] |= {"n": 10, "confidence": 0.55, "accuracy": 0.5}
    return {"reliability": {"bins": empty}}


@pytest.fixture
def report(make_report: Callable) -> Report:
    made = make_report()
    for k, row in enumerate(made.rows):
        row.facts.update(latency(20.0 / (k + 1)) | sure(0.8 + k / 100))
    return complete(made)


def test_the_latencies_of_the_main_stages_lie_side_by_side_with_their_table(report: Report) -> None:
    found = cumulative(report)
    assert found is not None
    assert found.picture.count("<path") == 4  # teacher, distill, prune, quantize
    heads, *lines = found.table
    assert heads == ["ms a call", "calls", "fastest", "10 %", "50 %", "90 %", "95 %", "slowest"]
    assert [line[0] for line in lines] == ["teacher", "distill", "prune", "quantize"]
    assert lines[0] == ["teacher", "155", "20.0", "22.0", "30.0", "38.0", "39.0", "40.0"]
    assert "teacher: half within 30 ms" in found.picture


def test_an_export_that_ships_is_drawn_as_the_last(report: Report) -> None:
    rows = [r for r in report.rows if r.stage != "quantize"]
    found = cumulative(report.model_copy(update={"rows": rows}))
    assert found is not None
    assert [line[0] for line in found.table[1:]] == ["teacher", "distill", "prune", "export"]


def test_the_reliability_of_teacher_and_final_has_an_empty_bin_nowhere(report: Report) -> None:
    found = reliability(report)
    assert found is not None
    assert found.picture.count("<path") == 2
    assert found.picture.count("<circle") == 4
    assert list(found.table) == [
        ["confidence", *(f"{s}: {c}" for s in ("teacher", "quantize") for c in ("samples", "confidence", "right"))],
        ["0.53–0.60", "10", "0.550", "0.500", "10", "0.550", "0.500"],
        ["0.87–0.93", "40", "0.900", "0.800", "40", "0.900", "0.860"],
    ]


def test_nothing_measured_is_nothing_drawn(make_report: Callable) -> None:
    made = make_report()
    assert cumulative(made) is None
    assert reliability(made) is None
    assert "As a table" not in html(complete(made))


def test_the_page_has_both_pictures_each_with_its_table(report: Report) -> None:
    page = html(report)
    assert page.count("As a table") == 2
    assert "<td>0.87–0.93</td>" in page


def test_the_page_tells_the_code_and_versions_that_computed(report: Report) -> None:
    report.environment.update(
        code={"lessen": {"commit": "a" * 40, "dirty": True}, "folder": None}, recipe_digest="beef", finished="now",
        gpu="Some GPU",
    )  # fmt: skip
    page = html(report)
    for text in (f"commit {'a' * 40}, with changes", "beef", "<dd>now</dd>", "Some GPU", "torch 2.13.0", "ab12"):
        assert text in page
    assert "working folder" not in page


@pytest.mark.parametrize(("low", "high"), [(3.0, 3.6), (0.11, 0.19), (40.0, 41.0), (1.0, 900.0)])
def test_a_logarithmic_axis_has_ticks_however_narrow(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 100, log=True).ticks()
    assert len(ticks) >= 2
    assert all(low <= t <= high for t in ticks)
