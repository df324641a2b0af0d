"""The application as a whole: what it is made of, what it says of itself, and its pages."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from starlette.testclient import TestClient

from lessen.errors import ArtifactError, ConflictError
from lessen.events import Log
from lessen.server.app import create_app
from lessen.server.pages import FILES
from lessen.server.settings import Settings
from served import Outside, eventually

PREDECESSORS = {
    ("POST", "/train"), ("POST", "/cancel_training"), ("GET", "/evaluate"), ("POST", "/evaluate"), ("GET",
    "/matlab_metrics"),
    ("GET", "/get_previous_results"), ("POST", "/test_model"), ("GET", "/test_metrics"), ("GET", "/test"), ("POST",
    "/upload"),
    ("POST", "/visualize"), ("GET", "/download"), ("GET", "/metrics_explanations"), ("GET", "/verify_all_models"),
    ("GET", "/events"),
}  # fmt: skip
VERBS = ("get", "post", "put", "patch", "delete")


def operations(client: TestClient) -> dict[tuple[str, str], dict[str, Any]]:
    document = client.get("/openapi.json").json()
    return {(v.upper(), path): item[v] for path, item in document["paths"].items() for v in VERBS if v in item}


@pytest.mark.slow
def test_the_servers_process_never_imports_torch(tmp_path: Path) -> None:
    """A run in the server's own process would take it along."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom lessen.server.app import create_app\n"
        "from lessen.server.settings import Settings\n"
        f"create_app(Settings(root=Path({str(tmp_path)!r}), auth=False)).openapi()\n"
        "print('IMPORTED', *sorted({'torch', 'transformers', 'onnxruntime', 'datasets', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "IMPORTED"


def test_every_endpoint_of_the_predecessors_is_there(client: TestClient) -> None:
    assert set(operations(client)) >= PREDECESSORS


def test_the_document_covers_every_route(client: TestClient) -> None:
    shown = {path for _, path in operations(client)}
    there = {str(route.path).replace(":path", "") for route in iter_route_contexts(client.app.routes)}  # type: ignore[attr-defined]
    assert there - shown == {"/", "/favicon.ico", "/docs", "/openapi.json", "/static", "/socket.io"}


def test_the_document_says_what_each_operation_may_answer(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["security"] == [{"token": []}]
    assert document["components"]["schemas"]["Problem"]["required"] >= ["type", "title", "status", "detail"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for (verb, path), operation in operations(client).items():
        assert {"4XX", "5XX", "401", "429", "421"} <= set(operation["responses"]), (verb, path)
        assert operation.get("summary"), (verb, path)
        assert (operation.get("security") == []) == ((verb, path) in {("GET", "/test"), ("POST", "/login")})
        if "requestBody" in operation:
            assert {"413", "415", "422"} <= set(operation["responses"]), (verb, path)


def test_no_operation_has_the_name_of_another(client: TestClient) -> None:
    names = [operation["operationId"] for operation in operations(client).values()]
    assert sorted(names) == sorted(set(names))


def test_the_document_without_a_token_asks_for_none(client_of: Callable[..., TestClient]) -> None:
    document = client_of(auth=False).get("/openapi.json").json()
    assert "security" not in document
    assert "securitySchemes" not in document["components"]


def test_the_pages_and_their_files(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name in re.findall(r'(?:src|href)="/?(static/[^"]+)"', page.text + client.get("/docs").text):
        found = client.get(f"/{name}")
        assert found.status_code == 200, name
        kind = {"js": "javascript", "css": "text/css", "svg": "image/svg"}[name.rpartition(".")[2]]
        assert kind in found.headers["content-type"], name
    again = client.get("/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status_code in (200, 304)
    file = client.get("/static/app.js")
    assert client.get("/static/app.js", headers={"If-None-Match": file.headers["etag"]}).status_code == 304
    assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py",
        "/static/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
        "/static//etc/passwd", "/static/C:/windows/win.ini", "/static/..\\app.py", "/static/", "/static/pages",
        "/static/%ff",
        "/static/" + "a" * 300, "/static/" + "a/" * 2000,
    ],
)  # fmt: skip
def test_nothing_beside_the_pages_files_can_be_had(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_every_static_file_is_a_pages_file() -> None:
    kinds = {".js", ".css", ".html", ".svg", ".txt", ".json", ".png", ".md", ""}
    assert {file.suffix for file in FILES.rglob("*") if file.is_file() and "__pycache__" not in file.parts} <= kinds


def test_two_servers_cannot_share_a_root(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    client_of()
    second = create_app(Settings(root=tmp_path / "runs", token_file=tmp_path / "token"))
    with pytest.raises(ConflictError, match=r"\d+"):
        second.state.service.begin()
    second.state.service.end()


def test_a_root_of_a_newer_version_is_refused(client_of: Callable[..., TestClient], tmp_path: Path) -> None:
    service = client_of().app.state.service  # type: ignore[attr-defined]
    with service.store._engine.begin() as db:
        db.exec_driver_sql("PRAGMA user_version = 999")
    with pytest.raises(ArtifactError, match="schema 999"):
        create_app(Settings(root=tmp_path / "runs", token_file=tmp_path / "token"))


def test_a_queue_that_does_not_start(client: TestClient) -> None:
    """max_running=0, which the tests of routes build upon."""
    run = client.post("/api/v1/runs", json={"recipe": {"name": "waits"}})
    assert run.status_code == 202
    assert client.get(f"/api/v1/runs/{run.json()['run_id']}").json()["state"] == "queued"
    assert client.post("/cancel_training").status_code == 200
    assert client.get("/api/v1/runs/latest").json()["state"] == "cancelled"


def test_runs_of_the_shell_are_listed(client: TestClient, outside: Callable[..., Outside], tmp_path: Path) -> None:
    run = outside(tmp_path / "runs", "shell")
    run.write(Log(stage="data", message="hello"))
    found = eventually(lambda: client.get("/api/v1/runs", params={"search": "shell"}).json()["runs"])
    assert (found[0]["run_id"], found[0]["origin"]) == (run.run_id, "cli")
    lines = eventually(lambda: client.get(f"/events?run_id={run.run_id}&after=1").json()["events"])
    assert lines[0]["message"] == "hello"


def test_the_log_of_requests_has_no_queries_and_no_forged_lines(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "lessen.access"):
        client.get("/test?key=secret")
        client.get("/a%0aINFO forged%1b[31m/é")
        client.get("/" + "x" * 5000)
    assert [re.sub(r" \d+\.\d ms$", "", record.getMessage())[:40] for record in caplog.records] == [
        "GET /test 200", "GET /a?INFO?forged?[31m/? 404", ("GET /" + "x" * 100)[:40],
    ]  # fmt: skip
    assert max(len(record.getMessage()) for record in caplog.records) < 400


@pytest.mark.slow
def test_no_answer_holds_nan(client: TestClient) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    client.post("/api/v1/runs", json={"recipe": {"name": "waits"}})
    for (verb, path), _ in operations(client).items():
        if verb == "GET" and "{layer}" not in path:
            path = re.sub(r"{(\w+)}", lambda m: {"run_id": "latest", "index": "0"}.get(m[1], "x"), path)
            answer = client.get(path)
            assert answer.status_code < 500, path
            if "json" in answer.headers.get("content-type", ""):
                json.loads(answer.text, parse_constant=refuse)


ROOT = Path(__file__).parents[2]
SERVED = [*(ROOT / "src" / "lessen").glob("server/**/*.py"), *(ROOT / "src" / "lessen").glob("jobs/*.py")]
FETCHERS = ("urllib.request", "http.client", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "socketserver")


def test_the_server_asks_nobody_else() -> None:
    """No address of a request is ever fetched: nothing that could fetch is imported."""
    assert len(SERVED) > 30
    for file in SERVED:
        text = file.read_text(encoding="utf-8")
        for name in FETCHERS:
            assert not re.search(rf"^\s*(?:import|from)\s+{re.escape(name)}\b", text, re.MULTILINE), (file.name, name)
        assert not re.search(r"yaml\.(?:load|unsafe_load|full_load)\(|trust_remote_code=True|shell=True", text), (
            file.name
        )


FLOORS = {"python-engineio": (4, 13, 2), "python-multipart": (0, 0, 27), "torch": (2, 10), "fastapi": (0, 165)}


@pytest.mark.parametrize("name", FLOORS)
def test_dependencies_with_known_weaknesses_are_excluded(name: str) -> None:
    import tomllib
    from importlib.metadata import version

    def number(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floor = next(line for line in project["dependencies"] if re.match(rf"{name}\b", line))
    assert number(floor.partition(">=")[2]) >= FLOORS[name]
    assert number(version(name)) >= FLOORS[name]
