"""What ships beside the code: who to cite, what it brings along, under which licences."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from lessen import __version__

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = dict(line.split("==") for line in LINES if "==" in line and not line.startswith("#"))
SBOM = json.loads((ROOT / "src" / "lessen" / "sbom.cdx.json").read_text(encoding="utf-8"))  # hatchling packs it


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[><=;~! ]", text, maxsplit=1)[0].lower() for text in requirements}


def test_the_bill_of_materials_holds_every_dependency_as_it_is_pinned() -> None:
    parts = {part["name"]: part for part in SBOM["components"]}
    assert names(PROJECT["project"]["dependencies"]) - set(parts) == set()
    packages = {name: part for name, part in parts.items() if part["purl"].startswith("pkg:pypi/")}
    assert {n: p["version"] for n, p in packages.items() if PINS.get(n, "").partition("+")[0] != p["version"]} == {}
    assert [name for name, part in parts.items() if not part["licenses"]] == []


def test_the_bill_of_materials_holds_the_dashboards_libraries() -> None:
    vendor = ROOT / "src" / "lessen" / "server" / "static" / "vendor"
    parts = {part["name"]: part["version"] for part in SBOM["components"]}
    assert f"v{parts['socket.io-client']}" in (vendor / "socket.io.esm.min.js").read_text(encoding="utf-8")[:300]
    assert f"v{parts['uplot']}" in (vendor / "uPlot.iife.min.js").read_text(encoding="utf-8")[:300]
    patterns = PROJECT["project"]["license-files"]
    found = {path.name for pattern in patterns for path in ROOT.glob(pattern)}
    assert found == {"LICENSE", *(path.name for path in vendor.glob("LICENSE*"))}


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"]


def test_what_an_extra_brings_is_pinned_and_tested() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert names(extras["loggers"]) <= set(PINS)
    assert "lessen[loggers]" in extras["test"]
