"""The routes of /api/v1 over a run that was really made: tiny, but with every stage, answers and report."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

import animals
from lessen.jobs import Supervisor
from lessen.server import problems, v1
from lessen.server.auth import Auth
from lessen.server.bench import Bench
from lessen.server.live import Live
from lessen.server.service import Service
from lessen.server.settings import Settings
from lessen.server.views import Views
from lessen.store import FOLDER, RunRecord, Store

TINY = animals.docstrings("tiny")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run, made once for all test processes. Copy it; never write into it."""
    from lessen.runner import run

    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if shared.name.startswith("popen-") else shared
    folder = shared / "made-by-v1"
    with (shared / "made-by-v1.lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not (folder / "report.json").is_file():
            run(TINY, out_dir=folder)
    return folder


def service_at(root: Path, bench: Bench | None = None) -> Service:
    settings = Settings(root=root, token_file=root.parent / "token", max_running=0)
    store, auth = Store(root), Auth(settings)
    jobs = Supervisor(store, slots=0)
    views = Views(store, jobs)
    return Service(
        settings, store, jobs, bench or Bench(root / FOLDER / "layers"), views, auth, Live(settings, store, auth, views)
    )


def client_of(service: Service) -> TestClient:
    """The routes alone, without the guards around them."""
    app = FastAPI()
    app.state.service = service
    problems.install(app)
    app.include_router(v1.router)
    return TestClient(app, base_url="http://127.0.0.1:5001", raise_server_exceptions=True, follow_redirects=False)


@pytest.fixture(scope="module")
def service(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service over a root with the tiny run, which it found by itself."""
    root = tmp_path_factory.mktemp("v1") / "runs"
    shutil.copytree(made, root / "tiny", symlinks=True)
    found = service_at(root)
    found.begin()
    try:
        end = time.monotonic() + 30
        while not _known(found):
            assert time.monotonic() < end
            time.sleep(0.05)
        yield found
    finally:
        found.end()


def _known(service: Service) -> bool:
    records, _ = service.store.list()
    return bool(records) and records[0].state == "succeeded" and records[0].summary.get("complete") is True


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return client_of(service)


@pytest.fixture(scope="module")
def run(service: Service) -> RunRecord:
    return service.store.need("latest")
