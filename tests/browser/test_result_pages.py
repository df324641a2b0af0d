"""Result, layers, network view and compare, in Chromium against a server with a run that was really trained (tiny)."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import animals
import lessen
from lessen.folder import new_id
from lessen.recipe import parse
from served import Running, eventually

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
PAGES = {
    "result": "#/result/{run}",
    "layers": "#/layers/{run}?stage=quantize&against=prune&layer={layer}",
    "network": "#/network/{run}?step=prune",
    "compare": "#/compare?runs={run},{again}&pin={run}/teacher",
}
ROUGH = {"speed": True, "baseline": True, "seconds": 0.02, "rounds": 2, "bootstrap": 50}
LAYER = "bert.encoder.layer.0.intermediate.dense"
Open = Callable[..., Any]


@dataclass(frozen=True)
class Runs:
    """A trained run, a copy of it under another seed, and one that says it was timed on another machine."""

    run: str
    again: str
    elsewhere: str
    report: dict[str, Any]
    said: dict[str, Any]  # predictions.json

    def row(self, stage: str) -> dict[str, Any]:
        return next(r for r in self.report["rows"] if r["stage"] == stage)


def copied(folder: Path, name: str, seed: int, **machine: Any) -> str:
    run_id = new_id(name)
    to = folder.parent / run_id
    shutil.copytree(folder, to, symlinks=True)
    for file in ("run.json", "recipe.json", "report.json"):
        values = json.loads((to / file).read_text())
        if file == "run.json":
            values |= {"run_id": run_id, "name": name}
        elif file == "recipe.json":
            values["seed"] = seed
        else:
            values["run_id"], values["recipe"]["seed"] = run_id, seed
            values["environment"] |= machine
            for row in values["rows"]:
                row["metrics"]["file_bytes"]["value"] += seed
        (to / file).write_text(json.dumps(values))
    return run_id


@pytest.fixture(scope="module")
def runs(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    table = animals.table(tmp_path_factory.mktemp("data"))
    folder = server.root / new_id("tiny")
    report = lessen.run(parse(animals.values(table, measure=ROUGH)), out_dir=folder)
    again, elsewhere = copied(folder, "again", 8), copied(folder, "elsewhere", 8, cpu="another machine")
    made = Runs(
        report.run_id,
        again,
        elsewhere,
        json.loads((folder / "report.json").read_text()),
        json.loads((folder / "predictions.json").read_text()),
    )
    known = {made.run, again, elsewhere}
    eventually(lambda: {r["run_id"] for r in server.get("/api/v1/runs").json()["runs"]} >= known)
    return made


@pytest.fixture
def show(server: Running, runs: Runs, open_page: Open) -> Open:
    """Open a page of PAGES, or an address with {run} in it, and wait until nothing is loading."""

    def open_(page: str, **more: Any) -> Any:
        address = PAGES.get(page, page).format(run=runs.run, again=runs.again, elsewhere=runs.elsewhere, layer=LAYER)
        shown = open_page(server, address, **more)
        settled(shown)
        return shown

    return open_


def settled(page: Any) -> None:
    page.wait_for_selector("main h1")
    # a string would need eval, which the page's policy forbids
    for loading in page.locator("main .loading").all():
        loading.wait_for(state="detached")
    page.wait_for_load_state("networkidle")


def percent(share: float) -> str:
    return f"{share * 100:.2f} %"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])  # test_journey: the other two as well
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_sound(show: Open, page: str, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    shown = show(page, width=width, scheme=scheme)
    shown.wait_for_selector(".drawing .mark, .board .layer, .layers tr")
    found = Axe().run(shown, options={"runOnly": list(RULES)}).response["violations"]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found] == []
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert shown.locator("main h1").count() == 1
    assert shown.said.lines == []


def test_the_hero_shows_what_the_report_says(show: Open, runs: Runs) -> None:
    page = show("result")
    quality = page.locator(".hero-card").first
    teacher, final = runs.row("teacher"), runs.row("quantize")
    values = quality.locator(".value").all_text_contents()
    assert values == [percent(r["metrics"]["f1_macro"]["value"]) for r in (teacher, final)]
    assert f"n = {teacher['metrics']['f1_macro']['n']}" in quality.inner_text()
    assert "measured" in quality.inner_text()
    assert "higher is better" in quality.inner_text()
    found = next(c for c in runs.report["comparisons"] if (c["reference"], c["candidate"]) == ("teacher", "quantize"))
    assert found["verdict"] in quality.inner_text()
    ratio = teacher["metrics"]["file_bytes"]["value"] / final["metrics"]["file_bytes"]["value"]
    assert f"{float(f'{ratio:.3g}'):g} × smaller" in page.locator(".hero-card").nth(1).inner_text()
    assert "trained from scratch" in page.locator("main").inner_text()


def test_every_verdict_is_said_in_words(show: Open, runs: Runs) -> None:
    text = " ".join(show("result").locator("#verdicts").inner_text().split())
    verdicts = [v for v in runs.report["verdicts"] if v["subject"] != "result"]
    assert verdicts
    for verdict in verdicts:
        assert " ".join(verdict["text"].split()) in text


def test_a_number_that_is_missing_says_why(show: Open, runs: Runs) -> None:
    page = show("result")
    page.get_by_role("button", name=re.compile(r"^All \d+ metrics")).click()
    reason = runs.row("teacher")["metrics"]["latency_p99_ms"]["reason"]
    row = page.locator("#table tr", has=page.get_by_role("rowheader", name="latency p99"))
    assert reason in row.inner_text()


def test_gates_follow_their_bounds(show: Open) -> None:
    page = show("result")
    gates = page.locator("#gates")
    gates.get_by_label("Least speed-up").fill("100000")
    gates.get_by_text("1 gate not met").wait_for()
    assert "less than 100,000" in gates.inner_text()
    assert "min_speedup=100000" in page.url
    assert "--min-speedup 100000" in gates.locator("code").inner_text()


def test_a_confusion_cell_opens_its_samples(show: Open, runs: Runs) -> None:
    labels, truth = runs.said["labels"], runs.said["truth"]
    answers = runs.said["stages"]["quantize"]["labels"]
    page = show("result")
    right = page.locator("#confusion .heat").nth(1)
    pairs = list(zip(truth, answers, strict=True))
    # a cell whose samples are neither those of its row nor those of its column
    i, j = next((i, j) for i in (0, 1) for j in (0, 1) if pairs.count((i, j)) not in (truth.count(i), answers.count(j)))
    count = pairs.count((i, j))
    right.locator(f'td[data-row="{i}"][data-column="{j}"] button').click()
    told = page.locator("#confusion .samples")
    said = f"{count} samples; teacher against quantize." if count else "No sample of this kind"
    told.get_by_text(said).wait_for()
    assert f"true {labels[i]}, said {labels[j]}" in told.inner_text()
    assert told.locator(".sample-list > li").count() == min(count, 10)


def test_matrices_are_linked_and_walked_by_keyboard(show: Open, runs: Runs) -> None:
    page = show("result")
    first = page.locator("#confusion .heat").first
    first.locator("button").first.focus()
    page.keyboard.press("ArrowRight")
    linked = page.locator("#confusion td.linked")
    assert linked.count() == 2
    assert {(n.get_attribute("data-row"), n.get_attribute("data-column")) for n in linked.all()} == {("0", "1")}
    page.get_by_label("Cells show").select_option("rows")
    counts = runs.row("teacher")["facts"]["confusion"][0]
    assert first.locator("button").first.inner_text() == f"{counts[0] / sum(counts) * 100:.1f} %"


def test_a_chart_has_a_readout_a_table_and_copies(show: Open, runs: Runs) -> None:
    page = show("result")
    chart = page.locator("figure", has_text="File size from stage to stage").first
    chart.locator(".mark").first.focus()
    page.keyboard.press("End")
    assert chart.locator(".readout").inner_text().startswith("quantize: ")
    assert chart.locator('.mark[tabindex="0"]').count() == 1
    chart.get_by_role("button", name="Show as a table").click()
    assert chart.locator("tbody tr").count() == 4
    chart.get_by_role("button", name="Copy as CSV").click()
    chart.get_by_text("CSV copied.").wait_for()
    copy = page.evaluate("navigator.clipboard.readText()")
    assert f"teacher,{runs.row('teacher')['metrics']['file_bytes']['value']}," in copy
    chart.get_by_role("button", name="Copy as PNG").click()
    chart.get_by_text("PNG").filter(has_text="copied").wait_for()


def test_files_can_be_taken_away(show: Open, server: Running) -> None:
    page = show("result")
    links = page.locator("#files a").evaluate_all("nodes => nodes.map((n) => n.getAttribute('href'))")
    assert any("download" in href for href in links)
    for href in links:
        assert page.request.get(server.url + href).status == 200, href


def test_a_run_without_a_report_teaches(server: Running, runs: Runs, open_page: Open) -> None:
    from storied import failed

    run_id = failed(server.root, "unmeasured").run_id
    eventually(lambda: run_id in {r["run_id"] for r in server.get("/api/v1/runs").json()["runs"]})
    for page in ("result", "network"):
        shown = open_page(server, f"#/{page}/{run_id}")
        shown.get_by_role("link", name="Watch the run live").wait_for()


def test_layers_are_walked_by_keyboard(show: Open, runs: Runs) -> None:
    page = show("#/layers/{run}?stage=prune&against=distill")
    grid = page.get_by_role("treegrid")
    total = runs.row("prune")["metrics"]["parameters"]["value"]
    found = page.request.get(f"{page.url.split('#')[0]}api/v1/runs/{runs.run}/layers?stage=prune").json()
    assert found["totals"]["parameters"] == total
    first = grid.locator("tbody tr").first
    first.focus()
    page.keyboard.press("ArrowLeft")
    assert grid.locator("tbody tr").count() == 1
    assert grid.locator("tbody tr").first.get_attribute("aria-expanded") == "false"
    page.keyboard.press("ArrowRight")
    rows = grid.locator("tbody tr").count()
    assert rows > 1
    page.keyboard.press("ArrowDown")
    focused = page.evaluate("document.activeElement.dataset.id")
    assert focused == grid.locator("tbody tr").nth(1).get_attribute("data-id")
    page.keyboard.press("Enter")
    page.locator("#layer .drawing").wait_for()
    assert focused in page.locator("#layer").inner_text()


def test_a_layer_shows_its_weights_cut_and_grid(show: Open, runs: Runs) -> None:
    page = show("layers")
    layer = page.locator("#layer")
    layer.locator(".drawing .mark").first.wait_for()
    words = layer.inner_text()
    asked = f"{page.url.split('#')[0]}api/v1/runs/{runs.run}/layers/{LAYER}/histogram"
    told = page.request.get(asked, params={"stage": "quantize", "against": "prune", "bins": 80}).json()
    assert told["quant"]["bits"] == 8
    assert f"{told['n']:,}" in words
    assert layer.locator(".drawing rect.mark").count() == len(told["counts"])
    assert layer.locator(".drawing .outline").count() == 1
    layer.get_by_role("button", name="Leave unpruned").click()  # what a recipe can say to keep the units that were cut
    assert f'- "{LAYER}"' in page.locator("#next code.pre").inner_text()


def test_layers_are_ordered_by_what_they_saved(show: Open) -> None:
    page = show("#/layers/{run}?stage=quantize&against=prune")
    page.get_by_label("Order").select_option("saved")
    root, *rest = page.get_by_role("treegrid").locator("tbody tr").all()
    assert root.get_attribute("aria-level") == "1"
    top = [r for r in rest if r.get_attribute("aria-level") == "2"]
    units = {"B": 1, "kB": 1e3, "MB": 1e6}
    saved = [float(n) * units[u] for n, u in (r.locator("td").last.inner_text().split() for r in top)]
    assert saved == sorted(saved, reverse=True)


def test_the_network_view_draws_the_units_that_were_kept(show: Open, runs: Runs) -> None:
    page = show("network")
    group = next(w for w in runs.row("prune")["facts"]["widths"] if w["kind"] == "heads")
    query = page.locator(".tower.right button.layer", has_text="attention.self.query").first
    units = query.locator(".places .unit")
    units.first.wait_for()
    gone = units.evaluate_all("nodes => nodes.map((n) => n.classList.contains('gone'))")
    assert [i for i, cut in enumerate(gone) if not cut] == group["kept"]
    assert len(gone) == group["before"]
    assert f"{group['before']} → {group['after']} units" in query.inner_text()


def test_the_network_view_steps_plays_and_resets(show: Open, runs: Runs) -> None:
    page = show("#/network/{run}")
    heading = page.locator(".explained h2")
    assert heading.inner_text() == "1. Teach"
    page.get_by_role("button", name="Next").click()
    page.get_by_text("It begins with the teacher's layers").wait_for()
    page.locator(".links .link").first.wait_for(state="attached")
    page.keyboard.press("ArrowRight")
    objective = runs.report["recipe"]["distill"]["objective"]
    page.get_by_text(f"objective {objective}").wait_for()
    page.keyboard.press("End")
    assert heading.inner_text() == "6. Result"
    assert page.get_by_role("button", name="Next").is_disabled()
    page.get_by_role("button", name="Play").click()
    assert page.get_by_role("button", name="Pause").get_attribute("aria-pressed") == "true"
    page.get_by_text("1. Teach").wait_for()
    page.get_by_role("button", name="Reset").click()
    assert page.get_by_role("button", name="Play").get_attribute("aria-pressed") == "false"


def test_a_layer_of_the_network_view_tells_its_stages(show: Open) -> None:
    page = show("#/network/{run}?step=quantize")
    page.locator(".tower.right button.layer").first.click()
    rows = page.locator("#layer tbody th")
    rows.first.wait_for()
    assert rows.all_text_contents() == ["distill", "prune", "quantize"]


def test_repeats_with_other_seeds_have_a_mean_and_a_spread(show: Open, runs: Runs) -> None:
    page = show("#/compare?runs={run},{again}")
    repeats = page.locator("#repeats")
    size = runs.row("prune")["metrics"]["file_bytes"]["value"]
    assert "n = 2" in repeats.inner_text()
    page.get_by_label("Join repeats").check()
    table = page.locator("#picture")
    table.get_by_role("button", name="Show as a table").click()
    assert str(size + 4) in table.inner_text()  # the mean of size and size + 8
    assert "seed" in page.locator("#diff tbody th").all_text_contents()


def test_latencies_of_different_machines_do_not_share_an_axis(show: Open) -> None:
    page = show("#/compare?runs={run},{elsewhere}&x=latency_p50_ms")
    page.get_by_text("These points do not belong on one axis.").wait_for()
    assert page.locator("#picture .drawing").count() == 0
    page.get_by_role("button", name="One picture a group").click()
    page.locator("#picture .drawing").nth(1).wait_for()
    page.get_by_label("Across").select_option("file_bytes")  # bytes are bytes everywhere
    page.get_by_text("These points do not belong on one axis.").wait_for(state="detached")
    assert page.locator("#picture .drawing").count() == 1


def test_a_pinned_point_is_what_others_are_held_against(show: Open, runs: Runs) -> None:
    page = show("#/compare?runs={run}&sort=name")
    page.get_by_role("button", name="Hold the others against tiny, teacher").click()
    assert f"pin={runs.run}" in page.url.replace("%2F", "/")
    row = page.locator("#points tr", has=page.get_by_role("rowheader", name="tiny, quantize"))
    after, before = (runs.row(s)["metrics"]["file_bytes"]["value"] for s in ("quantize", "teacher"))
    ratio = after / before
    assert f"{float(f'{ratio:.3g}'):g} ×" in row.inner_text()


def test_the_table_is_filtered_by_numbers_and_by_dragging(show: Open, runs: Runs) -> None:
    page = show("#/compare?runs={run}")
    all_rows = page.locator("#points tbody tr").count()
    page.get_by_text("points by numbers").click()
    size = runs.row("quantize")["metrics"]["file_bytes"]["value"]
    box = page.get_by_label("files, at most")
    box.fill(str(size))
    box.press("Enter")
    page.get_by_text("1 point in the area").wait_for()
    assert page.locator("#points tbody tr").count() == 1
    page.get_by_role("button", name="Show all").click()
    assert page.locator("#points tbody tr").count() == all_rows
    drawing = page.locator("#picture .drawing")
    drawing.scroll_into_view_if_needed()
    area = drawing.bounding_box()
    dots = [drawing.locator(f'.mark[aria-label="tiny, {name}"] .dot').bounding_box() for name in ("distill", "teacher")]
    page.mouse.move(area["x"] + area["width"] - 14, area["y"] + 32)
    page.mouse.down()
    page.mouse.move((dots[0]["x"] + dots[1]["x"]) / 2, area["y"] + area["height"] - 50, steps=4)
    page.mouse.up()
    page.locator("#points").get_by_text("in the area").wait_for()
    assert page.locator("#points tbody th").all_text_contents() == ["tiny, teacher"]
