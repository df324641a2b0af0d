"""What every test has in common: those that start processes or a whole application of their own are slow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
PATIENCE_MS = 30_000  # what a page may take on two cores that other tests work on as well
STARTS = {"server", "open_page", "browser", "client_of"}  # fixtures that start one
WITHIN = {"test_table.py"}  # of tests/jobs: no process


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what starts a server, an application, a browser or a worker."""
    for item in items:
        jobs = item.path.parent == HERE / "jobs" and item.path.name not in WITHIN
        if jobs or item.path.parent == HERE / "browser" or STARTS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; of one file only, since its event loop is the thread's as long as it lives."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()
