"""Curves of the result page, sensitivity of the layers page: report and layers are written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from report.conftest import build
from served import Outside, Running, eventually
from storied import progress

MB = 1_000_000
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
FFN = "bert.encoder.layer.{}.intermediate.dense"
SENSITIVITY = {
    "metric": "f1_macro", "unit": "share", "n": 200, "baseline": 0.85, "shares": [0.25, 0.5, 0.75],
    "layers": [
        {"module": FFN.format(0), "kind": "ffn", "values": [0.84, 0.80, 0.60]},
        {"module": FFN.format(1), "kind": "ffn", "values": [0.85, 0.84, 0.82]},
        {"module": "bert.encoder.layer.1.attention", "kind": "heads", "values": [0.86, 0.87, 0.86]},
    ],
}  # fmt: skip
Open = Callable[..., Any]


def quantiles(start: float) -> list[float]:
    return [round(start * 1.01**k, 6) for k in range(101)]


def reliability(sure: float) -> dict[str, Any]:
    empty = {"n": 0, "confidence": None, "accuracy": None}
    full = {2: {"n": 30, "confidence": 0.55, "accuracy": 0.5}, 4: {"n": 170, "confidence": 0.95, "accuracy": sure}}
    return {"bins": [{"low": k / 5, "high": (k + 1) / 5, **full.get(k, empty)} for k in range(5)]}


def layer(name: str, parent: str | None, *, parameters: int = 8, units: int | None = None) -> dict[str, Any]:
    leaf = units is not None or name == "classifier"
    unknown = dict.fromkeys(("nonzero", "sparsity", "flops", "latency_share", "error"))
    return {
        "id": name, "name": name.rpartition(".")[2], "parent": parent, "depth": 0, "fold": name,
        "kind": "Linear" if leaf else "Block", "shape": [4, 2] if leaf else None, "bits": 32.0,
        "parameters": parameters, "bytes": 4 * parameters, "units_before": units, "units_after": units, **unknown,
    }  # fmt: skip


def layers(run_id: str) -> dict[str, Any]:
    blocks = [f"bert.encoder.layer.{i}" for i in (0, 1)]
    dense = [layer(FFN.format(i), block, units=4) for i, block in enumerate(blocks)]
    query = layer("bert.encoder.layer.1.attention.query", blocks[1], units=2)
    rows = [layer("model", None, parameters=40), *(layer(b, "model") for b in blocks), *dense, query]
    rows += [layer("classifier", "model")]
    columns = [
        {"key": k, "unit": u, "title": k, "reason": None} for k, u in (("parameters", "count"), ("bytes", "bytes"))
    ]
    return {
        "run_id": run_id, "stage": "prune", "against": None, "stages": ["teacher", "distill", "prune"],
        "columns": columns, "layers": rows, "totals": rows[0], "against_layers": [], "remarks": [],
    }  # fmt: skip


HISTOGRAM = {
    "stage": "prune", "against": None, "layer": "x", "edges": [-1.0, 0.0, 1.0], "counts": [3, 5],
    "against_counts": None,
    "n": 8, "min": -1.0, "max": 1.0, "mean": 0.0, "std": 0.5, "zeros": 0, "quant": None, "units": None, "kept": None,
    "removed": None, "rows": None, "remarks": [],
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A run with everything that can be drawn, and one of an older lessen that has none of it."""

    new: str
    old: str


def written(server: Running, name: str, *, whole: bool) -> str:
    run = Outside(server.root, name)
    report = json.loads(build(timed=whole).model_dump_json())
    for row in report["rows"]:
        row["artifact"] = None
        if not whole:
            row["metrics"].pop("agreement_with_teacher")
            continue
        ms = row["metrics"]["latency_p50_ms"]["value"]
        row["facts"]["latency"] = {str(b): {"n": 992 + b, "quantiles_ms": quantiles(b * ms)} for b in (1, 8)}
        row["facts"]["reliability"] = reliability(0.9 if row["stage"] == "teacher" else 0.8)
        if row["stage"] == "prune":
            row["facts"]["sensitivity"] = SENSITIVITY
    (run.path / "report.json").write_text(json.dumps(report))
    for step in range(1, 11):
        more = {"rss_bytes": (300 if step == 4 else 200) * MB} if whole else {}
        run.write(progress("teacher", step, 1.0 / step, **more))
    run.end()
    return run.run_id


@pytest.fixture(scope="module")
def made(server: Running) -> Made:
    runs = Made(written(server, "whole", whole=True), written(server, "older", whole=False))
    known = {runs.new, runs.old}
    eventually(lambda: {r["run_id"] for r in server.get("/api/v1/runs").json()["runs"]} >= known)
    return runs


@pytest.fixture
def show(server: Running, made: Made, open_page: Open) -> Open:
    def open_(address: str, **more: Any) -> Any:
        page = open_page(server, "#/system", **more)
        page.route("**/layers?*", lambda route: route.fulfill(json=layers(made.new)))
        page.route("**/layers", lambda route: route.fulfill(json=layers(made.new)))
        page.route("**/histogram?*", lambda route: route.fulfill(json={**HISTOGRAM, "run_id": made.new}))
        page.goto(f"{server.url}/{address.format(new=made.new, old=made.old)}")
        page.locator("#about, #tree").wait_for()
        return page

    return open_


@pytest.fixture
def expect() -> Any:
    from playwright.sync_api import expect

    return expect


def figure(page: Any, title: str) -> Any:
    found = page.locator("figure", has_text=title).first
    found.locator(".mark").first.wait_for()
    return found


def test_every_call_is_drawn_with_its_quantiles(show: Open, expect: Any) -> None:
    page = show("#/result/{new}")
    chart = figure(page, "Latency of all calls")
    labels = said(chart)
    assert labels[:2] == ["teacher, p50: 35.2 ms", "teacher, p95: 55.1 ms"]
    assert not any("p99" in text for text in labels)  # of 993 calls
    chart.get_by_role("button", name="Show as a table").click()
    expect(chart.locator("tbody tr")).to_have_count(101)
    page.get_by_label("Batch size").select_option("8")
    page.get_by_text("n = 1,000").first.wait_for()
    expect(chart.get_by_role("img", name="quantize, p99: ")).to_have_count(1)
    assert "batch=8" in page.url
    page.reload()
    page.locator("#latency").get_by_text("n = 1,000").first.wait_for()


def said(chart: Any) -> list[str]:
    return chart.locator(".mark").evaluate_all("nodes => nodes.map((n) => n.getAttribute('aria-label'))")


def test_confidence_memory_and_agreement_are_drawn(show: Open, expect: Any) -> None:
    page = show("#/result/{new}")
    sure = figure(page, "Reliability")
    assert said(sure) == [
        "teacher: 55.0 % sure, 50.0 % right, n = 30",
        "teacher: 95.0 % sure, 90.0 % right, n = 170",
        "quantize: 55.0 % sure, 50.0 % right, n = 30",
        "quantize: 95.0 % sure, 80.0 % right, n = 170",
    ]
    tall = sure.locator("rect.bar").evaluate_all("nodes => nodes.map((n) => Number(n.getAttribute('height')))")
    assert len(tall) == 10
    assert tall[2] == pytest.approx(tall[4] * 30 / 170, abs=0.05)
    memory = figure(page, "Memory while training")
    assert said(memory) == ["teacher, 4", "teacher, 10"]  # the peak and the last step
    memory.locator(".mark").first.focus()
    expect(memory.locator(".readout")).to_have_text("teacher, step 4: 300 MB")
    agreement = figure(page, "Agreement with the teacher")
    expect(agreement).to_contain_text("93.00 %")
    expect(agreement).to_contain_text("this is the teacher")


def test_what_an_older_report_lacks_is_left_out_with_the_reason(show: Open, expect: Any) -> None:
    page = show("#/result/{old}")
    for name in ("Latency of all calls", "Reliability", "Memory while training", "Agreement with the teacher"):
        page.get_by_text(f"Not drawn: {name}").wait_for()
    page.goto(page.url.replace("#/result", "#/layers") + "?stage=prune&against=none")
    expect(page.locator("#tree")).to_contain_text("prune.sensitivity")
    assert "damage" not in page.locator("#tree thead").inner_text()
    assert page.said.lines == []


def test_what_was_chosen_on_the_result_page_stands_in_its_address(show: Open, expect: Any) -> None:
    page = show("#/result/{new}")
    page.locator('#confusion .heat >> nth=1 >> td[data-row="0"][data-column="2"] button').click()
    expect(page.locator("#confusion .where")).to_contain_text("quantize: true numpy, said sklearn")
    page.get_by_label("Which samples").select_option("changed")
    page.get_by_label("Find a metric").fill("Latency P9")
    page.wait_for_function("() => location.hash.includes('find=') && location.hash.includes('samples=changed')")
    with page.expect_request("**/samples?*") as asked:
        page.reload()
    assert "label=numpy&predicted=sklearn&change=changed" in asked.value.url
    expect(page.locator("#confusion .where")).to_contain_text("quantize: true numpy, said sklearn")
    expect(page.get_by_label("Which samples")).to_have_value("changed")
    expect(page.get_by_label("Find a metric")).to_have_value("latency p9")
    expect(page.locator("#table tbody th")).to_have_text(
        ["latency p95 ↓lower is better", "latency p99 ↓lower is better"]
    )


def test_a_layer_shows_what_its_cut_alone_costs(show: Open, expect: Any) -> None:
    page = show(f"#/layers/{{new}}?stage=prune&against=none&layer={FFN.format(0)}&sort=damage")
    chart = figure(page, "When this layer alone is cut")
    assert said(chart) == [f"feed-forward units, {share} %" for share in ("0.0", "25.0", "50.0", "75.0")]
    assert chart.locator("line.target").count() == 1
    rows = page.get_by_role("treegrid").locator("tbody tr")
    ffn = page.locator(f'tr[data-id="{FFN.format(0)}"] td').last
    expect(ffn).to_have_text("25.00 points")
    expect(page.locator('tr[data-id="bert.encoder.layer.1"] td').last).to_have_text("3.00 points")  # the worst below
    blocks = rows.evaluate_all("nodes => nodes.filter((n) => n.ariaLevel === '2').map((n) => n.dataset.id)")
    assert blocks == ["bert.encoder.layer.0", "bert.encoder.layer.1", "classifier"]
    expect(page.locator("#tree")).to_contain_text("macro-F1 gets worse on 200 validation samples when 75 %")
    page.get_by_label("Find a layer").fill("query")
    page.wait_for_function("() => location.hash.includes('find=query')")
    page.reload()
    expect(page.get_by_label("Find a layer")).to_have_value("query")
    expect(rows).to_have_count(2)  # the root and what was found


def test_layers_are_collected_and_start_opens_with_them(show: Open, expect: Any, made: Made) -> None:
    page = show(f"#/layers/{{new}}?stage=prune&against=none&layer={FFN.format(0)}")
    page.get_by_role("button", name="Leave unpruned").click()
    expect(page.get_by_role("button", name="Leave unpruned")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("treegrid").locator('tr[data-id="classifier"]').click()
    expect(page.locator("#layer h2")).to_contain_text("classifier")
    assert page.get_by_role("button", name="Leave unpruned").count() == 0  # nothing of it could be cut
    page.get_by_role("button", name="Leave in float").click()
    expect(page.locator("#next code.pre")).to_have_text(
        f'prune:\n  ignore:\n    - "{FFN.format(0)}"\nquantize:\n  ignore:\n    - "classifier"'
    )
    page.reload()
    page.locator("#next").get_by_role("button", name="Do not leave classifier alone").click()
    expect(page.locator("#next li")).to_have_count(1)
    expect(page.get_by_role("button", name="Leave in float")).to_have_attribute("aria-pressed", "false")
    with page.expect_request(lambda r: r.url.endswith("/recipes/check")) as asked:
        page.get_by_role("link", name="Open Start with these").click()
    assert asked.value.post_data_json["recipe"]["prune"]["ignore"] == [FFN.format(0)]
    assert made.new in page.url


def test_the_curve_and_the_collection_are_sound(show: Open) -> None:
    from axe_playwright_python.sync_playwright import Axe

    address = f"#/layers/{{new}}?stage=prune&against=none&layer={FFN.format(0)}&unpruned=classifier"
    page = show(address, width=320, scheme="dark")
    figure(page, "When this layer alone is cut")
    found = Axe().run(page, options={"runOnly": list(RULES)}).response["violations"]
    assert [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.said.lines == []
