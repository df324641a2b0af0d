"""Runs over HTTP: lists, single ones, recipes, gates, stages."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lessen import report
from lessen.eventlog import EventLog
from lessen.events import Progress, RunStateChanged, StageFinished, StageStarted
from lessen.folder import disk_bytes
from lessen.recipe import parse
from lessen.server.service import Service
from lessen.store import RunRecord

from .conftest import TINY, client_of, service_at

V1 = "/api/v1"
pytestmark = pytest.mark.slow


def test_a_run_of_the_shell_is_listed_with_its_numbers(client: TestClient, run: RunRecord) -> None:
    listed = client.get(f"{V1}/runs").json()
    assert listed["total"] == 1
    (found,) = listed["runs"]
    assert (found["run_id"], found["state"], found["origin"]) == (run.run_id, "succeeded", "cli")
    assert found["progress"]["percent"] == 100.0
    final = report.read(run.folder).final
    assert final is not None
    assert found["summary"]["score"] == final.value("f1_macro")
    assert found["summary"]["smaller"] > 1
    assert found["note"] == "trained from scratch: no pretrained weights"
    assert not found["resumable"]
    assert found["disk_bytes"] == disk_bytes(run.folder) > 0


def test_latest_is_an_id(client: TestClient, run: RunRecord) -> None:
    assert client.get(f"{V1}/runs/latest").json()["run_id"] == run.run_id


@pytest.mark.parametrize(
    ("query", "count"),
    [("state=succeeded", 1), ("state=failed&state=running", 0), ("search=TINY", 1), ("search=nothing", 0),
     ("offset=1", 0), ("deleted=true", 0)],
)  # fmt: skip
def test_lists_are_narrowed(client: TestClient, query: str, count: int) -> None:
    assert len(client.get(f"{V1}/runs?{query}").json()["runs"]) == count


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "offset=-1", "sort=recipe", "state=gone", "deleted=perhaps", "limit=1e3"]
)
def test_queries_out_of_range_are_refused_with_a_problem(client: TestClient, query: str) -> None:
    answer = client.get(f"{V1}/runs?{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["hint"]


def test_an_unknown_run_is_a_problem_everywhere(client: TestClient) -> None:
    paths = ["", "/events", "/series", "/log", "/resources", "/recipe", "/report", "/report.html", "/gates", "/stages",
             "/layers", "/layers/model/histogram", "/samples", "/samples/0/image", "/artifacts",
             "/artifacts/teacher/config.json", "/download", "/files/report.json"]  # fmt: skip
    for path in paths:
        answer = client.get(f"{V1}/runs/nobody{path}")
        assert (path, answer.status_code, answer.json()["exit_code"]) == (path, 404, 4)
    for path in ("cancel", "resume", "restore"):
        assert client.post(f"{V1}/runs/nobody/{path}").status_code == 404
    assert client.delete(f"{V1}/runs/nobody").status_code == 404


def test_the_recipe_comes_as_values_and_as_yaml_of_the_same(client: TestClient) -> None:
    import yaml

    found = client.get(f"{V1}/runs/latest/recipe").json()
    assert parse(yaml.safe_load(found["yaml"])) == parse(found["recipe"]) == parse(TINY)


def test_gates_say_what_was_met(client: TestClient, run: RunRecord) -> None:
    final = report.read(run.folder).final
    assert final is not None
    ratio = client.get(f"{V1}/runs/latest").json()["summary"]["smaller"]
    met = client.get(f"{V1}/runs/latest/gates?max_drop=1&min_compression={ratio * 0.9}").json()
    assert met["met"]
    assert met["stage"] == final.stage
    missed = client.get(f"{V1}/runs/latest/gates?min_compression={ratio * 1.1}").json()
    assert [g["met"] for g in missed["gates"]] == [True, False]
    assert missed["gates"][1]["value"] == pytest.approx(ratio)
    unknown = client.get(f"{V1}/runs/latest/gates?min_speedup=1").json()["gates"][1]
    assert (unknown["met"], unknown["value"]) == (False, None)
    assert "not known" in unknown["text"]
    for query in ("stage=nothing&max_drop=1", "max_drop=nan", "max_drop=1e400", "metric=accuracy", "min_speedup=0"):
        assert client.get(f"{V1}/runs/latest/gates?{query}").status_code == 422


def test_stages_stand_in_the_order_of_the_pipeline(client: TestClient) -> None:
    found = client.get(f"{V1}/runs/latest/stages").json()["stages"]
    assert [s["stage"] for s in found] == ["teacher", "runtime", "distill", "prune", "export", "quantize"]
    assert {s["state"] for s in found} == {"done"}
    assert [s["role"] for s in found] == ["main", "reference", "main", "main", "export", "main"]
    assert all(s["seconds"] > 0 and s["artifact"].startswith("stages/") for s in found)


def test_a_run_goes_into_the_bin_and_out_of_it(made: Path, tmp_path: Path) -> None:
    service = _with_record(tmp_path, "failed")
    client = client_of(service)
    try:
        assert client.get(f"{V1}/runs/one").json()["resumable"]
        gone = client.delete(f"{V1}/runs/one").json()
        assert gone["deleted"]
        assert not gone["resumable"]
        assert client.get(f"{V1}/runs").json()["total"] == 0
        assert client.get(f"{V1}/runs?deleted=true").json()["total"] == 1
        assert client.get(f"{V1}/runs/latest").status_code == 404
        assert not client.post(f"{V1}/runs/one/restore").json()["deleted"]
        assert client.get(f"{V1}/runs").json()["total"] == 1
    finally:
        service.end()


def test_progress_of_a_live_run_grows_with_its_events(tmp_path: Path) -> None:
    service = _with_record(tmp_path, "running")
    client = client_of(service)
    try:
        before = client.get(f"{V1}/runs/one").json()["progress"]
        service.store.update("one", disk_bytes=5)  # of the attempt before this one
        assert client.get(f"{V1}/runs/one").json()["disk_bytes"] is None
        _tell(
            service, StageStarted(stage="teacher", index=0, total=6), Progress(stage="teacher", step=5, total_steps=9)
        )
        now = client.get(f"{V1}/runs/one").json()["progress"]
        assert (now["stage"], now["stage_index"], now["stage_total"]) == ("teacher", 0, 6)
        assert (now["step"], now["total_steps"], now["unit"]) == (5, 9, "steps")
        assert 0 == before["percent"] < now["percent"] < 100
        stages = client.get(f"{V1}/runs/one/stages").json()["stages"]
        assert [s["state"] for s in stages] == ["running", *["waiting"] * 5]
        _tell(service, StageFinished(stage="teacher", artifact="stages/00-teacher", seconds=1.5))
        later = client.get(f"{V1}/runs/one").json()["progress"]
        assert later["percent"] > now["percent"]
        assert client.get(f"{V1}/runs/one/stages").json()["stages"][0]["seconds"] == 1.5
        for path in ("report", "report.html", "gates", "download", "samples"):
            answer = client.get(f"{V1}/runs/one/{path}")
            assert (path, answer.status_code, bool(answer.json()["hint"])) == (path, 409, True)
        assert client.delete(f"{V1}/runs/one").status_code == 409
    finally:
        service.end()


def test_a_run_is_queued_seen_and_cancelled(tmp_path: Path) -> None:
    service = service_at(tmp_path / "runs")
    service.begin()
    client = client_of(service)
    try:
        body = {"recipe": {**TINY, "name": "first"}, "name": "mine"}
        first = client.post(f"{V1}/runs", json=body)
        assert first.status_code == 202
        assert (first.json()["state"], first.json()["name"]) == ("queued", "mine")
        second = client.post(f"{V1}/runs", json={"model_name": "resnet18", "recipe": {"seed": 7}}).json()
        assert second["model_name"] == "ResNet-18"
        assert second["position"] == first.json()["position"] + 1
        assert client.get(f"{V1}/runs/{second['run_id']}/recipe").json()["recipe"]["seed"] == 7
        assert [r["run_id"] for r in client.get(f"{V1}/system").json()["queue"]] == [
            first.json()["run_id"], second["run_id"],
        ]  # fmt: skip
        client.post(f"{V1}/runs/{second['run_id']}/cancel")
        end = time.monotonic() + 20
        while client.get(f"{V1}/runs/{second['run_id']}").json()["state"] != "cancelled":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert client.post(f"{V1}/runs/{second['run_id']}/resume").json()["state"] == "queued"
    finally:
        service.end()


@pytest.mark.parametrize(
    "body",
    [
        {}, {"recipe": {}}, {"model_name": "nothing"}, {"model_name": "resnet18", "preset": "best"},
        {"recipe": {"prune": {"method": "nothing"}}}, {"recipe": {"unknown": 1}}, {"recipe": {"output_dir": "/etc"}},
        {"recipe": {"cache_dir": "/etc"}}, {"name": "../x", "model_name": "resnet18"}, {"recipe": []}, {"else": 1},
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_and_nothing_is_queued(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post(f"{V1}/runs", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert client.get(f"{V1}/runs?state=queued").json()["total"] == 0


def test_a_thousand_runs_are_listed_soon_and_without_their_histories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_at(tmp_path / "runs")
    client = client_of(service)
    recipe = parse(TINY).model_dump(mode="json")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    states = ("succeeded", "failed", "interrupted", "cancelled")
    for i in range(1000):
        service.store.add(
            RunRecord(
                run_id=f"run-{i:04d}", folder=tmp_path / "runs" / f"run-{i:04d}", name=f"run-{i}", pipeline="kd_only",
                task="text-classification", state=states[i % 4], recipe=recipe, attempt=1, seq=5000,
                created=(start + timedelta(minutes=i)).isoformat(), summary={"score": i / 1000, "complete": True},
            )
        )  # fmt: skip

    def forbidden(*_: Any, **__: Any) -> Any:
        raise AssertionError("a list of runs read a history")

    for name in ("events", "series"):
        monkeypatch.setattr(service.store, name, forbidden)
    monkeypatch.setattr(report, "read", forbidden)
    client.get(f"{V1}/runs?limit=1")
    spent = []
    for _ in range(3):
        began = time.perf_counter()
        found = client.get(f"{V1}/runs?limit=50").json()
        spent.append(time.perf_counter() - began)
    assert found["total"] == 1000
    assert [r["run_id"] for r in found["runs"][:2]] == ["run-0999", "run-0998"]
    assert min(spent) < 0.3
    began = time.perf_counter()
    assert len(client.get(f"{V1}/runs?limit=1000").json()["runs"]) == 1000
    assert time.perf_counter() - began < 3
    service.store.close()


def _with_record(tmp_path: Path, state: str) -> Service:
    """A service that looks after nothing, with one run in some state and its folder."""
    from lessen.folder import prepare

    service = service_at(tmp_path / "runs")
    folder = tmp_path / "runs" / "one"
    prepare(folder, parse(TINY), "one")
    values = parse(TINY).model_dump(mode="json")
    service.store.add(
        RunRecord(run_id="one", folder=folder, name="tiny", task="text-classification", pipeline="kd_prune_quant",
                  state=state, recipe=values, attempt=1)
    )  # fmt: skip
    _tell(service, RunStateChanged(state="running"))
    return service


def _tell(service: Service, *events: Any) -> None:
    from lessen.eventlog import read_new

    record = service.store.need("one")
    with EventLog(record.folder / "events.jsonl", attempt=1) as log:
        for event in events:
            log.append(event)
    lines, offset = read_new(record.folder / "events.jsonl", record.offset, record.seq)
    service.store.ingest("one", lines, offset)
