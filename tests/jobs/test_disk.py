"""A disk that is full, or will be, is a clear failure that leaves the store sound."""

from __future__ import annotations

import json
import os
import resource
import shutil
import sqlite3
import subprocess
from contextlib import contextmanager

import pytest
import torch

from jobs.place import Place, check_books
from lessen import checkpoint
from lessen.context import Context
from lessen.errors import ResourceError, as_lessen


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


@pytest.mark.parametrize("how", ["fill", "limit"])
def test_the_last_checkpoint_outlives_a_full_disk_and_the_run_goes_on_from_it(request, tmp_path, how):
    """`limit` needs no disk of its own: the worker may write no more, as everywhere where nothing can be mounted."""
    disk = request.getfixturevalue("small_disk") if how == "fill" else tmp_path
    place = Place(disk / "runs").start()
    try:
        run_id = place.run(f"{how} 20")
        record = place.until(run_id)
        assert (record.state, record.error["kind"], record.error["exit_code"]) == ("failed", "disk_full", 7)
        assert json.loads((record.folder / "sum.json").read_text()) == [10, sum(n * n for n in range(11))]
        assert not list(record.folder.glob(".sum.json*")), "what could not be written whole is gone"
        check_books(place.store, run_id)
        (record.folder / "junk").unlink(missing_ok=True)
        place.supervisor.resume(run_id)
        assert place.until(run_id).state == "succeeded"
        assert json.loads((record.folder / "sum.json").read_text()) == [20, sum(n * n for n in range(21))]
        lines = check_books(place.store, run_id)
        assert [line["step"] for line in lines if line["kind"] == "Progress"][-10:] == list(range(11, 21))
    finally:
        place.close()


@contextmanager
def no_file_larger_than(limit):
    """Let every write beyond so many bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before_it(tmp_path):
    ctx = Context(out_dir=tmp_path)
    first, second = ({"w": torch.full((1000,), value)} for value in (1.0, 2.0))
    checkpoint.write(tmp_path, 1, first, {})
    before = sorted(file.name for file in tmp_path.iterdir())
    with pytest.raises(OSError, match="File too large") as caught, no_file_larger_than(2000):
        checkpoint.write(tmp_path, 2, second, {})
    assert as_lessen(caught.value).kind == "disk_full"
    assert sorted(file.name for file in tmp_path.iterdir()) == before
    step, tensors, _ = checkpoint.newest(tmp_path, ctx)
    assert step == 1
    assert torch.equal(tensors["w"], first["w"])
    checkpoint.write(tmp_path, 2, second, {})
    assert checkpoint.newest(tmp_path, ctx)[0] == 2


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
    large = of(OSError(27, "File too large", "weights"))
    assert (large.kind, large.exit_code) == ("disk_full", 7)
    assert "ulimit -f" in large.message
