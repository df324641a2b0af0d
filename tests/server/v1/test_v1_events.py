"""Events over HTTP: replay, long-poll, curves, log."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lessen.eventlog import EventLog, read_new
from lessen.events import Log, Progress
from lessen.folder import prepare
from lessen.jobs import Events
from lessen.recipe import parse
from lessen.server.v1 import events as events_module
from lessen.store import RunRecord

from .conftest import TINY, client_of, service_at

V1 = "/api/v1"
pytestmark = pytest.mark.slow


def test_every_line_comes_once_in_order_whatever_the_page(client: TestClient, run: RunRecord) -> None:
    lines, _ = read_new(run.folder / "events.jsonl")
    seen, after, more = [], 0, True
    while more:
        page = client.get(f"{V1}/runs/latest/events?after={after}&limit=7").json()
        seen += page["events"]
        after, more = page["next"], page["more"]
    assert seen == lines
    assert [e["seq"] for e in seen] == list(range(1, len(lines) + 1))
    assert client.get(f"/events?run_id={run.run_id}&after=2&limit=1").json()["events"] == lines[2:3]
    assert client.get(f"{V1}/events?after=2&limit=1").json()["events"] == lines[2:3]


def test_a_finished_run_does_not_keep_a_long_poll_waiting(client: TestClient, run: RunRecord) -> None:
    began = time.monotonic()
    found = client.get(f"{V1}/runs/latest/events?after={run.seq}&wait=10").json()
    assert (found["events"], found["next"], found["state"]) == ([], run.seq, "succeeded")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("query", ["after=-1", "limit=0", "limit=5001", "wait=26", "wait=nan", "wait=-1", "after=1.5"])
def test_queries_out_of_range_are_refused(client: TestClient, query: str) -> None:
    assert client.get(f"{V1}/runs/latest/events?{query}").status_code == 422
    assert client.get(f"/events?{query}").status_code == 422


def test_a_long_poll_answers_when_an_event_comes_and_gives_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "RECHECK_S", 15.0)
    service = service_at(tmp_path / "runs")
    folder = tmp_path / "runs" / "one"
    prepare(folder, parse(TINY), "one")
    values = parse(TINY).model_dump(mode="json")
    service.store.add(
        RunRecord(run_id="one", folder=folder, name="tiny", task="text-classification", pipeline="kd_only",
                  state="running", recipe=values, attempt=1)
    )  # fmt: skip

    def happen() -> None:
        time.sleep(0.3)
        with EventLog(folder / "events.jsonl", attempt=1) as log:
            log.append(Log(stage="teacher", message="now"))
        lines, offset = read_new(folder / "events.jsonl")
        service.store.ingest("one", lines, offset)
        service.jobs._listeners.post(Events("one", lines))
        service.jobs._listeners.deliver()

    with client_of(service) as client:
        began = time.monotonic()
        assert client.get(f"{V1}/runs/one/events?wait=0.5").json()["events"] == []
        assert 0.4 < time.monotonic() - began < 5
        thread = threading.Thread(target=happen)
        thread.start()
        began = time.monotonic()
        found = client.get(f"{V1}/runs/one/events?wait=20").json()
        took = time.monotonic() - began
        thread.join()
    assert [e["message"] for e in found["events"]] == ["now"]
    assert took < 10  # it was woken, it did not look again by itself
    assert service.jobs._listeners._callbacks == []  # whoever waited has gone
    service.store.close()


def test_too_many_waiters_are_told_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    service = service_at(tmp_path / "runs")
    values = parse(TINY).model_dump(mode="json")
    service.store.add(
        RunRecord(run_id="one", folder=tmp_path / "runs" / "one", name="tiny", task="text-classification",
                  pipeline="kd_only", state="running", recipe=values)
    )  # fmt: skip
    monkeypatch.setattr(events_module, "WAITERS", threading.BoundedSemaphore(1))
    events_module.WAITERS.acquire()
    answer = client_of(service).get(f"{V1}/runs/one/events?wait=1")
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    service.store.close()


def test_curves_are_those_of_the_events(client: TestClient, run: RunRecord) -> None:
    lines, _ = read_new(run.folder / "events.jsonl")
    steps = [e for e in lines if e["kind"] == "Progress" and e["stage"] == "distill" and e["unit"] == "steps"]
    wanted = {e["step"]: e["loss"] for e in steps if "val_loss" not in e["values"]}  # an epoch's mean is no step's loss
    validated = {e["step"]: e["values"]["val_loss"] for e in steps if "val_loss" in e["values"]}
    found = client.get(f"{V1}/runs/latest/series?keys=loss,val_loss,nothing&stage=distill").json()
    assert list(found["series"]) == ["distill"]
    assert dict(found["series"]["distill"]["loss"]) == wanted
    assert dict(found["series"]["distill"]["val_loss"]) == validated
    assert "nothing" not in found["series"]["distill"]
    assert found["attempts"] == [1]
    few = client.get(f"{V1}/runs/latest/series?keys=loss&stage=teacher&points=4").json()["series"]["teacher"]["loss"]
    assert len(few) <= 4
    last = client.get(f"{V1}/runs/latest/series?keys=loss&from=10&to=20").json()["series"]
    assert all(10 <= step <= 20 for curves in last.values() for step, _ in curves["loss"])
    for query in ("points=1", "from=-1", "attempt=0", "attempt=best", "points=10001"):
        assert client.get(f"{V1}/runs/latest/series?{query}").status_code == 422


def test_the_log_is_narrowed_by_level_stage_and_words(tmp_path: Path) -> None:
    service = service_at(tmp_path / "runs")
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    with EventLog(folder / "events.jsonl", attempt=1) as log:
        for i in range(30):
            level = ("info", "warning", "error")[i % 3]
            log.append(Log(stage="teacher" if i < 15 else "prune", message=f"line {i} Ünïcode", level=level))
            log.append(Progress(stage="teacher", step=i, total_steps=30))
    service.store.add(
        RunRecord(run_id="one", folder=folder, name="tiny", task="text-classification", pipeline="kd_only",
                  state="failed", recipe={})
    )  # fmt: skip
    service.store.ingest("one", *read_new(folder / "events.jsonl"))
    client = client_of(service)

    def said(query: str) -> list[int]:
        return [int(line["message"].split()[1]) for line in client.get(f"{V1}/runs/one/log?{query}").json()["lines"]]

    assert said("") == list(range(30))
    assert said("level=warning") == [i for i in range(30) if i % 3]
    assert said("level=error&stage=prune") == [i for i in range(15, 30) if i % 3 == 2]
    assert said("search=LINE 7") == [7]
    first = client.get(f"{V1}/runs/one/log?limit=4").json()
    assert first["more"]
    rest = client.get(f"{V1}/runs/one/log?after={first['next']}").json()
    assert [line["seq"] for line in first["lines"] + rest["lines"]] == list(range(1, 61, 2))
    assert not rest["more"]
    assert client.get(f"{V1}/runs/one/log?level=debug").status_code == 422
    service.store.close()
