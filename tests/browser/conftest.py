"""Chromium, and servers with runs whose course is known: no test trains anything unless it says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from served import Running, serving

SLOW_MS = 30_000  # two cores that other tests work on as well


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a token on a free port, for the tests of a file."""
    with serving(tmp_path_factory.mktemp("browser")) as running:
        yield running


class Console:
    """What a page said on its console that nobody wants to read there."""

    def __init__(self, page: Any) -> None:
        self.lines: list[str] = []
        page.on("console", lambda said: said.type in ("error", "warning") and self.lines.append(said.text))
        page.on("pageerror", lambda error: self.lines.append(f"uncaught: {error}"))


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page of a server, logged in: open_page(server, "#/runs", width=320) -> page; page.said is its console."""
    contexts = []

    def make(
        running: Running, address: str = "#/runs", *, width: int = 1280, scheme: str = "light", login: bool = True
    ) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        context.set_default_timeout(SLOW_MS)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=running.url)
        page = context.new_page()
        page.said = Console(page)
        if login:
            assert page.request.post(f"{running.url}/login", data={"token": running.token}).ok
        page.goto(f"{running.url}/{address}")
        return page

    yield make
    for context in contexts:
        context.close()
