"""A server as its users have it, the application within this process, and runs of others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from served import BASE, Outside, Running, serving
from starlette.testclient import TestClient

from lessen.server.app import create_app
from lessen.server.settings import Settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a token on a free port, for the tests of a file."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def client_of(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Make a TestClient of an application over tmp_path/runs whose queue does not start; it carries the token."""
    with ExitStack() as stack:

        def make(*, token: bool = True, **settings: Any) -> TestClient:
            values = {"root": tmp_path / "runs", "token_file": tmp_path / "token", "max_running": 0, **settings}
            app = create_app(Settings(**values))
            client = TestClient(app, base_url=BASE, raise_server_exceptions=False, follow_redirects=False)
            if token and app.state.service.auth.enabled:
                client.headers["Authorization"] = f"Bearer {(tmp_path / 'token').read_text().strip()}"
            return stack.enter_context(client)

        yield make


@pytest.fixture
def client(client_of: Callable[..., TestClient]) -> TestClient:
    """A client with the token."""
    return client_of()


@pytest.fixture
def outside() -> Iterator[Callable[..., Outside]]:
    """Start runs of another process in a root."""
    started: list[Outside] = []

    def start(root: Path, name: str = "outside") -> Outside:
        started.append(Outside(root, name))
        return started[-1]

    yield start
    for run in started:
        run.close()


@pytest.fixture
def threads() -> Iterator[Callable[[Callable[[], None]], threading.Thread]]:
    """Run functions in threads that are joined at the end."""
    started: list[threading.Thread] = []

    def start(work: Callable[[], None]) -> threading.Thread:
        started.append(threading.Thread(target=work, daemon=True))
        started[-1].start()
        return started[-1]

    yield start
    for thread in started:
        thread.join(30)
