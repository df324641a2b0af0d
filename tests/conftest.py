"""What every test has in common: those that start processes or a whole application of their own are slow."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
STARTS = {"server", "open_page", "browser", "client_of"}  # fixtures that start one
WITHIN = {"test_table.py"}  # of tests/jobs: no process


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what starts a server, an application, a browser or a worker."""
    for item in items:
        jobs = item.path.parent == HERE / "jobs" and item.path.name not in WITHIN
        if jobs or STARTS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
