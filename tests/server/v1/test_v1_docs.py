"""docs/http.md: every route stands there, and every line for the shell does what it says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lessen.server import uploads, v1
from lessen.server.service import Service

from .conftest import TINY, client_of, service_at

DOCS = Path(__file__).parents[3] / "docs" / "http.md"
TEXT = DOCS.read_text(encoding="utf-8")
LINES = [line for line in TEXT.splitlines() if line.startswith("curl ")]


def routes() -> set[tuple[str, str]]:
    from fastapi import FastAPI

    app = FastAPI()
    for part in (v1, uploads):
        app.include_router(part.router)
    return {
        (method.upper(), path)
        for path, item in app.openapi()["paths"].items()
        for method in item
        if path.startswith("/api/v1")
    }


def test_every_route_stands_in_a_table_and_no_other() -> None:
    told = {tuple(m.split()) for m in re.findall(r"^\| `((?:GET|POST|DELETE|PUT) [^`]+)` \|", TEXT, re.MULTILINE)}
    assert told == routes()


def test_every_route_has_a_line_for_the_shell() -> None:
    def path_of(line: str) -> tuple[str, str]:
        words = shlex.split(line)
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if "-F" in words else "GET"
        return method, next(w for w in words if w.startswith("$URL")).removeprefix("$URL").split("?")[0]

    shown = [path_of(line) for line in LINES]
    for method, path in routes():
        form = re.compile(re.sub(r"\{[a-z_]+\}", "[^/]+", path) + "$")
        assert any(m == method and form.match(p) for m, p in shown), (method, path)


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Iterator[tuple[Service, TestClient, dict[str, str]]]:
    """A service with a finished run, one with images, and an upload; its queue does not start."""
    from PIL import Image

    root = tmp_path / "runs"
    for name in ("done", "pictures"):
        shutil.copytree(made, root / name, symlinks=True)
        for file in ("run.json", "report.json"):
            body = json.loads((root / name / file).read_text()) | {"run_id": name}
            (root / name / file).write_text(json.dumps(body))
    (root / "pictures" / "images").mkdir()
    Image.new("L", (4, 4)).save(root / "pictures" / "images" / "000000.png")
    told = json.loads((root / "pictures" / "predictions.json").read_text()) | {"images": "images/%06d.png"}
    (root / "pictures" / "predictions.json").write_text(json.dumps(told))
    service = service_at(root)
    service.begin()
    client = client_of(service)
    client.app.include_router(uploads.router)  # type: ignore[attr-defined]
    try:
        end = time.monotonic() + 60
        while len([r for r in service.store.list()[0] if r.summary]) < 2:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield service, client, {"$DONE": "done", "$IMAGES": "pictures"}
    finally:
        service.end()


@pytest.mark.slow
def test_every_line_does_what_it_says(world: tuple[Service, TestClient, dict[str, str]], tmp_path: Path) -> None:
    service, client, names = world
    (tmp_path / "comments.csv").write_text("text,label\n" + "".join(f"words {i} of it,{i % 2}\n" for i in range(40)))
    names["$RUN"] = client.post("/api/v1/runs", json={"recipe": {**TINY, "name": "queued"}}).json()["run_id"]
    for line in LINES:
        words = shlex.split(line)
        address = next(w for w in words if w.startswith("$URL"))
        for name, value in names.items():
            address = address.replace(name, value)
        address = address.replace("wait=25", "wait=0").removeprefix("$URL")
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        if "-F" in words:
            with (tmp_path / words[words.index("-F") + 1].removeprefix("file=@")).open("rb") as stream:
                answer = client.post(address, files={"file": stream})
            names["$UPLOAD"] = answer.json()["upload_id"]
        else:
            body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
            if body and body.get("run_id"):
                body["run_id"] = "done"
            answer = client.request(method, address, json=body)
        assert answer.status_code < 300, (line, answer.text)
        if method == "DELETE" and "/runs/" in address:
            names["$DELETED"] = names["$RUN"]
        elif address.endswith("/cancel"):
            _until_cancelled(service, names["$RUN"])
    assert service.store.need(names["$DELETED"]).deleted_at is None


def _until_cancelled(service: Service, run_id: str) -> None:
    end = time.monotonic() + 20
    while service.store.need(run_id).state != "cancelled":
        assert time.monotonic() < end
        time.sleep(0.05)


def test_routes_are_declared_with_what_they_answer() -> None:
    from fastapi import FastAPI

    app = FastAPI()
    app.include_router(v1.router)
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            good = [code for code in operation["responses"] if code.startswith("2")]
            assert good, (method, path)
            for code in good:
                content = operation["responses"][code]["content"]
                assert all(c.get("schema") for c in content.values()), (method, path)
            assert {"4XX", "5XX"} <= set(operation["responses"]), (method, path)
