"""lessen.Client and `--server`, against a real server with a real run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import animals
from lessen.client import Client, ServerError
from lessen.errors import AuthError, NotFoundError, RecipeError
from served import Running, eventually, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Client:
    return Client(server.url, token=server.token)


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A recipe that runs in seconds."""
    return animals.values(animals.table(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def finished(client: Client, values: dict[str, Any]) -> tuple[Any, list[dict[str, Any]]]:
    run = client.start(recipe=values, name="first")
    return run, list(client.watch(run))


def test_every_event_is_seen_once_and_the_run_succeeds(client: Client, finished: Any) -> None:
    run, events = finished
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1))
    assert events[-1] | {"state": "succeeded"} == events[-1]
    assert client.run(run).state == "succeeded"
    assert client.run("latest").percent == 100
    assert [e["seq"] for e in client.watch(run, after=events[-3]["seq"])] == [e["seq"] for e in events[-2:]]


def test_report_and_download_are_those_of_the_folder(
    client: Client, finished: Any, server: Running, tmp_path: Path
) -> None:
    run, _ = finished
    folder = next(server.root.glob(f"{run.run_id}*"))
    assert client.report(run).model_dump(mode="json") == json.loads((folder / "report.json").read_text())
    path = client.download(run, tmp_path)
    assert path.parent == tmp_path
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert any(name.endswith("report.json") for name in archive.namelist())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_models_answer(client: Client, finished: Any) -> None:
    run, _ = finished
    found = client.predict(["one sentence", "another"], run)
    assert {stage["stage"] for stage in found["stages"]} >= {"teacher"}
    assert all(len(stage["answers"]) == 2 for stage in found["stages"] if not stage.get("error"))


def test_a_cancelled_run_can_be_resumed_and_ends_like_an_uninterrupted_one(
    client: Client, values: dict[str, Any], finished: Any
) -> None:
    run = client.start(recipe=values, name="stopped")
    for event in client.watch(run):
        if event["kind"] == "StageFinished":
            assert client.cancel(run).state in ("cancelling", "cancelled")
            break
    ended = client.wait(run)
    assert ended.state == "cancelled"
    assert client.wait(client.resume(ended)).state == "succeeded"
    first, second = (client.report(r).final for r in (finished[0], run))
    assert first is not None
    assert second is not None
    names = [n for n in first.metrics if not any(w in n for w in ("latency", "throughput", "speed", "rss", "seconds"))]
    assert "f1_macro" in names
    assert {n: first.value(n) for n in names} == {n: second.value(n) for n in names}


def test_what_cannot_be_done_is_said(client: Client, server: Running) -> None:
    with pytest.raises(RecipeError, match=r"prune\.remove_frac"):
        client.start(recipe={"prune": {"remove_frac": 7}})
    with pytest.raises(NotFoundError, match="nothing-of-that-name"):
        client.run("nothing-of-that-name")
    with pytest.raises(AuthError):
        Client(server.url, token="x" * 43).runs()
    with pytest.raises(ServerError, match="no server answers"):
        Client("http://127.0.0.1:9").runs()
    with pytest.raises(RecipeError, match="ftp"):
        Client("ftp://127.0.0.1")


def shell(server: Running, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LESSEN_TOKEN": server.token, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lessen", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, check=False)


def test_the_shell_runs_on_the_server(server: Running, values: dict[str, Any], finished: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(values))
    done = shell(server, "run", "recipe.yaml", "--server", server.url, "--name", "shell", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "teacher" in done.stdout
    listed = shell(server, "list", "--server", server.url, "--json", cwd=tmp_path)
    assert json.loads(listed.stdout)["runs"][0]["name"] == "shell"
    shown = shell(server, "show", "latest", "--server", server.url, "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["name"] == "shell"
    assert list(tmp_path.iterdir()) == [recipe]
    queued = shell(server, "run", "recipe.yaml", "--server", server.url, "--detach", cwd=tmp_path)
    run_id = queued.stdout.strip()
    cancelled = shell(server, "cancel", run_id, "--server", server.url, cwd=tmp_path)
    assert cancelled.returncode == 0, cancelled.stderr
    refused = shell(server, "cancel", "nobody", "--server", server.url, "--json", cwd=tmp_path)
    assert refused.returncode == 4
    assert "nobody" in json.loads(refused.stdout)["error"]


def test_a_run_of_the_shell_is_seen_on_the_server_and_the_other_way_round(
    server: Running, client: Client, values: dict[str, Any], finished: Any, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(values))
    folder = server.root / "by-hand"
    done = shell(server, "run", "recipe.yaml", "--output_dir", str(folder), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [found] = eventually(lambda: [r for r in client.runs() if r.info["origin"] == "cli" and r.state == "succeeded"])
    events = list(client.watch(found))
    assert len(events) == len((folder / "events.jsonl").read_text().splitlines())
    assert client.report(found).complete
    listed = shell(server, "list", str(server.root), "--json", cwd=tmp_path)
    assert finished[0].run_id in {r["run_id"] for r in json.loads(listed.stdout)["runs"]}
