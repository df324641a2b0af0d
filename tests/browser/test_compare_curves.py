"""The training curves of several runs on one chart of the compare page; nothing is trained here."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from lessen.events import Progress, StageStarted
from served import Outside, Running, eventually

STEPS = 30
TWIN = """() => {
  const figure = document.querySelector("#curves figure");
  if (figure.querySelector(".twin").hidden) figure.querySelector("details.menu .button[aria-pressed]").click();
  return [...figure.querySelectorAll(".twin tbody tr")].map((row) => [...row.children].map((cell) => cell.textContent));
}"""


def trained(server: Running, name: str, scale: float) -> str:
    """A run that ended without a report: two stages, the second with losses of scale / step."""
    run = Outside(server.root, name)
    for index, stage in enumerate(("teacher", "distill")):
        run.write(StageStarted(stage=stage, index=index, total=2))
        for step in range(1, STEPS + 1):
            values = {"lr": 0.001 * scale, "rss_bytes": 5e8 * scale}
            run.write(Progress(stage=stage, step=step, total_steps=STEPS, loss=scale / step, values=values))
        if stage == "distill":
            values = {"val_f1_macro": 0.5 + scale / 10}
            run.write(Progress(stage=stage, step=STEPS, total_steps=STEPS, loss=0.1, values=values))
    run.end()
    return run.run_id


@pytest.fixture(scope="module")
def runs(server: Running) -> list[str]:
    made = [trained(server, f"run-{scale}", float(scale)) for scale in (1, 2, 3)]
    eventually(lambda: {r["run_id"] for r in server.get("/api/v1/runs").json()["runs"]} >= set(made))
    return made


def opened(server: Running, open_page: Callable[..., Any], runs: list[str], query: str = "", **more: Any) -> Any:
    page = open_page(server, f"#/compare?runs={','.join(runs)}{query}", **more)
    page.wait_for_selector("#curves .uplot canvas")
    return page


def test_each_run_has_a_line_and_the_numbers_are_the_events(
    server: Running, runs: list[str], open_page: Callable[..., Any]
) -> None:
    page = opened(server, open_page, runs)
    expect(page.locator("#curves .legend .button")).to_have_text(["run-1", "run-2", "run-3"])
    classes = page.locator("#curves .legend line").evaluate_all("(all) => all.map((one) => one.getAttribute('class'))")
    assert classes == ["series-1", "series-2", "series-3"]
    rows = page.evaluate(TWIN)
    assert [rows[0], rows[-1]] == [["step 1", "1", "2", "3"], ["step 30", "0.0333", "0.0667", "0.1"]]
    assert len(rows) == STEPS
    assert page.said.lines == []


def test_the_metric_is_chosen_and_the_address_brings_it_back(
    server: Running, runs: list[str], open_page: Callable[..., Any]
) -> None:
    page = opened(server, open_page, runs)
    page.get_by_label("Curve", exact=True).select_option("rss_bytes")
    expect(page.locator("#curves [role=status]")).to_contain_text("memory (MB) of 3 of 3 runs")
    page.get_by_label("Stage", exact=True).select_option("teacher")
    page.locator("#curves").get_by_role("button", name="Log axis").click()
    page.wait_for_function(
        "() => ['curve=rss_bytes', 'of=teacher', 'log=1'].every((one) => location.hash.includes(one))"
    )
    page.reload()
    page.wait_for_selector("#curves .uplot canvas")
    expect(page.locator("#curves [role=status]")).to_contain_text("Teacher: memory (MB) of 3 of 3 runs")
    page.wait_for_function(f"() => ({TWIN})()[0]?.join(' ') === 'step 1 500 1,000 1,500'")
    assert page.locator("#curves").get_by_role("button", name="Log axis").get_attribute("aria-pressed") == "true"
    options = page.get_by_label("Curve", exact=True).locator("option").all_inner_texts()
    assert options == ["loss", "learning rate", "validation f1 macro", "memory (MB)"]


def test_a_run_that_cannot_be_read_leaves_the_others(
    server: Running, runs: list[str], open_page: Callable[..., Any]
) -> None:
    page = open_page(server, "#/runs")
    refuse = json.dumps({"type": "about:blank", "title": "gone", "status": 500, "detail": "gone"})
    page.route(f"**/runs/{runs[1]}/series*", lambda route: route.fulfill(status=500, body=refuse))
    page.goto(f"{server.url}/#/compare?runs={','.join(runs)}")
    page.wait_for_selector("#curves .uplot canvas")
    expect(page.locator("#curves .legend .button")).to_have_text(["run-1", "run-3"])
    expect(page.locator("#curves [role=status]")).to_contain_text("of 2 of 3 runs")


def test_a_run_has_one_colour_in_the_picture_and_in_the_curves(
    server: Running, runs: list[str], open_page: Callable[..., Any]
) -> None:
    def with_points(route: Any) -> None:
        found = route.fetch().json()
        metrics = [("file_bytes", "bytes", "lower"), ("f1_macro", "share", "higher")]
        found["metrics"] = [{"name": n, "title": n, "unit": unit, "better": better} for n, unit, better in metrics]
        shared = {"stage": "distill", "role": "main", "device": "cpu", "runtime": "torch", "final": True,
                  "comparable": "speed-1", "comparable_quality": "data-1"}  # fmt: skip
        for at, run_id in enumerate(runs[1:], 1):  # the first has no report
            values = {"file_bytes": (1e6 * at, "bytes"), "f1_macro": (0.5 + at / 10, "share")}
            known = {n: {"value": v, "unit": u, "ci95": None, "reason": None} for n, (v, u) in values.items()}
            found["points"].append({"run_id": run_id, "metrics": known, **shared})
        route.fulfill(json=found)

    page = open_page(server, "#/runs")
    page.route("**/api/v1/compare*", with_points)
    page.goto(f"{server.url}/#/compare?runs={','.join(runs)}")
    page.wait_for_selector("#curves .uplot canvas")
    expect(page.locator("#picture .drawing .dot")).to_have_count(2)
    classes = page.locator("#picture .drawing .dot").evaluate_all("(all) => all.map((one) => one.classList.value)")
    assert [next(c for c in one.split() if c in ("c1", "c2", "c3")) for one in classes] == ["c2", "c3"]
    page.locator("[data-control=which]").select_option("all")  # everything is drawn anew; the curves stay
    expect(page.locator("#curves .legend .button")).to_have_count(3)
    assert page.locator("#curves .uplot canvas").count() == 1
    assert page.said.lines == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
def test_the_page_is_sound(
    server: Running, runs: list[str], open_page: Callable[..., Any], width: int, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(server, open_page, runs, width=width, scheme=scheme)
    expect(page.locator("#curves .legend .button")).to_have_count(3)
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
    found = Axe().run(page, options={"runOnly": rules}).response["violations"]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.said.lines == []
