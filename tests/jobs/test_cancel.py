"""A cancel is answered at once, final within 15 seconds, and leaves no process, whatever the run is doing."""

from __future__ import annotations

import os
import signal
import time

import pytest

from jobs.place import Place, best_of, check_books, left_over, wait_for
from lessen.jobs import Timing

ANSWER_S = 0.2  # within which a cancel is answered, however long the run takes to end
FAST = Timing(term=1.0, kill=2.0, final=5.0)


@pytest.fixture
def hasty(tmp_path):
    """A supervisor that loses patience sooner, so that tests do."""
    made = Place(tmp_path / "runs", timing=FAST).start()
    yield made
    made.close()


def cancel(place, run_id):
    """Cancel a run and return its record and the seconds that it took to be final."""
    began = time.monotonic()
    place.supervisor.cancel(run_id)
    record = place.until(run_id)
    assert left_over(record.folder) == []
    check_books(place.store, run_id)
    return record, time.monotonic() - began


def begun(place, what):
    run_id = place.run(what)
    wait_for(lambda: place.store.events(run_id, kinds=["StageStarted"]))
    return run_id


@pytest.mark.parametrize("what", ["steps 10000", "halt"])
def test_a_cancel_is_answered_at_once(hasty, what):
    def answered():
        run_id = begun(hasty, what)
        began = time.monotonic()
        assert hasty.supervisor.cancel(run_id).state == "cancelling"
        seconds = time.monotonic() - began
        assert hasty.until(run_id).state == "cancelled"
        return None, seconds

    best_of(ANSWER_S, answered)


def test_a_working_run_stops_at_its_next_step(place):
    run_id = begun(place, "steps 10000")
    place.steps(run_id, 3)
    record, seconds = cancel(place, run_id)
    assert record.state == "cancelled"
    assert seconds < 3
    assert record.error["message"] == "the run was cancelled"


def test_twice_is_fine_and_so_is_a_run_that_ended(place):
    run_id = begun(place, "steps 10000")
    assert place.supervisor.cancel(run_id).state == "cancelling"
    assert place.supervisor.cancel(run_id).state in ("cancelling", "cancelled")
    assert place.until(run_id).state == "cancelled"
    assert place.supervisor.cancel(run_id).state == "cancelled"
    done = place.run("steps 1")
    assert place.until(done).state == "succeeded"
    assert place.supervisor.cancel(done).state == "succeeded"


def test_a_waiting_run_is_cancelled_at_once_and_never_starts(place):
    first, second = begun(place, "steps 10000"), place.run("steps 5")
    assert place.supervisor.cancel(second).state == "cancelled"
    check_books(place.store, second)
    cancel(place, first)
    time.sleep(0.3)
    assert place.state(second) == "cancelled"
    assert [line["state"] for line in place.store.events(second)] == ["queued", "cancelled"]


def test_a_run_that_has_just_been_started(place):
    run_id = place.run("steps 10000")
    place.until(run_id, "starting", "running")
    assert cancel(place, run_id)[0].state == "cancelled"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["hang_in_c", "halt", "stubborn", "sleep"])
def test_a_run_that_comes_to_no_step_is_ended(hasty, what):
    run_id = begun(hasty, what)
    record, seconds = cancel(hasty, run_id)
    assert record.state == "cancelled"
    assert seconds < FAST.final + 1
    assert ("killed" in record.error["message"]) == (what != "sleep"), "Python code is stopped by the signal"


@pytest.mark.slow
def test_a_hung_c_call_is_over_within_fifteen_seconds(place):
    record, seconds = cancel(place, begun(place, "hang_in_c"))
    assert record.state == "cancelled"
    assert seconds < 15


def test_children_in_other_sessions_and_without_parents_are_ended(hasty):
    run_id = begun(hasty, "children")
    wait_for(lambda: len(left_over(hasty.store.need(run_id).folder)) >= 3)
    assert cancel(hasty, run_id)[0].state == "cancelled"


def test_sigterm_to_the_worker_interrupts_the_run(place):
    run_id = begun(place, "steps 10000")
    os.kill(place.store.need(run_id).worker_pid, signal.SIGTERM)
    record = place.until(run_id)
    assert record.state == "interrupted"
    assert "SIGTERM" in record.error["message"]
    assert record.error["exit_code"] == 75
    check_books(place.store, run_id)


def test_the_end_of_the_supervisor_interrupts_the_run(tmp_path):
    place = Place(tmp_path / "runs").start()
    running, waiting = begun(place, "steps 10000"), place.run("steps 5")
    place.supervisor.stop(5)
    record = place.store.need(running)
    assert (record.state, record.error["message"]) == ("interrupted", "the server stopped")
    assert left_over(record.folder) == []
    check_books(place.store, running)
    assert place.state(waiting) == "queued"
    place.store.close()
