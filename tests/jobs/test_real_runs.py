"""Real runs through real workers: killed, with the worker or the server, and equal to one that nobody disturbed."""

from __future__ import annotations

import hashlib
import json
import os
import signal

import pytest

from jobs.place import Place, check_books, left_over, serve, wait_for
from lessen.jobs.supervisor import WORKER
from lessen.recipe import parse

TRAIN = {"epochs": 4, "batch_size": 8, "lr": 1e-3, "checkpoint_seconds": 0.3}
RECIPE = {
    "name": "killed",
    "task": "image-classification",
    "pipeline": "kd_only",
    "data": {"source": "digits", "limit": 30, "image_size": 16},
    "teacher": {"model": "scratch:resnet-tiny", "train": TRAIN},
    "student": {"model": "teacher", "hidden_size": 32},
    "distill": {"train": TRAIN},
    "export": {"formats": ["safetensors"]},
    "measure": {"speed": False, "baseline": False, "bootstrap": 20},
}


def weights(folder):
    files = sorted((folder / "stages").rglob("model.safetensors"))
    return {f.parent.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def working(place, run_id, stage):
    """Wait until a run has made further steps of a stage, and return its worker."""
    before = place.store.need(run_id).seq

    def made():
        lines = place.store.events(run_id, after=before, kinds=["Progress"], stage=stage)
        return any(line["step"] > 20 for line in lines)

    wait_for(made, timeout=120)
    return place.store.need(run_id).worker_pid


@pytest.mark.slow
def test_a_real_run_that_is_killed_twice_has_the_weights_of_an_undisturbed_one(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = tmp_path / "runs"
    place = Place(root, worker=WORKER).start()
    whole = place.supervisor.submit(parse(RECIPE), name="whole").run_id
    killed = place.supervisor.submit(parse(RECIPE)).run_id
    whole = place.until(whole, timeout=200)
    assert whole.state == "succeeded", whole.error
    assert whole.summary["score"] > 0

    os.kill(working(place, killed, "teacher"), signal.SIGKILL)
    record = place.until(killed)
    assert (record.state, record.error["signal"]) == ("failed", "SIGKILL")
    check_books(place.store, killed)
    place.supervisor.resume(killed)
    place.until(killed, "starting", "running")
    place.close()
    assert place.state(killed) == "interrupted"

    place = Place(root)
    place.supervisor.resume(killed)
    server = serve(root, WORKER)
    working(place, killed, "distill")
    server.kill()
    server.wait()
    place = Place(root, worker=WORKER).start()
    assert place.until(killed).state == "interrupted"
    check_books(place.store, killed)
    assert weights(record.folder).keys() < weights(whole.folder).keys()
    place.supervisor.resume(killed)
    record = place.until(killed, timeout=200)
    assert record.state == "succeeded", record.error
    assert left_over(record.folder) == []
    lines = check_books(place.store, killed)
    assert any(line["kind"] == "Log" and "resumed at step" in line["message"] for line in lines)
    assert weights(record.folder) == weights(whole.folder)
    assert json.loads((record.folder / "report.json").read_text())["complete"]
    place.close()
