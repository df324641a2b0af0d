"""After kill -9 of the server: no worker stays, no run stays running, what waited still waits."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from jobs.place import STAND_IN, Place, check_books, left_over, recipe, serve, wait_for
from lessen.folder import new_id, prepare, read_state
from lessen.jobs import tree
from lessen.store import RunRecord


def killed_server(root, what):
    """Leave a root as a server does that was killed while a run was going on and another one waited."""
    place = Place(root)
    running, waiting = place.run(what), place.run("steps 3")
    server = serve(root)
    wait_for(lambda: place.store.events(running, kinds=["StageStarted"]))
    wait_for(lambda: place.state(running) == "running")
    server.kill()
    server.wait()
    return place, running, waiting


@pytest.mark.slow
@pytest.mark.parametrize("what", ["steps 10000", "stubborn", "children", "hang_in_c", "halt"])
def test_the_next_server_interrupts_what_was_running_and_goes_on_with_the_queue(tmp_path, what):
    place, running, waiting = killed_server(tmp_path / "runs", what)
    assert place.state(running) == "running"
    began = time.monotonic()
    place.start()
    record = place.until(running)
    assert time.monotonic() - began < 5
    assert (record.state, record.error["message"]) == ("interrupted", "the server stopped")
    assert left_over(record.folder) == []
    check_books(place.store, running)
    assert place.until(waiting).state == "succeeded"
    place.close()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["steps 10000", "sleep", "stubborn"])
def test_a_worker_without_a_server_saves_and_leaves_within_ten_seconds(tmp_path, what):
    place, running, _ = killed_server(tmp_path / "runs", what)
    folder = place.store.need(running).folder
    wait_for(lambda: not left_over(folder), timeout=11)
    if what != "stubborn":
        body = read_state(folder)
        assert (body["state"], body["error"]["message"]) == ("interrupted", "the server stopped")
    place.store.close()


@pytest.mark.slow
def test_a_run_that_was_being_cancelled_is_not_left_so(tmp_path):
    place, running, _ = killed_server(tmp_path / "runs", "stubborn")
    place.store.set_state(running, "cancelling")
    place.start()
    assert place.until(running).state == "interrupted"
    place.close()


@pytest.mark.slow
def test_a_run_that_its_worker_ended_itself_keeps_that_end(tmp_path):
    place, running, _ = killed_server(tmp_path / "runs", "steps 10000")
    folder = place.store.need(running).folder
    wait_for(lambda: not left_over(folder))
    from lessen.folder import RunFolder

    RunFolder(folder, running).set_state("succeeded")
    place.start()
    assert place.until(running).state == "succeeded"
    check_books(place.store, running)
    place.close()


def orphaned(root, pid, started):
    """Return a place whose store says that a process works for a run."""
    place = Place(root)
    run_id = new_id("act")
    prepare(root / run_id, recipe("steps 1"), run_id, origin="server")
    place.store.add(
        RunRecord(
            run_id=run_id, folder=root / run_id, name="act", task="text-classification", pipeline="baseline",
            state="running", recipe={}, worker_pid=pid, worker_started=started,
        )
    )  # fmt: skip
    return place, run_id


@pytest.mark.parametrize("older", [False, True], ids=["ticks", "the date of an older version"])
@pytest.mark.parametrize("same", [True, False])
def test_a_number_that_another_process_has_by_now_is_never_ended(tmp_path, same, older):
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    if older:
        started = psutil.Process(sleeper.pid).create_time() - (0 if same else 3600)
    else:
        started = tree.identify(sleeper.pid).started + ("" if same else "1")
    place, run_id = orphaned(tmp_path / "runs", sleeper.pid, started)
    assert place.store.need(run_id).worker_started == started
    place.start()
    assert place.until(run_id).state == "interrupted"
    assert (sleeper.poll() is None) == (not same)
    sleeper.kill()
    sleeper.wait()
    place.close()


def test_a_worker_whose_number_was_not_yet_noted_is_found_by_its_mark(tmp_path):
    place, run_id = orphaned(tmp_path / "runs", None, None)
    folder = place.store.need(run_id).folder
    worker = subprocess.Popen(
        [*STAND_IN, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, tree.MARK: str(folder)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    place.start()
    assert place.until(run_id).state in ("interrupted", "succeeded")
    worker.wait(5)
    worker.stdin.close()
    place.close()


@pytest.mark.slow
def test_a_run_that_somebody_went_on_with_in_a_shell_is_left_to_them(tmp_path):
    from jobs.place import shell

    place, running, waiting = killed_server(tmp_path / "runs", "steps 10000")
    folder = place.store.need(running).folder
    wait_for(lambda: not left_over(folder))
    typed = shell(folder, "steps 10000", name="act")
    wait_for(lambda: read_state(folder)["attempt"] == 2)
    place.start()
    assert place.until(waiting).state == "succeeded"
    wait_for(lambda: running in place.supervisor._outsiders.live)
    assert place.state(running) == "running"
    typed.terminate()
    assert typed.wait(10) == 75
    assert place.until(running).state == "interrupted"
    place.close()
