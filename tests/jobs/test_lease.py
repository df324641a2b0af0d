"""A worker lives as long as it beats, or computes; clocks that jump and machines that sleep end nobody."""

from __future__ import annotations

import time

import pytest

from jobs.place import Place, check_books, left_over, wait_for
from lessen.jobs import Timing


@pytest.fixture
def timed(tmp_path):
    """A supervisor whose clock can be put forward."""
    ahead = [0.0]
    made = Place(tmp_path / "runs", clock=lambda: time.monotonic() + ahead[0]).start()
    made.ahead = ahead
    yield made
    made.close()


def pass_time(place, run_id, seconds):
    """Let the supervisor's clock go faster, in steps that it takes for ticks."""
    for _ in range(int(seconds)):
        place.ahead[0] += 1
        time.sleep(0.06)
        if place.state(run_id) not in ("starting", "running"):
            return


@pytest.mark.slow
@pytest.mark.parametrize("what", ["halt", "hang_in_c"])
def test_a_worker_that_gives_no_sign_of_life_is_ended_and_its_run_failed(timed, what):
    run_id = timed.run(what)
    wait_for(lambda: timed.store.events(run_id, kinds=["StageStarted"]))
    pass_time(timed, run_id, 24)
    assert timed.state(run_id) == "running", "not before its lease is over"
    pass_time(timed, run_id, 20)
    record = timed.until(run_id)
    assert record.state == "failed"
    assert "no sign of life for 3" in record.error["message"]
    assert f"in {what}" in record.error["stderr"], "where it hung"
    assert left_over(record.folder) == []
    check_books(timed.store, run_id)


def test_a_machine_that_slept_ends_nobody(timed):
    run_id = timed.run("steps 100")
    timed.steps(run_id, 3)
    timed.ahead[0] += 3600
    assert timed.until(run_id).state == "succeeded"


@pytest.mark.slow
def test_a_long_call_into_a_library_is_no_death(tmp_path):
    place = Place(tmp_path / "runs", timing=Timing(lease=3.0, busy_leases=2.5)).start()
    run_id = place.run("busy_in_c")
    place.until(run_id, "running")
    began = time.monotonic()
    record = place.until(run_id)
    assert 5 < time.monotonic() - began < 12, "longer than a lease, and not for ever"
    assert record.state == "failed"
    place.close()


def test_the_lease_in_the_store_is_renewed(tmp_path):
    place = Place(tmp_path / "runs", timing=Timing(lease=4.0)).start()
    run_id = place.run("steps 400")
    first = place.until(run_id, "running").lease_until
    assert first > time.time()
    wait_for(lambda: (place.store.need(run_id).lease_until or 0) > first)
    place.close()
