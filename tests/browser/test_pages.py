"""Every page of the shell: no error on the console, no accessibility violation, no sideways scrolling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from served import Running, eventually
from storied import failed, running

PAGES = ("#/runs", "#/start", "#/system", "#/run/{live}", "#/run/{failed}")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
SMALL = """() => [...document.querySelectorAll(
    "button, select, summary, input:not([type=checkbox], [type=radio]), #sections a, a.button")]
  .filter((node) => node.offsetParent && !node.hidden && node.getBoundingClientRect().height < 43.5)
  .map((node) => `${node.outerHTML.slice(0, 80)} ${node.getBoundingClientRect().height}`)"""


@pytest.fixture(scope="module")
def runs(server: Running) -> Iterator[dict[str, str]]:
    live, broken = running(server.root, "live"), failed(server.root, "broken")
    known = {"live": live.run_id, "failed": broken.run_id}
    eventually(lambda: {r["run_id"] for r in server.get("/api/v1/runs").json()["runs"]} >= set(known.values()))
    yield known
    with suppress(OSError):
        live.close()


def settled(page: Any) -> None:
    page.wait_for_selector("main h1")
    page.wait_for_function("() => !document.querySelector('main .loading')")
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])  # test_journey: the other two as well
@pytest.mark.parametrize("address", PAGES)
def test_a_page_is_sound(
    server: Running, runs: dict[str, str], open_page: Callable[..., Any], address: str, width: int, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(server, address.format(**runs), width=width, scheme=scheme)
    settled(page)
    if "/run/" in address:
        page.wait_for_selector(".uplot canvas")
    found = Axe().run(page, options={"runOnly": list(RULES)}).response["violations"]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate(SMALL) == []
    assert page.title().endswith("lessen")
    assert page.locator("main h1").count() == 1
    assert page.said.lines == []
