"""What is known of a run's folder without opening the run."""

from __future__ import annotations

import os
from pathlib import Path

from lessen.folder import disk_bytes


def test_what_a_folder_takes_counts_every_file_once_and_follows_no_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "big").write_bytes(b"x" * 1000)
    folder = tmp_path / "run"
    (folder / "stages" / "00-teacher").mkdir(parents=True)
    (folder / "stages" / "00-teacher" / "weights").write_bytes(b"x" * 100)
    (folder / ".lock").write_bytes(b"x")
    os.link(folder / "stages" / "00-teacher" / "weights", folder / "again")
    (folder / "final").symlink_to("stages/00-teacher", target_is_directory=True)
    (folder / "out").symlink_to(elsewhere)
    (folder / "file").symlink_to(elsewhere / "big")
    assert disk_bytes(folder) == 101
    assert disk_bytes(tmp_path / "none") == 0
