"""First come, first served; one at a time; what waits survives the server."""

from __future__ import annotations

import time

import pytest

from jobs.place import Place, check_books, wait_for
from lessen.errors import ArtifactError, ConflictError, NotFoundError, QueueFullError, RecipeError
from lessen.folder import disk_bytes
from lessen.jobs import Events, State, Timing
from lessen.jobs.supervisor import QUEUE
from lessen.store import Store


def order_of(place):
    """Return the runs in the order in which they started."""
    seen = []
    for notice in place.notices:
        if isinstance(notice, State) and notice.record.state == "starting":
            seen.append(notice.record.run_id)
    return seen


@pytest.mark.slow
def test_runs_go_one_at_a_time_in_the_order_they_came(place):
    runs = [place.run("steps 5") for _ in range(4)]
    assert [place.supervisor.position(r) for r in runs[1:]] == [1, 2, 3]
    for run_id in runs:
        assert place.until(run_id).state == "succeeded"
        check_books(place.store, run_id)
    assert order_of(place) == runs
    records = [place.store.need(r) for r in runs]
    assert [r.disk_bytes for r in records] == [disk_bytes(r.folder) for r in records]
    ends = [place.store.events(r.run_id, limit=10_000)[-1]["ts"] for r in records]
    begins = [place.store.events(r.run_id, kinds=["StageStarted"])[0]["ts"] for r in records]
    assert all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))
    assert place.supervisor.position(runs[0]) is None


def test_listeners_hear_states_places_and_every_event_once(place):
    first, second, third = (place.run(w) for w in ("steps 30", "steps 2", "steps 2"))
    place.until(third)
    wait_for(lambda: any(isinstance(n, State) and n.record.state == "succeeded" and n.record.run_id == third
                         for n in place.notices))  # fmt: skip
    states = [n.record.state for n in place.notices if isinstance(n, State) and n.record.run_id == first]
    assert states == ["queued", "starting", "running", "succeeded"]
    places = [n.position for n in place.notices if isinstance(n, State) and n.record.run_id == third]
    assert [p for i, p in enumerate(places) if i == 0 or p != places[i - 1]] == [2, 1, 0, None]
    for run_id in (first, second, third):
        heard = [e["seq"] for n in place.notices if isinstance(n, Events) and n.run_id == run_id for e in n.events]
        assert heard == [e["seq"] for e in place.store.events(run_id, limit=10_000)]


def test_a_listener_that_raises_stops_nothing(place, caplog):
    place.supervisor.listen(lambda notice: 1 / 0)
    remove = place.supervisor.listen(lambda notice: 1 / 0)
    after = []
    place.supervisor.listen(after.append)
    remove()
    assert place.until(place.run("steps 2")).state == "succeeded"
    assert after
    assert "ZeroDivisionError" in caplog.text


def test_the_queue_is_bounded(tmp_path):
    place = Place(tmp_path / "runs")
    for _ in range(QUEUE):
        place.run("steps 1")
    with pytest.raises(QueueFullError, match="20 runs are waiting"):
        place.run("steps 1")
    place.store.close()


def test_what_waits_survives_and_keeps_its_order_when_the_clock_is_set_back(tmp_path, monkeypatch):
    place = Place(tmp_path / "runs")
    now = time.time()
    runs = []
    for ago in (0, 3600, 7200):
        monkeypatch.setattr(time, "time", lambda ago=ago: now - ago)
        runs.append(place.run("steps 1"))
    monkeypatch.undo()
    place.store.close()
    again = Place(tmp_path / "runs").start()
    for run_id in runs:
        assert again.until(run_id).state == "succeeded"
    assert order_of(again) == runs
    again.close()


def test_several_slots_run_side_by_side(tmp_path):
    place = Place(tmp_path / "runs", slots=2).start()
    runs = [place.run("steps 150") for _ in range(3)]
    wait_for(lambda: [place.state(r) for r in runs] == ["running", "running", "queued"])
    assert [place.supervisor.position(r) for r in runs] == [0, 0, 1]
    place.close()


@pytest.mark.slow
def test_a_resumed_run_waits_again_and_gets_another_attempt(place):
    run_id = place.run("steps 200")
    place.steps(run_id, 3)
    with pytest.raises(ConflictError, match="running"):
        place.supervisor.resume(run_id)
    place.supervisor.cancel(run_id)
    place.until(run_id)
    assert place.supervisor.resume(run_id).state == "queued"
    record = place.until(run_id, timeout=30)
    assert (record.state, record.attempt, record.error) == ("succeeded", 2, None)
    lines = check_books(place.store, run_id)
    states = [(e["attempt"], e["state"]) for e in lines if e["kind"] == "RunStateChanged"]
    assert states == [
        (1, "queued"), (1, "running"), (1, "cancelled"), (2, "queued"), (2, "running"), (2, "succeeded")
    ]  # fmt: skip
    with pytest.raises(ConflictError, match="succeeded"):
        place.supervisor.resume(run_id)
    with pytest.raises(NotFoundError):
        place.supervisor.resume("nothing-of-the-kind")


def test_a_name_may_be_given_and_must_be_one(place):
    from jobs.place import recipe

    record = place.supervisor.submit(recipe("steps 1"), name="mine", model_name="distillBert")
    assert record.name == "mine"
    assert record.run_id.startswith("mine-")
    assert record.model_name == "distillBert"
    with pytest.raises(RecipeError):
        place.supervisor.submit(recipe("steps 1"), name="../else")


def test_the_trash(tmp_path):
    place = Place(tmp_path / "runs", timing=Timing(trash=60.0)).start()
    run_id = place.run("steps 10000")
    with pytest.raises(ConflictError, match="cancel it first"):
        place.supervisor.delete(run_id)
    place.supervisor.cancel(run_id)
    folder = place.until(run_id).folder
    assert place.supervisor.delete(run_id).deleted_at is not None
    assert place.store.list()[1] == 0
    assert place.supervisor.restore(run_id).deleted_at is None
    assert place.store.list()[1] == 1
    place.supervisor.delete(run_id)
    assert folder.is_dir(), "kept until it is old enough"
    place.close()

    old = Place(tmp_path / "runs", timing=Timing(trash=-1.0)).start()
    wait_for(lambda: not folder.exists())
    wait_for(lambda: old.store.get(run_id) is None)
    with pytest.raises(NotFoundError):
        old.supervisor.restore(run_id)
    old.close()


def test_a_deleted_run_whose_folder_is_gone_cannot_be_restored(place):
    import shutil

    record = place.until(place.run("steps 1"))
    place.supervisor.delete(record.run_id)
    shutil.rmtree(record.folder)
    with pytest.raises(ArtifactError):
        place.supervisor.restore(record.run_id)


def test_two_servers_on_one_root(place):
    import os

    store = Store(place.root)
    second = Place(place.root)
    with pytest.raises(ConflictError, match=f"process {os.getpid()}"):
        second.supervisor.start()
    store.close()
    second.store.close()
    assert place.until(place.run("steps 1")).state == "succeeded"


def test_samples_of_what_a_run_uses(tmp_path):
    place = Place(tmp_path / "runs", timing=Timing(sample=0.2)).start()
    run_id = place.run("children")
    wait_for(lambda: (found := place.supervisor.resources(run_id)) and found[-1].children)
    last = place.supervisor.resources(run_id)[-1]
    assert last.rss_bytes > 10e6
    assert last.children >= 1
    assert last.gpu_bytes is None
    assert 0 <= last.cpu_percent < 400
    place.supervisor.cancel(run_id)
    place.until(run_id)
    place.close()
