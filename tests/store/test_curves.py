"""Curves: spikes stay, a resumed run does not bend back, and looking closer shows the same curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lessen.store import RunRecord, Store
from lessen.store import curves as store_curves
from lessen.store.curves import Curves, Histories, History


def line(step: int, loss: float | None, attempt: int = 1, **more: Any) -> dict[str, Any]:
    return {"kind": "Progress", "stage": "teacher", "step": step, "attempt": attempt, "loss": loss, **more}


def curves(lines: Sequence[dict[str, Any]], keys: Sequence[str], points: int, **more: Any) -> Curves:
    history = History()
    for seq, one in enumerate(lines, start=1):
        history.feed({"seq": seq, **one})
    return history.draw(keys, points, **more)


def test_a_later_attempt_replaces_what_it_does_again() -> None:
    lines = [line(s, 1.0) for s in (10, 20, 30, 40)] + [line(s, 2.0, attempt=2) for s in (25, 35)]
    assert curves(lines, ["loss"], 100) == {"teacher": {"loss": [[10, 1.0], [20, 1.0], [25, 2.0], [35, 2.0]]}}


def test_stages_and_keys_are_apart_and_other_work_is_no_step() -> None:
    lines = [
        line(1, 5.0, values={"lr": 0.1}), line(1, 7.0, stage="distill"), line(2, None, values={"val_loss": 3.0}),
        line(9, None, unit="teacher answers"),
    ]  # fmt: skip
    assert curves(lines, ["loss", "lr", "val_loss"], 100) == {
        "teacher": {"loss": [[1, 5.0]], "lr": [[1, 0.1]], "val_loss": [[2, 3.0]]},
        "distill": {"loss": [[1, 7.0]]},
    }


def test_the_mean_losses_of_an_epoch_are_no_points_of_the_curve_of_steps() -> None:
    lines = [line(8, 0.9), line(8, 1.7, values={"val_loss": 0.7, "lr": 0.1})]
    assert curves(lines, ["loss", "lr", "val_loss"], 100) == {"teacher": {"loss": [[8, 0.9]], "val_loss": [[8, 0.7]]}}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(4, 60))
def test_thinning_keeps_the_ends_and_the_extremes(values: list[float], points: int) -> None:
    thin = curves([line(s, v) for s, v in enumerate(values)], ["loss"], points)["teacher"]["loss"]
    assert len(thin) <= max(points, 4)
    assert thin[0] == [0, values[0]]
    assert thin[-1] == [len(values) - 1, values[-1]]
    kept = [v for _, v in thin]
    assert (min(kept), max(kept)) == (min(values), max(values))
    assert [s for s, _ in thin] == sorted({int(s) for s, _ in thin})


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 30)), min_size=1, max_size=60),
    st.none() | st.integers(0, 30), st.none() | st.integers(0, 30),
)  # fmt: skip
def test_a_part_of_a_curve_is_that_part_of_the_whole(
    moves: list[tuple[bool, int]], first: int | None, last: int | None
) -> None:
    lines, attempt = [], 1
    for seq, (again, step) in enumerate(moves):
        attempt += again
        lines.append(line(step, float(seq), attempt))
    part = curves(lines, ["loss"], 1000, step_from=first, step_to=last).get("teacher", {}).get("loss", [])
    low, high = -1 if first is None else first, 99 if last is None else last
    whole = curves(lines, ["loss"], 1000)["teacher"]["loss"]
    assert part == [point for point in whole if low <= point[0] <= high]


def test_a_closer_look_shows_more_points_of_the_part_and_none_of_the_rest() -> None:
    lines = [line(s, float(s % 7)) for s in range(1000)]
    assert curves(lines, ["loss"], 10, step_from=100, step_to=103)["teacher"]["loss"] == [
        [100, 2.0], [101, 3.0], [102, 4.0], [103, 5.0],
    ]  # fmt: skip
    assert len(curves(lines, ["loss"], 10)["teacher"]["loss"]) <= 10


def test_lines_of_other_hands_do_no_harm() -> None:
    odd = [line(1, float("nan")), {"kind": "Progress", "stage": "teacher"}, line(2, 1.0, values={"lr": "high"})]
    assert curves(odd, ["loss", "lr"], 10) == {"teacher": {"loss": [[2, 1.0]]}}


@pytest.fixture
def resumed(tmp_path: Path) -> Any:
    """A store with a run whose attempt 1 went from step 0 to 100, and whose attempt 2 went on from 50 to 60."""
    store = Store(tmp_path)
    store.add(
        RunRecord(run_id="a", folder=tmp_path / "a", name="n", task="t", pipeline="p", state="running", recipe={})
    )
    steps = [(s, 1) for s in range(0, 101, 10)] + [(50, 2), (60, 2)]
    store.ingest("a", [{"seq": n, **line(s, float(a), a)} for n, (s, a) in enumerate(steps, start=1)], 13)
    yield store
    store.close()


def test_a_closer_look_at_a_resumed_run_brings_nothing_of_the_dead_attempt_back(resumed: Store) -> None:
    assert resumed.series("a", ["loss"])["teacher"]["loss"][-2:] == [[50, 2.0], [60, 2.0]]
    assert resumed.series("a", ["loss"], step_from=70, step_to=100) == {}
    assert resumed.series("a", ["loss"], step_from=40, step_to=55)["teacher"]["loss"] == [[40, 1.0], [50, 2.0]]
    assert resumed.series("a", ["loss"], step_from=60, attempt=1)["teacher"]["loss"][-1] == [100, 1.0]
    assert resumed.series("a", ["loss"], attempt=2)["teacher"]["loss"] == [[50, 2.0], [60, 2.0]]
    assert resumed.series("a", ["loss"], stage="distill") == {}


def test_a_curve_goes_on_as_lines_come_in_and_none_is_read_twice(
    resumed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lessen.store.index.PAGE", 3)
    resumed.series("a", ["loss"])
    read: list[int] = []
    feed = History.feed
    monkeypatch.setattr(History, "feed", lambda self, one: (read.append(one["seq"]), feed(self, one)))
    more = [{"seq": 13 + n, **line(60 + n, 3.0, 2)} for n in range(1, 8)]
    resumed.ingest("a", more, 20)
    assert resumed.series("a", ["loss"], step_from=60)["teacher"]["loss"] == [[60, 2.0]] + [
        [60 + n, 3.0] for n in range(1, 8)
    ]
    assert read == list(range(14, 21))
    resumed.series("a", ["loss"])
    assert len(read) == 7


def test_a_run_that_is_forgotten_takes_its_curves_along(resumed: Store) -> None:
    resumed.series("a", ["loss"])
    record = resumed.need("a")
    resumed.forget("a")
    resumed.add(RunRecord(**{**vars(record), "seq": 0, "offset": 0}))
    assert resumed.series("a", ["loss"]) == {}
    resumed.ingest("a", [{"seq": 1, **line(5, 4.0)}], 1)
    assert resumed.series("a", ["loss"]) == {"teacher": {"loss": [[5, 4.0]]}}


def test_what_is_kept_is_bounded_and_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_curves, "KEPT_POINTS", 25)
    monkeypatch.setattr(store_curves, "KEPT", 3)
    kept = Histories()

    def draw(run_id: str, lines: int) -> set[str]:
        history = kept.of(run_id, None)
        for n in range(lines):
            history.feed({"seq": n + 1, **line(n, 1.0)})
        kept.drawn(run_id, None, history)
        return {of for of, _ in kept._kept}

    draw("a", 5)
    draw("b", 10)
    draw("a", 0)
    assert draw("c", 10) == {"a", "b", "c"}
    assert draw("d", 1) == {"a", "c", "d"}  # 26 points would be too many
    assert draw("e", 1) == {"c", "d", "e"}  # and so would be 4 histories
