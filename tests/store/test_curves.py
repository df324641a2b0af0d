"""Curves: spikes stay, and a resumed run does not bend back."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lessen.store.curves import curves


def line(step: int, loss: float | None, attempt: int = 1, **more: Any) -> dict[str, Any]:
    return {"kind": "Progress", "stage": "teacher", "step": step, "attempt": attempt, "loss": loss, **more}


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
