"""The live page: what the run did, as it does it, the same after a reload, whole after a break."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import expect

from lessen.events import Log, StageStarted
from served import Outside, Running, eventually
from storied import BENGALI, distil, failed, progress, resumed, running

POINTS = """async (chart) => {
  const figure = [...document.querySelectorAll("figure.chart")].find((one) => one.textContent.includes(chart));
  if (figure.querySelector(".twin").hidden) figure.querySelector("details.menu .button[aria-pressed]").click();
  return [...figure.querySelectorAll(".twin tbody tr")].map((row) => [...row.children].map((cell) => cell.textContent));
}"""


@pytest.fixture
def run(server: Running) -> Iterator[Outside]:
    known = running(server.root)
    eventually(lambda: server.get(f"/api/v1/runs/{known.run_id}").ok)
    yield known
    with suppress(OSError):
        known.close()


def at(page: Any, text: str) -> Any:
    return page.locator("main").get_by_text(text)


def points(page: Any, last: str) -> list[list[str]]:
    """Return the rows of the loss chart's table once the last one is this."""
    rows = page.evaluate(POINTS, "Loss and its parts")
    if rows and rows[-1][0] == last:
        return rows
    page.wait_for_timeout(100)
    return []


def test_news_come_without_a_reload(server: Running, run: Outside, open_page: Callable[..., Any]) -> None:
    page = open_page(server, f"#/run/{run.run_id}")
    page.wait_for_selector(".uplot canvas")
    assert page.locator(".rail-item.done .rail-name").all_inner_texts()[0] == "Teacher"
    assert page.locator(".rail-item.running .rail-name").all_inner_texts() == ["Distil"]
    distil(run, 11, 30)
    run.write(Log(stage="distill", message="the student has seen half of it"))
    at(page, "the student has seen half of it").wait_for()
    page.wait_for_function("() => document.querySelector('.meter-text').textContent.includes('30 of 40')")
    eventually(lambda: points(page, last="Distil, step 30"))
    run.write(StageStarted(stage="prune", index=2, total=3))
    page.wait_for_selector(".rail-item.running >> text=Prune")


def test_a_reload_and_a_second_browser_show_the_same(
    server: Running, run: Outside, open_page: Callable[..., Any]
) -> None:
    page = open_page(server, f"#/run/{run.run_id}")
    page.wait_for_selector(".uplot canvas")
    distil(run, 11, 25)
    page.wait_for_function("() => document.querySelector('.meter-text').textContent.includes('25 of 40')")
    seen = eventually(lambda: points(page, last="Distil, step 25"))
    other = open_page(server, f"#/run/{run.run_id}")
    other.wait_for_selector(".uplot canvas")
    page.reload()
    page.wait_for_selector(".uplot canvas")
    for again in (page, other):
        again.wait_for_function("() => document.querySelector('.meter-text').textContent.includes('25 of 40')")
        assert eventually(lambda again=again: points(again, last="Distil, step 25")) == seen
    assert len(seen) == 40 + 25
    assert page.evaluate("() => Object.keys(localStorage)") == []


def test_after_a_break_the_missed_events_are_replayed(
    server: Running, run: Outside, open_page: Callable[..., Any]
) -> None:
    page = open_page(server, f"#/run/{run.run_id}")
    page.wait_for_selector(".uplot canvas")
    page.wait_for_selector("#connection[data-state=online]")
    page.context.set_offline(True)
    page.wait_for_selector("#connection[data-state=offline]", timeout=60_000)
    distil(run, 11, 35)
    run.write(Log(stage="distill", message="said while nobody listened"))
    page.context.set_offline(False)
    badge = page.locator("main").get_by_text(re.compile(r"reconnected, \d+ events replayed"))
    badge.wait_for()
    assert "26 events" in badge.inner_text()
    at(page, "said while nobody listened").wait_for()
    rows = eventually(lambda: points(page, last="Distil, step 35"))
    assert [row[0] for row in rows[-25:]] == [f"Distil, step {n}" for n in range(11, 36)]


def test_what_went_wrong_is_marked_and_listed(server: Running, run: Outside, open_page: Callable[..., Any]) -> None:
    page = open_page(server, f"#/run/{run.run_id}")
    page.wait_for_selector(".event.bad")
    assert "not finite at step 21" in page.inner_text(".event.bad")
    assert "clipped in 3 steps" in page.inner_text(".event.warning")
    page.click(".event.warning button")
    page.wait_for_function("() => document.querySelector('.readout').textContent.includes('Teacher, step 7')")
    assert "gradient clipped" in page.locator(".readout").first.inner_text()
    assert page.evaluate("() => document.activeElement.className") == "plot"


def test_the_validation_stands_beside_the_teachers_best(
    server: Running, run: Outside, open_page: Callable[..., Any]
) -> None:
    page = open_page(server, f"#/run/{run.run_id}")
    page.wait_for_selector(".val .uplot canvas")
    rows = page.evaluate(POINTS, "Validation so far")
    assert rows == [["Teacher, step 20", "0.7"], ["Teacher, step 40", "0.9"]]
    level = page.evaluate("""async () => {
      const { Story } = await import("/static/pages/run/story.js");
      const story = new Story({ error: null, progress: {}, summary: {} });
      const accuracy = [[20, 0.7], [40, 0.9], [60, 0.8]];
      story.takeSeries({ teacher: { val_accuracy: accuracy, val_loss: [[20, 0.9], [40, 0.4]] } });
      return [story.level("val_accuracy"), story.level("val_loss"), story.level("val_bleu")];
    }""")
    assert level == [0.9, 0.4, None]


def test_the_log_is_filtered_and_bengali_is_marked(
    server: Running, run: Outside, open_page: Callable[..., Any]
) -> None:
    page = open_page(server, f"#/run/{run.run_id}")
    lines = page.locator(".log li")
    at(page, BENGALI).wait_for()
    assert lines.count() == 2
    assert page.locator(".log [lang=bn]").inner_text() == BENGALI
    page.get_by_label("Level").select_option("warning")
    page.wait_for_function("() => document.querySelectorAll('.log li').length === 1")
    assert "not finite" in lines.inner_text()
    page.get_by_label("Level").select_option("info")
    page.get_by_label("Search the log").fill("মন্তব্য")
    page.wait_for_function("() => document.querySelectorAll('.log li').length === 1")
    assert BENGALI in lines.inner_text()


def test_the_view_stands_in_the_address_and_comes_back(
    server: Running, run: Outside, open_page: Callable[..., Any]
) -> None:
    page = open_page(server, f"#/run/{run.run_id}")
    page.wait_for_selector(".uplot canvas")
    page.locator(".log li").first.wait_for()
    loss = page.locator("figure.chart").filter(has_text="Loss and its parts")
    page.get_by_label("Stage shown").select_option("teacher")
    loss.get_by_role("button", name="Log axis").click()
    page.evaluate(
        "() => { const r = document.querySelector('.smoothing input'); "
        "r.value = 0.9; r.dispatchEvent(new Event('input')); }"
    )
    page.get_by_label("Level").select_option("warning")
    page.get_by_label("Search the log").fill("finite")
    loss.locator(".plot").focus()
    for key in ("Home", "+"):
        page.keyboard.press(key)
    said = ("stage=teacher", "log=loss", "smooth=0.9", "level=warning", "search=finite", "zoom=")
    page.wait_for_function("(said) => said.every((one) => location.hash.includes(one))", arg=said)
    address = page.url.partition("#")[2]
    page.close()
    again = open_page(server, f"#{address}")
    again.wait_for_selector(".uplot canvas")
    again.locator(".log li").first.wait_for()
    assert again.get_by_label("Stage shown").input_value() == "teacher"
    assert again.get_by_label("Level").input_value() == "warning"
    assert again.get_by_label("Search the log").input_value() == "finite"
    assert again.locator(".smoothing input").input_value() == "0.9"
    assert again.get_by_role("button", name="Log axis").first.get_attribute("aria-pressed") == "true"
    expect(again.locator(".log li")).to_have_count(1)
    rows = eventually(lambda: points(again, last="Teacher, step 40"))
    assert len(rows) == 40  # the other stage is left out
    again.get_by_label("Level").select_option("info")
    again.get_by_label("Search the log").fill("")
    again.wait_for_function("() => !/level|search/.test(location.hash) && location.hash.includes('zoom=')")
    assert again.said.lines == []


def test_an_address_that_names_nothing_known_shows_everything(
    server: Running, run: Outside, open_page: Callable[..., Any]
) -> None:
    query = "stage=no&metric=no&smooth=7&zoom=9..1&level=no&logstage=no&log=no"
    page = open_page(server, f"#/run/{run.run_id}?{query}")
    page.wait_for_selector(".uplot canvas")
    expect(page.locator(".log li")).to_have_count(2)
    rows = eventually(lambda: points(page, last="Distil, step 10"))
    assert len(rows) == 40 + 10
    assert page.said.lines == []


def test_a_failed_run_says_why_and_resuming_does_not_bend_its_curve(
    server: Running, open_page: Callable[..., Any]
) -> None:
    run = failed(server.root)
    eventually(lambda: server.get(f"/api/v1/runs/{run.run_id}").json().get("state") == "failed")
    page = open_page(server, f"#/run/{run.run_id}")
    page.wait_for_selector(".problem")
    assert "loss_soft is not finite at step 11" in page.inner_text(".problem")
    assert "lower distill.train.lr" in page.inner_text(".problem")
    assert page.get_by_role("button", name="Resume").is_visible()
    page.wait_for_selector(".uplot canvas")
    with resumed(run) as lines:  # goes on from step 6, with other losses
        lines.append(StageStarted(stage="distill", index=1, total=3))
        for step in range(6, 13):
            lines.append(progress("distill", step, 100.0 + step))
        page.wait_for_selector("h1 .badge[data-state=running]")
        page.get_by_label("Attempt shown").wait_for()
        rows = eventually(lambda: points(page, last="Distil, step 12"))
        assert [(row[0], row[1]) for row in rows[-9:-5]] == [
            ("Distil, step 4", "0.25"), ("Distil, step 5", "0.2"), ("Distil, step 6", "106"), ("Distil, step 7", "107"),
        ]  # fmt: skip
        page.get_by_label("Attempt shown").select_option("1")
        rows = eventually(lambda: points(page, last="Distil, step 10"))
        assert [row[1] for row in rows[-2:]] == ["0.111", "0.1"]
        page.reload()
        page.wait_for_selector(".uplot canvas")
        assert len(eventually(lambda: points(page, last="Distil, step 12"))) == 40 + 12


def test_cancelling_asks_first_and_says_what_became_of_it(server: Running, open_page: Callable[..., Any]) -> None:
    body = {"model_name": "ResNet-18", "recipe": {"data": {"limit": 30}}, "name": "to-cancel"}
    run_id = server.post("/api/v1/runs", json=body).json()["run_id"]
    page = open_page(server, f"#/run/{run_id}")
    page.get_by_role("button", name="Cancel", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Let it go on").click()
    assert server.get(f"/api/v1/runs/{run_id}").json()["state"] in ("queued", "starting", "running")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the run").click()
    page.wait_for_selector("h1 .badge[data-state=cancelled]", timeout=60_000)
    assert "Cancelled" in page.inner_text(".notice")
    assert page.get_by_role("button", name="Resume").is_visible()
    assert page.said.lines == []
