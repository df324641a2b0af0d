"""A server as its users have it, the application within this process, and runs of others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lessen.server.app import create_app
from lessen.server.settings import Settings
from served import BASE, Outside, Running, eventually, serving
from wires import Listener, known, steps


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


@pytest.fixture
def listen(server: Running) -> Iterator[Callable[..., Listener]]:
    opened: list[Listener] = []

    def make(**more: Any) -> Listener:
        opened.append(Listener(server, **more))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def busy(server: Running, outside: Callable[..., Outside], threads: Any) -> Iterator[tuple[Outside, Callable[[], int]]]:
    """A run that writes all the time, and what stops it and returns its last seq."""
    run, stop = outside(server.root), threading.Event()

    def write() -> None:
        step = 0
        while not stop.is_set():
            run.write(*steps(step, 5))
            step += 5
            time.sleep(0.02)

    writer = threads(write)

    def end() -> int:
        stop.set()
        writer.join()
        return run.write()

    eventually(lambda: known(server, run, 100))
    yield run, end
    stop.set()
