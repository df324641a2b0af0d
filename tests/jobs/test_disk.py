"""A disk that is full, or will be, is a clear failure that leaves the store sound."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from types import SimpleNamespace

import pytest

from jobs.place import Place, check_books
from lessen.errors import ResourceError, as_lessen
from lessen.jobs import worker


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small disk")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up(small_disk):
    place = Place(small_disk / "runs").start()
    try:
        run_id = place.run("stuff")
        record = place.until(run_id)
        assert record.state == "failed"
        assert (record.error["kind"], record.error["exit_code"]) == ("disk_full", 7)
        assert "the disk is full" in record.error["message"]
        assert record.error["hint"]
        assert not list((record.folder / "stages").iterdir()), "what could not be written whole is gone"
        with sqlite3.connect(place.store.path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        db.close()
        (record.folder / "junk").unlink()
        after = place.until(place.run("steps 3"))
        assert after.state == "succeeded"
        check_books(place.store, after.run_id)
        check_books(place.store, run_id)
    finally:
        place.close()


@pytest.mark.parametrize(("free", "needed", "there", "fits"), [
    (200, 100, 0, True), (199, 100, 0, False), (199, 100, 10, True), (10, 100, 100, True), (0, None, 0, True),
])  # fmt: skip
def test_a_run_needs_twice_the_room_that_it_is_estimated_to_write(tmp_path, monkeypatch, free, needed, there, fits):
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "weights").write_bytes(b"x" * there)
    monkeypatch.setattr(worker.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    if fits:
        worker.require_room(tmp_path, needed)
        return
    with pytest.raises(ResourceError, match="the disk is too full") as caught:
        worker.require_room(tmp_path, needed)
    assert (caught.value.kind, caught.value.exit_code) == ("disk_full", 7)


def test_a_full_disk_is_known_whoever_says_so():
    def of(error, cause=None):
        try:
            raise error from cause
        except Exception as caught:
            return as_lessen(caught)

    full = OSError(28, "No space left on device", "weights")
    assert of(full).kind == "disk_full"
    assert of(RuntimeError("Error while serializing: No space left on device (os error 28)")).kind == "disk_full"
    assert of(ResourceError("the cache cannot be written"), full).kind == "disk_full"
    assert "the cache cannot be written" in of(ResourceError("the cache cannot be written"), full).message
    assert not getattr(of(OSError(13, "Permission denied")), "kind", "")
