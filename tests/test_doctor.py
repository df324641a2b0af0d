"""The doctor states facts and problems."""

from __future__ import annotations

from pathlib import Path

import pytest

from lessen import doctor


def test_facts_are_those_of_this_machine(tmp_path: Path) -> None:
    facts = doctor.examine(cache_dir=tmp_path / "not" / "yet")
    assert facts["packages"]["torch"]
    assert facts["cpu"]["threads"] >= 1
    assert facts["memory_bytes"]["total"] >= facts["memory_bytes"]["available"] > 0
    assert facts["cache"]["folder"].endswith("yet")
    assert not (tmp_path / "not").exists()


def test_the_hub_is_asked_only_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_hub", lambda: {"reachable": False, "reason": "no network"})
    assert doctor.examine()["hub"] is None
    assert doctor.examine(hub=True)["hub"] == {"reachable": False, "reason": "no network"}


def test_too_little_disk_and_a_missing_package_are_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_DISK_GB", 1e9)
    monkeypatch.setattr(doctor, "NEEDED", (*doctor.NEEDED, "no-such-package"))
    problems = doctor.examine()["problems"]
    assert any("GB of disk" in p for p in problems)
    assert any("no-such-package is not installed" in p for p in problems)
