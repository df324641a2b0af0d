"""From the form to every page of a finished run, in Chromium, with a real training run and nothing prepared.

Screenshots of every page at two widths, dark and light, are kept in .reports/screens for whoever wants to look.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from served import Running

SCREENS = Path(__file__).parents[2] / ".reports" / "screens"
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
RUN_MS = 600_000  # a run of half a minute, where eleven other things want the processor
PAGES = (
    "runs", "start", "run/{run}", "result/{run}", "layers/{run}", "network/{run}", "compare?runs={run}", "playground",
    "bench/{run}", "learn", "instructions", "assessment", "system",
)  # fmt: skip
STEP = "() => Number((/(\\d+) %/.exec(document.querySelector('.meter-text')?.textContent) ?? [])[1] ?? -1)"


@pytest.fixture(scope="module")
def story(server: Running) -> dict[str, str]:
    """What the tests of this file tell each other, in their order."""
    return {}


def test_a_run_is_started_from_the_form(server: Running, open_page: Callable[..., Any], story: dict[str, str]) -> None:
    page = open_page(server, "#/start?set=%7B%22data%22%3A%7B%22limit%22%3A60%7D%7D")
    page.get_by_label("ResNet-18").check()
    page.get_by_label("Name", exact=True).fill("journey")
    page.wait_for_function("() => !document.querySelector('.button.wide').disabled")
    page.click(".button.wide")
    page.wait_for_url("**/#/run/**")
    page.wait_for_selector("h1 >> text=journey")
    story["run"] = page.url.rpartition("/")[2]
    assert "scratch" in page.inner_text("main")
    assert page.said.lines == []


def test_it_is_watched_live_and_a_reload_in_the_middle_loses_nothing(
    server: Running, open_page: Callable[..., Any], story: dict[str, str]
) -> None:
    page = open_page(server, f"#/run/{story['run']}")
    page.wait_for_selector(".uplot canvas", timeout=RUN_MS)
    page.wait_for_function(f"() => ({STEP})() >= 2", timeout=RUN_MS)
    before = page.evaluate(STEP)
    page.reload()
    page.wait_for_selector(".uplot canvas")
    page.wait_for_function(f"() => ({STEP})() >= {before}", timeout=RUN_MS)
    page.wait_for_function(
        f"() => ({STEP})() > {before} || !document.querySelector('.rail-item.running')", timeout=RUN_MS
    )
    assert page.said.lines == []


def test_another_one_is_cancelled_meanwhile(
    server: Running, open_page: Callable[..., Any], story: dict[str, str]
) -> None:
    body = {"model_name": "ResNet-18", "recipe": {"data": {"limit": 60}}, "name": "unwanted"}
    other = server.post("/api/v1/runs", json=body).json()["run_id"]
    page = open_page(server, f"#/run/{other}")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("Cancel")).first.click()
    page.wait_for_selector("h1 .badge[data-state=cancelled]", timeout=60_000)
    state = server.get(f"/api/v1/runs/{story['run']}").json()["state"]
    assert state in ("running", "succeeded")
    assert page.said.lines == []


def test_its_end_is_shown_without_a_reload(
    server: Running, open_page: Callable[..., Any], story: dict[str, str]
) -> None:
    page = open_page(server, f"#/run/{story['run']}")
    page.wait_for_selector("h1 .badge[data-state=succeeded]", timeout=RUN_MS)
    page.get_by_role("link", name="Result").first.click()
    page.wait_for_url("**/#/result/**")
    page.wait_for_selector("main h1")
    report = server.get(f"/api/v1/runs/{story['run']}/report").json()
    assert report["complete"]
    teacher = next(row for row in report["rows"] if row["stage"] == "teacher")
    shown = f"{100 * teacher['metrics']['accuracy']['value']:.1f}"[:4]
    page.wait_for_function(f"() => document.querySelector('main').textContent.includes('{shown}')")
    assert page.said.lines == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_sound(
    server: Running, open_page: Callable[..., Any], story: dict[str, str], address: str, width: int, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(server, f"#/{address.format(**story)}", width=width, scheme=scheme)
    page.wait_for_selector("main h1", timeout=RUN_MS)
    page.wait_for_function("() => !document.querySelector('main .loading')", timeout=RUN_MS)
    page.wait_for_load_state("networkidle")
    SCREENS.mkdir(parents=True, exist_ok=True)
    name = re.split(r"[/?]", address)[0]
    page.screenshot(path=SCREENS / f"{name}-{width}-{scheme}.png", full_page=True)
    found = Axe().run(page, options={"runOnly": list(RULES)}).response["violations"]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.said.lines == []
