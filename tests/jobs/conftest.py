from __future__ import annotations

import pytest

from jobs.place import Place


@pytest.fixture
def place(tmp_path):
    """A started supervisor whose workers act."""
    made = Place(tmp_path / "runs").start()
    yield made
    made.close()
