"""The frame of all pages: login, keyboard, theme, focus, addresses; and the list of runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from served import Outside, Running, eventually
from storied import running

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def runs(server: Running) -> list[str]:
    made = []
    for name in ("alpha", "beta", "gamma"):
        run = Outside(server.root, name)
        run.end()
        made.append(run.run_id)
    eventually(lambda: server.get("/api/v1/runs").json()["total"] >= 3)
    return made


def focused(page: Any) -> str:
    return page.evaluate("() => (document.activeElement.textContent || document.activeElement.id).trim()")


def test_without_the_token_there_is_a_login_and_nothing_else(server: Running, open_page: Callable[..., Any]) -> None:
    page = open_page(server, "#/system", login=False)
    page.wait_for_selector("input[type=password]")
    page.fill("input[type=password]", "not-the-token")
    page.keyboard.press("Enter")
    page.wait_for_selector(".field .error:not([hidden])")
    page.fill("input[type=password]", server.token)
    page.keyboard.press("Enter")
    page.wait_for_selector("h1 >> text=System")
    page.wait_for_selector("#connection[data-state=online]")
    assert "lessen 0" in page.inner_text("#footer")
    assert server.token not in page.evaluate(
        "() => document.cookie + JSON.stringify(localStorage) + document.documentElement.outerHTML"
    )


def test_the_one_time_link_lets_in(server: Running, open_page: Callable[..., Any], browser: Any) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.login_url)
    page.wait_for_selector("h1 >> text=Runs")
    assert "key=" not in page.url
    context.close()


def test_keys_lead_through_the_pages_and_fields_keep_them(
    server: Running, runs: list[str], open_page: Callable[..., Any]
) -> None:
    page = open_page(server)
    page.wait_for_selector(".run-row")
    page.keyboard.press("/")
    assert page.evaluate("() => document.activeElement.type") == "search"
    page.keyboard.type("g?t/")
    assert page.input_value("[data-search]") == "g?t/"
    assert page.locator("dialog").count() == 0
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    page.keyboard.press("g")
    page.keyboard.press("y")
    page.wait_for_selector("h1 >> text=System")
    assert page.url.endswith("#/system")
    assert page.title() == "System · lessen"
    assert focused(page) == "System"


def test_the_slash_leads_to_the_search_or_the_first_filter(
    server: Running, runs: list[str], open_page: Callable[..., Any]
) -> None:
    page = open_page(server, "#/playground")
    page.wait_for_selector("main select:visible")
    page.keyboard.press("/")
    assert page.evaluate("() => document.activeElement.closest('main') && document.activeElement.tagName") in (
        "INPUT", "SELECT",
    )  # fmt: skip
    # where runs are given the list to choose from is folded away
    for address, name in (("#/compare?runs={0}", "Find a run"), ("#/run/{0}", "Search the log")):
        page.evaluate("(hash) => { location.hash = hash; }", address.format(*runs))
        search = page.get_by_label(name)
        search.wait_for(state="attached")
        page.keyboard.press("/")
        expect(search).to_be_focused()


def test_single_keys_can_be_switched_off(server: Running, open_page: Callable[..., Any]) -> None:
    page = open_page(server, "#/system")
    page.wait_for_selector("h1 >> text=System")
    page.keyboard.press("?")
    page.get_by_label("Single-key shortcuts").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    page.wait_for_selector("h1 >> text=System")
    page.keyboard.press("?")
    page.keyboard.press("t")
    assert page.locator("dialog").count() == 0
    assert page.evaluate("() => document.documentElement.dataset.theme") is None


def test_the_theme_is_the_systems_until_chosen_and_then_kept(server: Running, open_page: Callable[..., Any]) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    page = open_page(server, "#/system", scheme="dark")
    page.wait_for_selector("h1 >> text=System")
    dark = page.evaluate(ground)
    page.get_by_label("Theme").select_option("light")
    assert page.evaluate(ground) != dark
    page.reload()
    page.wait_for_selector("h1 >> text=System")
    assert page.get_by_label("Theme").input_value() == "light"
    page.get_by_label("Theme").select_option("system")
    assert page.evaluate(ground) == dark


def test_the_skip_link_comes_first_and_leads_to_the_heading(server: Running, open_page: Callable[..., Any]) -> None:
    page = open_page(server, "#/system")
    page.wait_for_selector("h1 >> text=System")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    page.keyboard.press("Enter")
    assert focused(page) == "System"
    assert page.url.endswith("#/system")


def test_an_unknown_address_and_an_unknown_run_are_said(server: Running, open_page: Callable[..., Any]) -> None:
    page = open_page(server, "#/nowhere")
    page.wait_for_selector("h1 >> text=There is no such page")
    page.goto(f"{server.url}/#/run/none-such")
    page.wait_for_selector(".problem >> text=none-such")


def test_runs_are_found_sorted_and_their_address_can_be_kept(
    server: Running, runs: list[str], open_page: Callable[..., Any]
) -> None:
    page = open_page(server)
    page.wait_for_selector(".run-row")
    page.fill("[data-search]", "alph")
    page.wait_for_function("() => document.querySelectorAll('.run-row').length === 1")
    assert "search=alph" in page.url
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('.run-row').length === 1")
    assert page.inner_text(".run-name a") == "alpha"
    size = page.locator(".run-facts div", has_text="on disk").locator("dd")
    expect(size).to_have_text(re.compile(r"^[0-9.]+ k?B$"))
    page.fill("[data-search]", "")
    page.get_by_label("Order").select_option("name")
    page.wait_for_function("() => document.querySelectorAll('.run-row').length >= 3")
    names = page.locator(".run-name a").all_inner_texts()
    assert names == sorted(names)


def test_progress_moves_in_the_list_as_it_happens(server: Running, open_page: Callable[..., Any]) -> None:
    from storied import distil

    run = running(server.root, "moving")
    page = open_page(server)
    row = page.locator(".run-row", has_text="moving")
    row.locator("[data-state=running]").wait_for()
    distil(run, 11, 38)
    row.get_by_text("38 of 40 steps").wait_for()
    run.end()
    row.locator("[data-state=succeeded]").wait_for()


def test_delete_can_be_undone_and_the_bin_gives_back(
    server: Running, runs: list[str], open_page: Callable[..., Any]
) -> None:
    page = open_page(server)
    row = page.locator(".run-row", has_text="beta")
    row.get_by_role("button", name="Delete").click()
    page.locator(".run-row", has_text="beta").wait_for(state="detached")
    assert server.get(f"/api/v1/runs/{runs[1]}").json()["deleted"]
    page.get_by_role("button", name="Undo").click()
    row.wait_for()
    assert not server.get(f"/api/v1/runs/{runs[1]}").json()["deleted"]
    row.get_by_role("button", name="Delete").click()
    row.wait_for(state="detached")
    page.get_by_role("button", name="Bin").click()
    page.locator(".run-row", has_text="beta").get_by_role("button", name="Restore").click()
    page.get_by_role("button", name="All", exact=True).click()
    row.wait_for()


def test_two_chosen_runs_are_compared(server: Running, runs: list[str], open_page: Callable[..., Any]) -> None:
    page = open_page(server)
    for name in ("alpha", "gamma"):
        page.get_by_label(f"Choose {name} for comparing").check()
    link = page.get_by_role("link", name="Compare 2 runs")
    assert link.get_attribute("href") == f"#/compare?runs={runs[0]},{runs[2]}"


def test_text_of_others_never_becomes_markup(server: Running, open_page: Callable[..., Any]) -> None:
    from lessen.events import Log

    run = running(server.root, "evil")
    run.write(Log(stage="distill", message=EVIL))
    eventually(lambda: server.get(f"/api/v1/runs/{run.run_id}").ok)
    page = open_page(server, f"#/run/{run.run_id}")
    page.locator(".log").get_by_text(EVIL).wait_for()
    assert page.locator("main img").count() == 0
    assert page.said.lines == []
    run.end()
