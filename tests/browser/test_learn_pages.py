"""Playground, test bench, learning pages and assessment as a reader uses them, over runs that were really made."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect
from safetensors.numpy import load_file

import animals
from lessen.runner import run
from served import Running, eventually, serving

TEXT = animals.docstrings("sentences", max_length=32)
DIGITS: dict[str, Any] = {
    "name": "digits",
    "task": "image-classification",
    "pipeline": "kd_only",
    "data": {"source": "digits", "limit": 30, "image_size": 16},
    "teacher": {"model": "scratch:resnet-tiny", "train": {"epochs": 3, "batch_size": 8, "lr": 1e-3}},
    "student": {"model": "teacher", "hidden_size": 32},
    "distill": {"teacher_margin": 0.0, "train": {"epochs": 1, "lr": 1e-3}},
    "export": {"formats": ["safetensors"]},
    "measure": {"speed": False, "baseline": False, "bootstrap": 20},
}
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
PAGES = (
    "#/playground",
    "#/learn",
    "#/learn?tab=glossary",
    "#/learn?tab=metrics",
    "#/instructions",
    "#/assessment?seed=3",
    "#/bench/{text}",
    "#/bench/{digits}",
)
BENGALI = "আমি তোমাকে ভালোবাসি"
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def runs(server: Running) -> dict[str, str]:
    """A run of pictures, then one of texts, which is the latest; ids by kind."""
    for values in (DIGITS, TEXT):
        run(values, out_dir=server.root / values["name"])

    def known() -> dict[str, str]:
        return {
            "text" if r["name"] == "sentences" else "digits": r["run_id"]
            for r in server.get("/api/v1/runs?state=succeeded").json()["runs"]
        }

    return eventually(lambda: known() if len(known()) == 2 else None)


def at(page: Any, selector: str) -> Any:
    return page.locator(selector)


def settled(page: Any) -> None:
    page.wait_for_selector("main h1")
    page.wait_for_function("() => !document.querySelector('main .loading')")
    page.wait_for_load_state("networkidle")


def query(page: Any) -> dict[str, str]:
    return page.evaluate("Object.fromEntries(new URLSearchParams(location.hash.split('?')[1] ?? ''))")


def addressed(page: Any, **values: str) -> None:
    """Wait until the address says so; it is written a moment after a slider moved."""
    page.wait_for_function(
        """(values) => {
          const found = new URLSearchParams(location.hash.split('?')[1]);
          return Object.entries(values).every(([key, value]) => found.get(key) === value);
        }""",
        arg=values,
    )


def slide(page: Any, key: str, value: float) -> None:
    at(page, f"input[data-control='{key}']").evaluate(
        "(node, v) => { node.value = v; node.dispatchEvent(new Event('input', {bubbles: true})); }", str(value)
    )


def reading(page: Any, part: str, term: str) -> str:
    named = page.locator("dt", has_text=re.compile("^" + re.escape(term)))
    return str(at(page, f"#part-{part} .facts div").filter(has=named).first.locator("dd").inner_text())


def check_sample(rows: dict[str, Any], folder: Path, name: str) -> None:
    """The rows that units are cut from are weights of the file, at even distances."""
    weight = load_file(folder / "model.safetensors")[name]
    assert rows["of"] == list(weight.shape)
    picked = [np.unique(np.linspace(0, n - 1, min(n, 48)).astype(int)) for n in weight.shape]
    assert np.array(rows["values"]) == pytest.approx(weight[np.ix_(*picked)], rel=1e-5)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])  # test_journey: the other two as well
@pytest.mark.parametrize("address", PAGES)
def test_a_page_is_sound(
    server: Running, runs: dict[str, str], open_page: Open, address: str, width: int, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(server, address.format(**runs), width=width, scheme=scheme)
    settled(page)
    found = Axe().run(page, options={"runOnly": list(RULES)}).response["violations"]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.title().endswith("lessen")
    assert page.locator("main h1").count() == 1
    assert page.said.lines == []


# ---- playground


def test_without_a_run_everything_is_a_toy_and_says_so(open_page: Open, tmp_path: Any) -> None:
    with serving(tmp_path) as bare:
        page = open_page(bare, "#/playground")
        settled(page)
        expect(at(page, "#part-cut")).to_contain_text("No run is finished yet")
        expect(at(page, "#part-cut .lp-mark")).to_have_text(["toy"])
        page.goto(f"{bare.url}/#/learn")
        expect(at(page, ".lp-own-run").first).to_contain_text("No run is finished yet")
        page.goto(f"{bare.url}/#/bench/latest")
        expect(at(page, ".problem")).to_contain_text("run")


def test_temperature_and_alpha_move_the_terms_and_the_address(
    server: Running, runs: dict[str, str], open_page: Open
) -> None:
    page = open_page(server, "#/playground")
    settled(page)
    before = reading(page, "soft", "KL(teacher")
    slide(page, "T", 6)
    slide(page, "alpha", 1)
    assert reading(page, "soft", "KL(teacher") != before
    assert "36" in at(page, "#part-soft .facts").inner_text()
    assert reading(page, "soft", "alpha × soft") == reading(page, "soft", "times T²")
    addressed(page, T="6", alpha="1")
    page.reload()
    settled(page)
    assert at(page, "input[data-control='T']").input_value() == "6"
    page.get_by_role("button", name="Reset everything").click()
    page.wait_for_function("() => document.querySelector(\"input[data-control='T']\")?.value === '3'")
    assert query(page) == {}


def test_a_sample_of_the_run_is_measured(server: Running, runs: dict[str, str], open_page: Open) -> None:
    page = open_page(server, "#/playground?ex=run")
    at(
        page,
        "#part-soft .lp-mark",
    ).filter(has_text="measured").wait_for()
    expect(at(page, "#part-soft")).to_contain_text("asked just now")


def test_the_cut_and_the_grid_are_those_of_a_real_layer(server: Running, runs: dict[str, str], open_page: Open) -> None:
    page = open_page(server, "#/playground?at=cut")
    at(page, "#part-cut select[data-control='layer-cut']").wait_for()
    layers = server.get(f"/api/v1/runs/{runs['text']}/layers?stage=distill").json()["layers"]
    leaf = next(one for one in layers if one["shape"] == [64, 32])
    at(page, "#part-cut select[data-control='layer-cut']").select_option(leaf["id"])
    page.wait_for_function(
        "(id) => document.querySelector('#part-grid .chart-title')?.textContent.includes(id)", arg=leaf["id"]
    )
    slide(page, "s", 0.25)
    assert reading(page, "cut", "Weights removed") == "25.0 % (512)"
    at(page, "#part-cut select[data-control='what']").select_option("units")
    assert reading(page, "cut", "Shape after").startswith("48 × 32")
    shown = server.get(f"/api/v1/runs/{runs['text']}/layers/{leaf['id']}/histogram?stage=distill").json()
    slide(page, "b", 8)
    check_sample(shown["rows"], server.root / "sentences" / "stages" / "02-distill", f"{leaf['id']}.weight")
    most = max(abs(shown["edges"][0]), abs(shown["edges"][-1]))
    assert float(reading(page, "grid", "Step").replace("−", "-")) == pytest.approx(most / 127, rel=0.01)
    assert "In your run this layer was rounded to 8 bits" in at(page, "#part-grid").inner_text()
    addressed(page, layer=leaf["id"], s="0.25", what="units", b="8")


def test_the_lesson_plays_breaks_heals_and_its_link_repeats_it(
    server: Running, runs: dict[str, str], open_page: Open
) -> None:
    page = open_page(server, "#/playground?hide=soft,cut,grid&set=moons&n=40&tu=8&su=6&spf=20")
    settled(page)
    assert at(page, "main section.card").count() == 1
    stage = at(page, ".lp-step")
    page.get_by_role("button", name="10 steps").click()
    assert stage.inner_text().startswith("Step 10:")
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => document.querySelector('.lp-step').textContent.startsWith('Step 850')")
    row = at(page, "#part-toy tbody tr").filter(has_text="Student with teacher")
    learned = row.inner_text()
    page.get_by_role("button", name=re.compile("^Cut 50 %")).click()
    assert "2–3–3–2" in row.inner_text()
    assert "fell from" in at(page, "#part-toy").inner_text()
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("() => document.querySelector('.lp-step').textContent.startsWith('Step 1150')")
    addressed(page, steps="1150", cuts="850:0.5")
    healed = row.inner_text()
    assert healed != learned
    label = at(page, "canvas.lp-picture").nth(1).get_attribute("aria-label")
    page.reload()
    page.wait_for_function(
        "(text) => [...document.querySelectorAll('#part-toy tbody tr')].some((row) => row.innerText === text)",
        arg=healed,
    )
    assert at(page, "canvas.lp-picture").nth(1).get_attribute("aria-label") == label
    at(page, "select[data-control='bits']").select_option("2")
    assert row.inner_text() != healed
    assert page.said.lines == []


def test_controls_hide_and_bad_addresses_are_told(server: Running, runs: dict[str, str], open_page: Open) -> None:
    page = open_page(server, "#/playground?hide=cut,grid,toy,alpha,reset&T=99")
    settled(page)
    assert "T = 99" in at(page, ".notice.warning").inner_text()
    assert at(page, "input[data-control='T']").input_value() == "3"
    assert at(page, "input[data-control='alpha']").count() == 0
    assert page.get_by_role("button", name="Reset everything").count() == 0
    slide(page, "T", 2)
    addressed(page, T="2", hide="cut,grid,toy,alpha,reset")


def test_own_points_are_typed_clicked_and_linked(server: Running, runs: dict[str, str], open_page: Open) -> None:
    page = open_page(server, "#/playground?hide=soft,cut,grid&set=own")
    settled(page)
    assert at(page, ".notice.warning:not([hidden])").inner_text().startswith("Eight points")
    area = at(page, ".lp-own textarea")
    area.fill("1,2")
    page.get_by_role("button", name="Use these points").click()
    assert "line 1" in at(page, ".lp-own").inner_text()
    area.fill("\n".join(f"{0.1 * i - 0.5:.1f}, {0.3 if i % 2 else -0.3}, {i % 2}" for i in range(10)))
    page.get_by_role("button", name="Use these points").click()
    at(page, "canvas.lp-picture").first.click(position={"x": 20, "y": 20})
    assert len(area.input_value().splitlines()) == 11
    assert at(page, "input[data-control='noise']").is_hidden()
    page.get_by_role("button", name="10 steps").click()
    addressed(page, steps="10")
    page.reload()
    page.wait_for_function("() => document.querySelector('.lp-step')?.textContent.startsWith('Step 10:')")
    assert len(at(page, ".lp-own textarea").input_value().splitlines()) == 11


def test_every_link_of_the_cards_leads_somewhere(server: Running, runs: dict[str, str], open_page: Open) -> None:
    page = open_page(server, "#/learn")
    settled(page)
    links = at(page, ".lp-try").evaluate_all("(nodes) => nodes.map((n) => n.getAttribute('href'))")
    assert len(links) >= 10
    for link in dict.fromkeys(links):
        page.goto(f"{server.url}/{link}")
        page.wait_for_selector("#part-toy")
        assert at(page, ".notice.warning:not([hidden])").all_inner_texts() == [], link
        assert page.evaluate("document.activeElement.closest('section')?.id ?? ''") in ("", f"part-{query(page)['at']}")


# ---- test bench


def test_every_stage_answers_a_text_and_differences_are_marked(
    server: Running, runs: dict[str, str], open_page: Open
) -> None:
    page = open_page(server, f"#/bench/{runs['text']}")
    settled(page)
    at(page, "textarea").fill(BENGALI)
    at(page, "textarea").press("Control+Enter")
    at(page, ".page-bench table tbody tr").first.wait_for()
    reply = server.post("/api/v1/predictions", json={"run_id": runs["text"], "inputs": [BENGALI]}).json()
    rows = at(page, ".page-bench table tbody tr").all_inner_texts()
    assert len(rows) == len(reply["stages"])
    teacher = reply["stages"][0]["answers"][0]["label"]
    for told, row in zip(reply["stages"], rows, strict=True):
        label = told["answers"][0]["label"]
        assert label in row
        if told["stage"] != "teacher":
            assert ("as the teacher" in row and "not as" not in row) == (label == teacher)
    assert at(page, ".lp-question [lang=bn]").inner_text() == BENGALI
    at(page, ".page-bench .card").filter(has_text="Examples").locator(".lp-example").first.click()
    page.wait_for_function("() => document.querySelectorAll('.page-bench .card:last-child .lp-example').length === 2")
    page.get_by_role("button", name=re.compile(f"Show again: .*{BENGALI}")).click()
    assert at(page, ".lp-question").inner_text() == BENGALI
    assert page.said.lines == []


def test_a_drawn_digit_is_asked_about_by_pointer_and_by_keys(
    server: Running, runs: dict[str, str], open_page: Open
) -> None:
    page = open_page(server, f"#/bench/{runs['digits']}")
    settled(page)
    send = page.get_by_role("button", name="Ask about the drawing")
    assert send.is_disabled()
    sheet = at(page, "canvas.lp-sheet")
    sheet.focus()
    for key in ["ArrowUp"] * 5 + [" "] + ["ArrowDown"] * 12 + [" "]:
        page.keyboard.press(key)
    assert "pen up" in sheet.get_attribute("aria-label")
    assert not send.is_disabled()
    page.get_by_role("button", name="Clear").click()
    assert send.is_disabled()
    box = sheet.bounding_box()
    page.mouse.move(box["x"] + 120, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 128, box["y"] + 220, steps=10)
    page.mouse.up()
    send.click()
    at(page, ".page-bench table tbody tr").first.wait_for()
    assert at(page, ".lp-question img").count() == 1
    assert page.said.lines == []


def test_an_unfinished_run_says_so(server: Running, runs: dict[str, str], open_page: Open) -> None:
    from storied import failed

    broken = failed(server.root, "broken")
    eventually(lambda: any(r["run_id"] == broken.run_id for r in server.get("/api/v1/runs").json()["runs"]))
    page = open_page(server, f"#/bench/{broken.run_id}")
    settled(page)
    assert "once it is finished" in at(page, ".empty").inner_text()


# ---- learning


def test_cards_show_the_reader_s_own_run_and_reveal_after_a_guess(
    server: Running, runs: dict[str, str], open_page: Open
) -> None:
    page = open_page(server, "#/learn?card=recovery")
    settled(page)
    page.wait_for_function("() => document.activeElement?.textContent === '7. Recovery'")
    report = server.get(f"/api/v1/runs/{runs['text']}/report").json()
    verdict = next(v["text"] for v in report["verdicts"] if v["stage"] == "prune" and v["subject"] == "quality")
    assert verdict.split(":")[0] in at(page, "#card-recovery .lp-own-run").inner_text()
    card = at(page, "#card-temperature")
    card.get_by_role("button", name="Reveal").click()
    assert card.locator(".notice").count() == 0
    card.get_by_label("33.3 %").check()
    card.get_by_role("button", name="Reveal").click()
    assert "The answer: 50.6 %" in card.locator(".notice").inner_text()
    card.get_by_label("50.6 %").check()
    card.get_by_role("button", name="Reveal").click()
    assert card.locator(".notice").inner_text().startswith("✓")


def test_the_glossary_is_searched(server: Running, runs: dict[str, str], open_page: Open) -> None:
    page = open_page(server, "#/learn?tab=glossary")
    settled(page)
    page.get_by_label("Search the glossary").fill("wanda")
    assert at(page, ".lp-glossary dt").all_inner_texts() == ["Wanda"]
    addressed(page, q="wanda")
    page.get_by_label("Search the glossary").fill("zzz")
    assert at(page, ".lp-glossary dt").count() == 0


def test_the_assessment_by_keyboard_alone(server: Running, runs: dict[str, str], open_page: Open) -> None:
    page = open_page(server, "#/assessment?seed=11")
    settled(page)
    right = page.evaluate(
        "async () => (await import('/static/strings-lessons.js')).questions.map((q) => [q.ask, q.choices[0]])"
    )
    answers = dict(right)
    for i in range(20):
        ask = at(page, ".lp-choices legend").inner_text()
        target = page.get_by_label(answers[ask], exact=True)
        if i >= 15:
            target = at(page, ".lp-choice").filter(has_not_text=answers[ask]).first.locator("input")
        target.focus()
        page.keyboard.press("Space")
        if i < 19:
            page.get_by_role("button", name="Next", exact=True).focus()
            page.keyboard.press("Enter")
    page.get_by_role("button", name="Hand in").press("Enter")
    assert "15 of 20 right (75 %)" in at(page, ".lp-score").inner_text()
    assert "Passed" in at(page, "main h2").first.inner_text()
    assert at(page, ".lp-review").count() == 5
    assert at(page, ".lp-review a").first.get_attribute("href").startswith("#/learn?card=")
    page.reload()
    settled(page)
    assert "15 / 20" in at(page, "main table").inner_text()
    page.get_by_role("button", name="Delete all results").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_text("None yet.").wait_for()
    page.reload()
    settled(page)
    assert at(page, "main table").count() == 0


def test_handing_in_with_open_questions_asks_first(server: Running, runs: dict[str, str], open_page: Open) -> None:
    page = open_page(server, "#/assessment?seed=2")
    settled(page)
    page.get_by_role("button", name=re.compile("^Question 20")).click()
    assert "Question 20 of 20" in at(page, "main h2").first.inner_text()
    page.get_by_role("button", name="Hand in").click()
    assert "20 questions are open" in at(page, "dialog").inner_text()
    page.get_by_role("button", name="Back to the questions").click()
    assert at(page, ".lp-score").count() == 0
