"""The form that starts a run: made of the schema, sends what was changed, says what is refused, and starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest

from served import Running

FIT = "() => [...document.querySelectorAll('.setting')].filter((row) => !row.hidden).length"


@pytest.fixture
def page(server: Running, open_page: Callable[..., Any]) -> Any:
    page = open_page(server, "#/start")
    page.wait_for_selector(".choice")
    return page


def setting(page: Any, path: str) -> Any:
    row = page.locator(f".setting[data-path='{path}']")
    section = row.locator("xpath=ancestor::details[1]")
    if not section.evaluate("(node) => node.open"):
        section.locator("summary").first.click()
    return row


def accepted(page: Any) -> None:
    page.wait_for_function(
        "() => !document.querySelector('.button.wide').disabled"
        " && document.querySelector('.start-side pre').textContent"
    )


def test_every_setting_of_the_schema_has_its_control_and_its_help(server: Running, page: Any) -> None:
    schema = server.get("/api/v1/recipes/schema").json()

    def leaves(node: dict[str, Any], prefix: str = "") -> list[str]:
        found = []
        for name, one in node.get("properties", {}).items():
            choices = [c for c in one.get("anyOf", [one]) if c.get("type") != "null"]
            target = choices[0].get("$ref", "").rpartition("/")[2]
            inner = schema["$defs"][target] if target else choices[0]
            path = f"{prefix}{name}"
            found += leaves(inner, f"{path}.") if inner.get("properties") else [path]
        return found

    wanted = set(leaves(schema)) - {"name", "author", "note", "output_dir", "cache_dir", "legacy", "data.fold"}
    shown = set(page.locator(".setting").evaluate_all("(rows) => rows.map((row) => row.dataset.path)"))
    assert wanted - shown == set()
    assert all(schema["$defs"] for path in shown - wanted if path in ("prune.recover", "quantize.train"))
    row = setting(page, "prune.remove_frac")
    assert "0 ≤ x < 1" in row.inner_text()
    row.get_by_role("button", name="Explain").click()
    assert "prune.remove_frac" in page.inner_text("dialog")


def test_only_what_was_changed_is_sent_and_shown_as_curl(page: Any) -> None:
    bodies: list[dict[str, Any]] = []
    page.on("request", lambda r: r.url.endswith("/recipes/check") and bodies.append(json.loads(r.post_data)))
    accepted(page)
    row = setting(page, "distill.temperature").locator("input")
    row.fill("3.5")
    page.wait_for_function("() => document.querySelector('.changes')?.textContent.includes('3.5')")
    page.wait_for_function("() => document.querySelector('.start-side pre').textContent.includes('temperature: 3.5')")
    assert {k: v for k, v in bodies[-1].items() if k != "plan"} == {
        "model_name": "distillBert", "preset": "demo", "recipe": {"distill": {"temperature": 3.5}},
    }  # fmt: skip
    page.get_by_role("tab", name="curl").click()
    assert '"recipe": {"distill": {"temperature": 3.5}}' in page.inner_text(".start-side pre")
    row.fill(
        str(
            page.evaluate(
                "async () => (await (await fetch('/api/v1/presets')).json())[0].levels.demo.recipe.distill.temperature"
            )
        )
    )
    page.wait_for_function("() => !location.hash.includes('&set=')")
    assert page.locator(".changes").count() == 0  # typed back: no change
    row.fill("3.5")
    page.get_by_role("button", name="Take all back").click()
    accepted(page)
    page.wait_for_timeout(600)
    assert "recipe" not in bodies[-1]
    assert row.input_value() != "3.5"


def test_the_address_carries_the_form(server: Running, page: Any, open_page: Callable[..., Any]) -> None:
    page.get_by_label("ResNet-18").check()
    setting(page, "prune.remove_frac").locator("input").fill("0.25")
    page.wait_for_function("() => location.hash.includes('0.25')")
    assert json.loads(unquote(page.url).partition("&set=")[2]) == {"prune": {"remove_frac": 0.25}}
    other = open_page(server, "#" + page.url.partition("#")[2])
    other.wait_for_selector(".choice")
    assert other.locator("input[name=model][value=ResNet-18]").is_checked()
    assert setting(other, "prune.remove_frac").locator("input").input_value() == "0.25"


def test_a_value_outside_its_limits_is_said_at_once_and_cannot_be_sent(page: Any) -> None:
    accepted(page)
    row = setting(page, "prune.remove_frac")
    row.locator("input").fill("1.5")
    assert "0 ≤ x < 1" in row.locator(".error").inner_text()
    assert row.locator("input").get_attribute("aria-invalid") == "true"
    assert page.locator(".button.wide").is_disabled()
    assert "prune.remove_frac" in page.inner_text(".start-side .problem")
    row.locator("input").fill("0.4")
    accepted(page)
    assert row.locator(".error").is_hidden()


def test_what_the_server_refuses_is_shown_with_its_hint(page: Any) -> None:
    accepted(page)
    setting(page, "prune.method").locator("input").fill("chainsaw")
    page.wait_for_selector(".start-side .problem")
    assert "chainsaw" in page.inner_text(".start-side .problem")
    assert page.locator(".button.wide").is_disabled()
    setting(page, "prune.method").locator("input").fill("magnitude")
    accepted(page)


def test_settings_are_searched_in_names_and_help(page: Any) -> None:
    everything = page.evaluate(FIT)
    page.fill("[data-search]", "temperature")
    page.wait_for_function(f"() => ({FIT})() < 5")
    assert page.evaluate(FIT) >= 1
    assert page.locator(".setting[data-path='distill.temperature']").is_visible()
    page.fill("[data-search]", "")
    page.wait_for_function(f"() => ({FIT})() === {everything}")


def test_a_part_can_be_done_without(page: Any) -> None:
    accepted(page)
    setting(page, "prune.recover").locator("input").check()
    page.wait_for_function(
        "() => document.querySelector('.start-side pre').textContent.includes('recover: null')"
        " || document.querySelector('.start-side .problem')"
    )
    page.wait_for_function('() => location.hash.includes(encodeURIComponent(\'{"prune":{"recover":null}}\'))')


def test_an_upload_becomes_the_data(page: Any) -> None:
    rows = "\n".join(f"{'good' if i % 2 else 'bad'} words {i},{'pos' if i % 2 else 'neg'}" for i in range(60))
    page.set_input_files(
        "#upload", {"name": "mine.csv", "mimeType": "text/csv", "buffer": f"comment,mood\n{rows}\n".encode()}
    )
    card = page.locator(".upload", has_text="mine.csv")
    card.get_by_role("button", name="Use as data").click()
    assert setting(page, "data.path").locator("input").input_value().startswith("upload:")
    card.get_by_label("Column of the label").select_option("mood")
    assert setting(page, "data.label_column").locator("input").input_value() == "mood"
    accepted(page)
    page.set_input_files(
        "#upload", {"name": "evil.pkl", "mimeType": "application/octet-stream", "buffer": b"\x80\x04K\x01."}
    )
    page.wait_for_selector(".dropzone .problem")


def test_start_leads_to_the_live_page_of_the_new_run(server: Running, page: Any) -> None:
    page.get_by_label("ResNet-18").check()
    setting(page, "data.limit").locator("input").fill("30")
    page.get_by_label("Name", exact=True).fill("from-the-form")
    accepted(page)
    page.click(".button.wide")
    page.wait_for_url("**/#/run/**")
    page.wait_for_selector("h1 >> text=from-the-form")
    run_id = page.url.rpartition("/")[2]
    recipe = server.get(f"/api/v1/runs/{run_id}/recipe").json()["recipe"]
    assert recipe["data"]["limit"] == 30
    server.post(f"/api/v1/runs/{run_id}/cancel")
