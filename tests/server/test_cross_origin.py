"""A page of another origin in a real browser: it can neither read, nor start, nor connect, even without a token."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from served import Running, eventually, serving

pytestmark = pytest.mark.slow
PAGE = b"<!doctype html><title>elsewhere</title><h1>Elsewhere</h1>"
TRIES = """async (url) => {
  const tried = async (work) => { try { return await work(); } catch (error) { return `failed: ${error.name}`; } };
  const body = JSON.stringify({model_name: "distillBert"});
  const socket = (address) => new Promise((resolve) => {
    const wire = new WebSocket(address);
    wire.onopen = () => resolve("open");
    wire.onerror = () => resolve("failed");
  });
  return {
    read: await tried(async () => (await fetch(`${url}/api/v1/runs`)).text()),
    read_with_cookie: await tried(async () => (await fetch(`${url}/api/v1/runs`, {credentials: "include"})).text()),
    open_read: await tried(async () => (await fetch(`${url}/test`)).text()),
    simple_post: await tried(async () => (await fetch(`${url}/train`, {method: "POST", mode: "no-cors", body})).type),
    empty_post: await tried(async () => (await fetch(`${url}/cancel_training`, {method: "POST",
    mode: "no-cors"})).type),
    json_post: await tried(async () => (await fetch(
      `${url}/train`, {method: "POST", headers: {"Content-Type": "application/json"}, body})).text()),
    beacon: navigator.sendBeacon(`${url}/train`, new Blob([body], {type: "text/plain"})),
    poll: await tried(async () => (await fetch(`${url}/socket.io/?EIO=4&transport=polling`)).text()),
    socket: await socket(`${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`),
    script: await new Promise((resolve) => {
      const script = document.createElement("script");
      script.onload = () => resolve("loaded");
      script.onerror = () => resolve("failed");
      script.src = `${url}/static/app.js`;
      document.head.append(script);
    }),
  };
}"""


class Elsewhere(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield other.server_address[1]
        other.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])  # the same site on another port, and another site
def test_a_page_of_another_origin_can_do_nothing(browser: Browser, elsewhere: int, tmp_path: Path, name: str) -> None:
    with serving(tmp_path, "--no-auth") as server:
        page = browser.new_page()
        page.goto(f"http://{name}:{elsewhere}/")
        found = page.evaluate(TRIES, server.url)
        page.close()
        runs = server.get("/api/v1/runs").json()
    for what in ("read", "read_with_cookie", "open_read", "json_post", "poll"):
        assert found[what].startswith("failed"), what
    assert (found["socket"], found["script"]) == ("failed", "failed")
    assert runs == {"runs": [], "total": 0}


def test_it_cannot_ride_on_a_session_either(browser: Browser, elsewhere: int, server: Running) -> None:
    """The browser is logged in; cookies know no ports, so that it may even send its own along."""
    context = browser.new_context()
    own = context.new_page()
    own.goto(server.login_url)
    before = server.get("/api/v1/runs").json()["total"]
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{elsewhere}/")
    found = page.evaluate(TRIES, server.url)
    context.close()
    assert found["read_with_cookie"].startswith("failed")
    assert found["socket"] == "failed"
    assert server.get("/api/v1/runs").json()["total"] == before


def test_it_cannot_frame_the_dashboard(browser: Browser, elsewhere: int, server: Running) -> None:
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{elsewhere}/")
    frame = "(url) => { const f = document.createElement('iframe'); f.src = url; document.body.append(f); }"
    with page.expect_event("framenavigated", lambda frame: frame.parent_frame is not None):
        page.evaluate(frame, server.url)
    assert "lessen" not in (page.frames[1].title() if "chrome-error" not in page.frames[1].url else "")
    page.close()


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_the_interface(browser: Browser, server: Running, width: int, scheme: Any) -> None:
    """/docs draws itself from /openapi.json, without a word of the console and without a violation of WCAG."""
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.request.post(f"{server.url}/login", data={"token": server.token})
    page.goto(f"{server.url}/docs")
    page.wait_for_selector("details")
    shown = page.locator("details").count()
    page.locator("details summary", has_text="/train").first.click()
    assert "model_name" in page.locator("details[open]").first.inner_text()
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    assert found.response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.fill("#filter", "runs cancel")
    eventually(lambda: page.locator("details:visible").count() < shown)
    context.close()
    assert said == []
    assert all(url.startswith(server.url) for url in asked)
    assert shown > 50
