"""How far a run is: from its events alone, forward only."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from lessen.server.meter import PHASES, Meter
from server.runs_in_events import runs

SETTINGS = settings(max_examples=150, deadline=None)


@SETTINGS
@given(runs())
def test_progress_and_phases_only_move_forward_and_end_at_the_end(lines):
    meter, percents, phases = Meter(), [], []
    for line in lines:
        meter.feed(line)
        percents.append(meter.percent)
        phases.append(PHASES.index(meter.phase))
        assert meter.done == (meter.percent == 100.0)
        assert meter.elapsed_s is not None
        assert meter.elapsed_s >= 0
        assert meter.eta_s is None or meter.eta_s >= 0
    assert percents == sorted(percents)
    assert phases == sorted(phases)
    done = [percent == 100.0 for percent in percents]
    assert done == [line["kind"] == "RunFinished" or (line == lines[-1]) for line in lines]
    assert meter.eta_s == 0.0


@SETTINGS
@given(runs(attempts=1))
def test_told_stages_give_the_same_order_of_things(lines):
    stages = tuple(line["stage"] for line in lines if line["kind"] == "StageStarted")
    meter, seen = Meter(stages), []
    for line in lines:
        meter.feed(line)
        seen.append(meter.percent)
        if line["kind"] == "StageStarted":
            assert meter.stage == line["stage"]
    assert seen == sorted(seen)
    assert seen[-1] == 100.0


def line(kind, ts=0.0, attempt=1, **more):
    return {"kind": kind, "ts": ts, "attempt": attempt, **more}


def step(stage, at, total, ts, unit="steps", attempt=1):
    return line("Progress", ts, attempt, stage=stage, step=at, total_steps=total, unit=unit)


def test_work_within_a_stage_moves_it_and_nothing_else_does():
    meter = Meter(("teacher", "distill"))
    meter.feed(line("StageStarted", stage="teacher", index=0, total=2))
    start = meter.percent
    meter.feed(line("Log", ts=500.0, stage="teacher", message="still at it"))
    assert meter.percent == start
    meter.feed(step("teacher", 50, 100, 501.0))
    half = meter.percent
    meter.feed(step("teacher", 100, 100, 502.0))
    assert start < half < meter.percent < 100
    assert (meter.step, meter.total_steps, meter.stage) == (100, 100, "teacher")


def test_the_phases_are_the_predecessors_in_their_order():
    meter, seen = Meter(), []
    for index, stage in enumerate(("teacher", "runtime", "distill", "prune", "export", "quantize")):
        meter.feed(line("StageStarted", stage=stage, index=index, total=6))
        seen.append(meter.phase)
    meter.feed(step("measure", 1, 3, 1.0, "rounds"))
    meter.feed(line("RunFinished", report="r", seconds=1.0))
    assert [*dict.fromkeys(seen), meter.phase] == list(PHASES)
    assert PHASES == ("model_loading", "knowledge_distillation", "pruning", "evaluation", "completed")


def test_an_estimate_comes_with_work_and_grows_smaller():
    meter = Meter(("teacher",))
    meter.feed(line("StageStarted", ts=0.0, stage="teacher", index=0, total=1))
    assert meter.eta_s is None
    meter.feed(step("teacher", 1, 1000, 1.0))
    assert meter.eta_s is None  # a second says nothing
    meter.feed(step("teacher", 250, 1000, 25.0))
    early = meter.eta_s
    meter.feed(step("teacher", 750, 1000, 75.0))
    assert meter.eta_s is not None
    assert early is not None
    assert 0 < meter.eta_s < early
    assert meter.elapsed_s == pytest.approx(75.0)


def test_time_between_attempts_and_a_clock_set_back_do_not_count():
    meter = Meter()
    meter.feed(line("RunStateChanged", ts=100.0, state="running"))
    meter.feed(line("Log", ts=110.0, stage="run", message="x"))
    meter.feed(line("RunStateChanged", ts=5000.0, attempt=2, state="running"))
    assert meter.elapsed_s == pytest.approx(10.0)
    meter.feed(line("Log", ts=1400.0, attempt=2, stage="run", message="an hour earlier"))
    meter.feed(line("Log", ts=1403.0, attempt=2, stage="run", message="x"))
    assert meter.elapsed_s == pytest.approx(13.0)


def test_each_fold_is_a_part_of_the_whole():
    meter = Meter()
    for fold in (1, 2):
        meter.feed(line("Log", stage="run", message=f"fold {fold} of 2"))
        meter.feed(line("StageStarted", stage="teacher", index=0, total=1))
        meter.feed(step("teacher", 10, 10, 1.0))
        meter.feed(step("measure", 3, 3, 2.0, "rounds"))
        assert meter.percent == pytest.approx(50.0 if fold == 1 else 99.0)
    meter.feed(line("RunFinished", report="r", seconds=1.0))
    assert meter.percent == 100.0
