"""Runs that somebody starts in a shell are found, followed, cancelled and told from each other."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest

from jobs.place import Place, check_books, left_over, shell, wait_for
from lessen.folder import disk_bytes, read_state
from lessen.jobs import Timing


@pytest.fixture
def near(tmp_path):
    """A supervisor that looks around often."""
    made = Place(tmp_path / "runs", timing=Timing(scan=0.2, term=1.0, kill=2.0)).start()
    started = []
    made.shell = lambda *words, **more: started.append(shell(*words, **more)) or started[-1]
    yield made
    for process in started:
        process.kill()
        process.wait()
    made.close()


def id_of(place, folder):
    """Return the id of the run in a folder, once the store has it."""
    return wait_for(lambda: next((r.run_id for r in place.store.list()[0] if r.folder == folder), None))


@pytest.mark.parametrize("below", ["typed", "group/typed"])
def test_a_run_of_a_shell_is_followed_to_its_end(near, below):
    folder = near.root / below
    process = near.shell(folder, "steps 60")
    run_id = id_of(near, folder)
    near.until(run_id, "running")
    assert near.supervisor.position(run_id) == 0
    near.steps(run_id, 5)
    assert near.state(run_id) == "running"
    assert process.wait(20) == 0
    record = near.until(run_id)
    assert (record.state, record.origin, record.name) == ("succeeded", "cli", "typed")
    assert record.started is not None
    assert record.disk_bytes == disk_bytes(folder) > 0
    check_books(near.store, run_id)
    assert run_id not in near.supervisor._follower.watched


def test_a_run_of_a_shell_does_not_hold_up_the_queue(near):
    near.shell(near.root / "typed", "steps 1000")
    id_of(near, near.root / "typed")
    run_id = near.run("steps 3")
    assert near.supervisor.position(run_id) == 0
    assert near.until(run_id).state == "succeeded"


@pytest.mark.slow
def test_a_run_of_a_shell_that_is_killed_is_interrupted(near):
    folder = near.root / "typed"
    process = near.shell(folder, "steps 10000")
    run_id = id_of(near, folder)
    near.steps(run_id, 2)
    os.killpg(process.pid, signal.SIGKILL)
    record = near.until(run_id)
    assert (record.state, record.error["message"]) == ("interrupted", "the process that ran it is gone")
    assert read_state(folder)["state"] == "interrupted"
    check_books(near.store, run_id)
    near.supervisor.resume(run_id)
    near.until(run_id, "running")
    near.supervisor.cancel(run_id)
    assert near.until(run_id).state == "cancelled"
    check_books(near.store, run_id)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["steps 10000", "stubborn"])
def test_a_run_of_a_shell_can_be_cancelled(near, what):
    folder = near.root / "typed"
    process = near.shell(folder, what)
    run_id = id_of(near, folder)
    near.until(run_id, "running")
    near.steps(run_id, 2)
    assert near.supervisor.cancel(run_id).state == "cancelling"
    near.supervisor.cancel(run_id)
    assert process.wait(10) != 0
    assert near.until(run_id).state == "cancelled"
    check_books(near.store, run_id)


@pytest.mark.slow
@pytest.mark.parametrize("alive", [True, False])
def test_another_run_in_the_same_folder_mixes_nothing(near, alive):
    folder = near.root / "typed"
    first = near.shell(folder, "steps 10000" if alive else "steps 3")
    old = id_of(near, folder)
    near.steps(old, 2)
    if alive:
        first.kill()
    first.wait()
    written = len((folder / "events.jsonl").read_bytes().splitlines())
    near.shell(folder, "steps 40", name="another")
    new = wait_for(lambda: next((r.run_id for r in near.store.list()[0] if r.run_id != old), None))
    assert near.until(new).state == "succeeded"
    check_books(near.store, new)
    former = wait_for(lambda: (r := near.store.need(old)).deleted_at is not None and r)
    assert former.state == ("interrupted" if alive else "succeeded")
    assert former.seq <= written + 1, "its own lines, and that it was interrupted"
    assert [r.run_id for r in near.store.list()[0]] == [new]


@pytest.mark.slow
def test_what_was_there_before_is_taken_in_and_what_is_no_run_is_not(tmp_path):
    root = tmp_path / "runs"
    for name in ("done", "group/done", "fold-0", ".hidden", "a/b/too-deep"):
        process = shell(root / name, "steps 3", name=name.rpartition("/")[2].strip(".") or "x")
        assert process.wait(30) == 0
    (root / "latest").symlink_to(root / "done")
    (root / "damaged").mkdir()
    (root / "damaged" / "run.json").write_text("{")
    shutil.copytree(root / "done", root / "copy")
    place = Place(root).start()
    wait_for(lambda: place.store.list()[1] == 2)
    late = place.run("steps 1")
    place.until(late)
    wait_for(lambda: all(r.seq for r in place.store.list()[0]))
    found = {str(r.folder.relative_to(root)) for r in place.store.list()[0] if r.run_id != late}
    assert found in ({"done", "group/done"}, {"copy", "group/done"})
    for record in place.store.list()[0]:
        check_books(place.store, record.run_id)
    place.close()


def test_a_run_of_an_older_version_is_taken_in(tmp_path):
    root = tmp_path / "runs"
    assert shell(root / "old", "steps 3").wait(30) == 0
    folder = root / "old"
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    old = [{k: v for k, v in line.items() if k not in ("seq", "attempt", "ts")} for line in lines]
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    body = read_state(folder)
    (folder / "run.json").write_text(json.dumps({**body, "state": "failed", "error": "something; do this"}))
    place = Place(root).start()
    run_id = id_of(place, folder)
    record = place.until(run_id)
    assert record.error["message"] == "something; do this"
    wait_for(lambda: len(place.store.events(run_id)) >= len(lines))
    assert [e["seq"] for e in place.store.events(run_id)] == list(range(1, len(lines) + 1))
    place.close()


@pytest.mark.slow
def test_a_run_of_this_server_that_is_resumed_in_a_shell_is_followed(near):
    run_id = near.run("steps 10000")
    near.steps(run_id, 2)
    near.supervisor.cancel(run_id)
    folder = near.until(run_id).folder
    process = near.shell(folder, "steps 10000", name="act")
    near.until(run_id, "running")
    assert left_over(folder) == []
    process.terminate()
    assert near.until(run_id).state == "interrupted"
    assert near.store.need(run_id).origin == "server"
    check_books(near.store, run_id)


def test_a_store_that_was_lost_is_made_again_from_the_folders(tmp_path):
    place = Place(tmp_path / "runs").start()
    done, waits = place.run("steps 3"), None
    place.until(done)
    place.close()
    waits = Place(tmp_path / "runs")
    waiting = waits.run("steps 3")
    waits.store.close()
    shutil.rmtree(tmp_path / "runs" / ".lessen")
    again = Place(tmp_path / "runs").start()
    wait_for(lambda: again.store.list()[1] == 2)
    assert again.until(done).state == "succeeded"
    size = wait_for(lambda: again.store.need(done).disk_bytes)
    assert size == disk_bytes(again.store.need(done).folder)
    assert again.until(waiting).state == "interrupted", "the queue is lost, and nothing starts unasked"
    for run_id in (done, waiting):
        check_books(again.store, run_id)
    assert again.store.need(done).origin == "server"
    again.close()
