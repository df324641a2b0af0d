"""Runs side by side."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lessen import report
from lessen.server.v1.compare import config_diff

from .conftest import client_of, service_at

V1 = "/api/v1"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def three(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The tiny run as a; b: another processor and other settings; c: another data set; d: no report."""
    root = tmp_path_factory.mktemp("compare") / "runs"
    for name in "abcd":
        shutil.copytree(made, root / name, symlinks=True)
        state = json.loads((root / name / "run.json").read_text())
        (root / name / "run.json").write_text(json.dumps(state | {"run_id": name}))
        values: dict[str, Any] = json.loads((root / name / "report.json").read_text()) | {"run_id": name}
        if name == "b":
            values["environment"]["cpu"] = "another processor"
            recipe = json.loads((root / name / "recipe.json").read_text())
            recipe["seed"], recipe["prune"]["remove_frac"] = 7, 0.25
            (root / name / "recipe.json").write_text(json.dumps(recipe))
        if name == "c":
            values["data"]["digest"] = "another"
        (root / name / "report.json").write_text(json.dumps(values))
    (root / "d" / "report.json").unlink()
    service = service_at(root)
    service.begin()
    try:
        end = time.monotonic() + 30
        while len(service.store.list()[0]) < 4:
            assert time.monotonic() < end
            time.sleep(0.05)
        yield client_of(service)
    finally:
        service.end()


def test_every_stage_is_a_point_with_its_numbers(three: TestClient, made: Path) -> None:
    found = three.get(f"{V1}/compare?runs=a,b").json()
    rows = report.read(made).rows
    assert [(p["run_id"], p["stage"]) for p in found["points"]] == [(r, row.stage) for r in "ab" for row in rows]
    first = found["points"][0]
    assert first["metrics"]["f1_macro"]["value"] == rows[0].value("f1_macro")
    assert first["metrics"]["f1_macro"]["ci95"] == list(rows[0].metrics["f1_macro"].ci95 or ())
    assert [p["stage"] for p in found["points"] if p["final"]] == ["quantize"] * 2
    better = {m["name"]: m["better"] for m in found["metrics"]}
    assert (better["f1_macro"], better["file_bytes"], better["sparsity"]) == ("higher", "lower", None)
    assert [c["candidate"] for c in found["comparisons"]["a"]][:1] == ["runtime"]


def test_speeds_of_other_machines_and_scores_on_other_data_are_kept_apart(three: TestClient) -> None:
    found = three.get(f"{V1}/compare?runs=a,b,c").json()
    speed = {p["run_id"]: p["comparable"] for p in found["points"] if p["stage"] == "quantize"}
    quality = {p["run_id"]: p["comparable_quality"] for p in found["points"]}
    assert speed["a"] == speed["c"] != speed["b"]
    assert quality["a"] == quality["b"] != quality["c"]
    said = " ".join(found["remarks"])
    assert "b: speed cannot be compared with a: cpu is another processor" in said
    assert "c: quality cannot be compared with a" in said


def test_only_settings_that_differ_are_listed(three: TestClient) -> None:
    found = three.get(f"{V1}/compare?runs=a,b,c").json()["config_diff"]
    assert {d["path"]: d["values"] for d in found} == {
        "seed": {"a": 42, "b": 7, "c": 42},
        "prune.remove_frac": {"a": 0.5, "b": 0.25, "c": 0.5},
    }


def test_parts_that_one_recipe_lacks_are_null() -> None:
    recipes = {"a": {"prune": {"recover": None}, "x": 1}, "b": {"prune": {"recover": {"epochs": 2}}, "x": 1}}
    found = {d.path: d.values for d in config_diff(recipes)}
    assert found == {"prune.recover": {"a": None, "b": None}, "prune.recover.epochs": {"a": None, "b": 2}} or found == {
        "prune.recover.epochs": {"a": None, "b": 2}
    }
    assert config_diff({"a": {"name": "x", "output_dir": "p"}, "b": {"name": "y"}}) == []


def test_a_run_without_a_report_is_listed_and_said_so(three: TestClient) -> None:
    found = three.get(f"{V1}/compare?runs=a,d").json()
    assert [r["run_id"] for r in found["runs"]] == ["a", "d"]
    assert {p["run_id"] for p in found["points"]} == {"a"}
    assert any("d" in text and "no report" in text for text in found["remarks"])


@pytest.mark.parametrize(
    ("runs", "status"), [("", 422), (",", 422), ("a,nobody", 404), (",".join(map(str, range(51))), 422)]
)
def test_what_cannot_be_compared_is_refused(three: TestClient, runs: str, status: int) -> None:
    assert three.get(f"{V1}/compare?runs={runs}").status_code == status
