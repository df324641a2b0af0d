"""However a run's process dies, the run fails soon and says why; the supervisor and the next run go on."""

from __future__ import annotations

import time

import pytest

from jobs.place import Place, best_of, check_books, left_over, wait_for
from lessen.jobs import Timing

SOON_S = 2.0  # within which a death is known


def end_of(place, what):
    """Return the record of a run that dies as soon as it has begun."""

    def dies():
        run_id = place.run(what)
        wait_for(lambda: place.store.events(run_id, kinds=["StageStarted"]))
        began = time.monotonic()
        record = place.until(run_id)
        seconds = time.monotonic() - began
        check_books(place.store, run_id)
        assert left_over(record.folder) == []
        assert record.worker_pid is None
        return record, seconds

    return best_of(SOON_S, dies)


@pytest.mark.parametrize(
    ("what", "signal", "stderr"),
    [
        ("segfault", "SIGSEGV", "in segfault"),
        ("kill 9", "SIGKILL", ""),
        ("kill 6", "SIGABRT", "in kill"),
        ("leave 3", None, "leaving without a word"),
        ("leave 0", None, "leaving without a word"),
    ],
)
def test_a_worker_that_dies_without_a_word(place, what, signal, stderr):
    record = end_of(place, what)
    assert record.state == "failed"
    assert record.error["message"] == (
        f"the worker was killed by {signal}"
        if signal
        else f"the worker ended with code {what[-1]} and said nothing of it"
    )
    assert record.error.get("signal") == signal
    assert stderr in record.error["stderr"]
    assert len(record.error["stderr"].encode()) <= 4096
    assert "Extension modules" not in record.error["stderr"]


@pytest.mark.parametrize(
    ("what", "code", "kind", "message"),
    [
        ("memory", 7, "out_of_memory", "out of memory"),
        ("full", 7, "disk_full", "the disk is full: model.safetensors"),
        ("wrong", 2, None, "the file has no column 'text'"),
        ("bug", 1, None, "internal: KeyError: 'a bug of ours'"),
    ],
)
def test_an_error_comes_with_its_exit_code_and_hint(place, what, code, kind, message):
    record = end_of(place, what)
    assert record.state == "failed"
    assert (record.error["exit_code"], record.error.get("kind"), record.error["message"]) == (code, kind, message)
    assert record.error["hint"]
    traced = "Traceback" in record.error["stderr"]
    assert traced == (what != "wrong"), "a mistake that the user can mend needs no stack"


def test_what_a_dead_worker_had_started_is_ended_too(place):
    run_id = place.run("orphans")
    folder = place.store.need(run_id).folder
    wait_for(lambda: len(left_over(folder)) >= 3)
    assert place.until(run_id).state == "failed"
    assert left_over(folder) == []


def test_the_next_run_starts_after_a_crash(place):
    first, second = place.run("segfault"), place.run("steps 3")
    assert place.until(second).state == "succeeded"
    assert place.state(first) == "failed"


def test_a_worker_that_never_ends_after_its_success_is_ended(tmp_path):
    place = Place(tmp_path / "runs", timing=Timing(leave=1.0)).start()
    try:
        record = place.until(place.run("linger"))
        assert record.state == "succeeded"
        assert left_over(record.folder) == []
        check_books(place.store, record.run_id)
    finally:
        place.close()


def test_what_libraries_print_and_children_read_leaves_the_pipes_alone(place):
    record = place.until(place.run("chatter"))
    assert record.state == "succeeded"
    assert set((record.folder / "worker.log").read_text().split()) >= {"stdout,", "child"}


@pytest.mark.slow
def test_the_log_is_bounded(place):
    record = place.until(place.run("chatter 3"))
    assert record.state == "succeeded"
    log = (record.folder / "worker.log").read_text()
    assert log.startswith("[the beginning was cut off]")
    assert len(log) < 1 << 20, "3 MB were written"


def test_a_worker_that_cannot_be_started(tmp_path):
    place = Place(tmp_path / "runs", worker=("/nonexistent/python",)).start()
    try:
        record = place.until(place.run("steps 1"))
        assert record.state == "failed"
        assert "did not start" in record.error["message"]
        check_books(place.store, record.run_id)
    finally:
        place.close()
