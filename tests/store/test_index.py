"""The store: what comes in once stays once, and lists stay fast."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lessen.errors import ArtifactError, NotFoundError, ResourceError
from lessen.store import RunRecord, Store, Upload
from lessen.store import index as store_index


def record(root: Path, run_id: str = "a", **more: Any) -> RunRecord:
    values: dict[str, Any] = {"name": "demo", "task": "t", "pipeline": "kd_only", "state": "queued", "recipe": {"x": 1}}
    return RunRecord(run_id=run_id, folder=root / run_id, **(values | more))


def progress(seq: int, step: int | None = None, attempt: int = 1, **more: Any) -> dict[str, Any]:
    line = {"seq": seq, "attempt": attempt, "ts": 1.0, "kind": "Progress", "stage": "teacher", "unit": "steps"}
    return {**line, "step": seq if step is None else step, "total_steps": 99, "loss": 1.0 / seq, **more}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = Store(tmp_path)
    yield made
    made.close()


def test_a_run_comes_back_as_it_was(store: Store) -> None:
    given = record(store.root, error={"message": "m", "hint": "ä", "exit_code": 2}, summary={"score": 0.5})
    store.add(given)
    assert store.get("a") == given
    assert store.need() == store.need("latest") == given


def test_a_root_that_is_moved_takes_its_runs_along(tmp_path: Path) -> None:
    first = Store(tmp_path / "here")
    first.add(record(tmp_path / "here"))
    first.close()
    (tmp_path / "here").rename(tmp_path / "there")
    second = Store(tmp_path / "there")
    assert second.need("a").folder == tmp_path / "there" / "a"
    second.close()


def test_lines_come_in_once(store: Store) -> None:
    store.add(record(store.root))
    assert [x["seq"] for x in store.ingest("a", [progress(1), progress(2)], 20)] == [1, 2]
    assert [x["seq"] for x in store.ingest("a", [progress(2), progress(3)], 30)] == [3]
    assert [x["seq"] for x in store.events("a")] == [1, 2, 3]
    assert (store.need("a").seq, store.need("a").offset) == (3, 30)


def test_offset_and_lines_stand_or_fall_together(store: Store) -> None:
    store.add(record(store.root))
    store.ingest("a", [progress(1)], 10)
    with pytest.raises(Exception, match="UNIQUE"):
        store.ingest("a", [progress(2), progress(2)], 20)
    assert [x["seq"] for x in store.events("a")] == [1]
    assert store.need("a").offset == 10


def test_events_are_told_from_a_seq_on_and_by_kind(store: Store) -> None:
    store.add(record(store.root))
    log = {"seq": 3, "attempt": 2, "ts": 1.0, "kind": "Log", "stage": "prune", "level": "warning", "message": "m"}
    store.ingest("a", [progress(1), progress(2), log], 30)
    assert [x["seq"] for x in store.events("a", after=1)] == [2, 3]
    assert [x["seq"] for x in store.events("a", limit=1)] == [1]
    assert [x["seq"] for x in store.events("a", kinds=["Log"])] == [3]
    assert [x["seq"] for x in store.events("a", level="warning", stage="prune")] == [3]
    assert [x["seq"] for x in store.events("a", last_attempt=True)] == [3]


def test_the_queue_is_first_come_first_served(store: Store) -> None:
    for run_id, at in (("late", 3.0), ("early", 1.0), ("middle", 2.0)):
        store.add(record(store.root, run_id, queued_at=at))
    assert [r.run_id for r in store.queue()] == ["early", "middle", "late"]
    store.set_state("early", "starting")
    assert [r.run_id for r in store.queue()] == ["middle", "late"]
    assert [r.run_id for r in store.active()] == ["early"]
    assert store.counts() == {"queued": 2, "starting": 1}


def test_a_search_takes_signs_as_they_are(store: Store) -> None:
    store.add(record(store.root, "one", name="50%_cut"))
    store.add(record(store.root, "two", name="half"))
    assert [r.run_id for r in store.list(search="50%_")[0]] == ["one"]
    assert store.list(search="' OR 1=1 --") == ([], 0)


def test_deleted_runs_are_apart(store: Store) -> None:
    store.add(record(store.root, "kept"))
    store.add(record(store.root, "gone", deleted_at=1.0))
    assert [r.run_id for r in store.list()[0]] == ["kept"]
    assert [r.run_id for r in store.list(deleted=True)[0]] == ["gone"]
    store.forget("gone")
    assert store.get("gone") is None


def test_what_is_not_there_is_said(store: Store) -> None:
    with pytest.raises(NotFoundError, match="no run yet"):
        store.need()
    for call in (lambda: store.need("x"), lambda: store.update("x", state="failed"), lambda: store.ingest("x", [], 0)):
        with pytest.raises(NotFoundError, match="'x'"):
            call()


def test_a_newer_store_is_refused_politely(tmp_path: Path) -> None:
    Store(tmp_path).close()
    with sqlite3.connect(tmp_path / ".lessen" / "store.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ArtifactError, match="schema 99"):
        Store(tmp_path)


def test_a_network_mount_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    mount = SimpleNamespace(device="server:/x", mountpoint=str(tmp_path), fstype="nfs4", opts="rw")
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: [mount])
    with pytest.raises(ResourceError, match="nfs4"):
        Store(tmp_path)


def test_several_threads_write_at_once(store: Store) -> None:
    for n in range(4):
        store.add(record(store.root, f"r{n}"))

    def write(run_id: str) -> None:
        for seq in range(1, 31):
            store.ingest(run_id, [progress(seq)], seq)
            store.set_state(run_id, "running", lease_until=float(seq))

    threads = [threading.Thread(target=write, args=(f"r{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [store.need(f"r{n}").seq for n in range(4)] == [30] * 4
    assert [len(store.events(f"r{n}")) for n in range(4)] == [30] * 4


def test_listing_reads_no_history(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(record(store.root))
    store.ingest("a", [progress(n) for n in range(1, 2001)], 9)
    seen: list[str] = []
    store_index.sql.event.listen(store._engine, "before_cursor_execute", lambda *a: seen.append(a[2]))
    store.list()
    assert seen
    assert not any("events" in text for text in seen)


@pytest.mark.slow
def test_a_thousand_runs_are_listed_in_a_moment(store: Store) -> None:
    for n in range(1000):
        store.add(record(store.root, f"r{n:04d}", summary={"score": n / 1000}))
    start = time.monotonic()
    found, total = store.list(limit=1000)
    assert (len(found), total) == (1000, 1000)
    assert time.monotonic() - start < 3  # 0.06 s where nothing else runs


def test_uploads_come_and_go(store: Store) -> None:
    upload = Upload(upload_id="u", kind="table", name="a.csv", path=".lessen/uploads/u", bytes=3, facts={"rows": 2})
    assert store.add_upload(upload) == store.get_upload("u")
    assert list(store.uploads()) == [upload]
    store.delete_upload("u")
    assert store.get_upload("u") is None
