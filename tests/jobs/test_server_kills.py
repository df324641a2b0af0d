"""kill -9 of the real server, in the middle of a real run that somebody watches: nothing is lost, doubled or left."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from contextlib import closing

import pytest
import requests

import animals
from jobs.place import left_over, wait_for
from lessen.eventlog import read_new
from served import serving

SETTLED_S = 5.0  # after a restart, no run says that it is running
TRAIN = {"epochs": 20, "lr": 1e-3, "patience": None, "checkpoint_seconds": 0.2}


class Watcher(threading.Thread):
    """Asks for the events of a run by long-poll, from one server to the next, until it has succeeded."""

    def __init__(self, server, run_id):
        super().__init__(daemon=True)
        self.url = f"{server.url}/api/v1/runs/{run_id}/events"
        self.headers = server.headers
        self.lines, self.cuts, self.done = [], 0, False
        self.start()

    def run(self):
        while not self.done:
            after = self.lines[-1]["seq"] if self.lines else 0
            try:
                found = requests.get(self.url, params={"after": after, "wait": 5}, headers=self.headers, timeout=20)
                events = found.json()["events"]
            except requests.RequestException:  # the server is dead, or died in the middle of its answer
                self.cuts += 1
                time.sleep(0.05)
                continue
            self.lines += events
            self.done = any(line.get("state") == "succeeded" for line in events)
            if not events:
                time.sleep(0.05)


def state(server, run_id):
    return server.get(f"/api/v1/runs/{run_id}").json()["state"]


def go_on_and_be_killed(server, run_id, seconds):
    """Wait until a run trains, and a little longer, and kill its server."""
    seen = server.get(f"/api/v1/runs/{run_id}").json()["seq"]
    wait_for(lambda: any(
        line["kind"] == "Progress"
        for line in server.get(f"/api/v1/runs/{run_id}/events", params={"after": seen}).json()["events"]
    ), timeout=240, every=0.05)  # fmt: skip
    time.sleep(seconds)
    assert state(server, run_id) == "running"
    server.process.kill()
    server.process.wait()


@pytest.mark.slow
def test_a_watched_run_outlives_two_kills_of_its_server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seed = random.SystemRandom().randrange(1000)
    print(f"seed {seed}")  # pytest shows it where the test fails
    chance = random.Random(seed)
    recipe = animals.docstrings("watched", max_length=16) | {"pipeline": "baseline", "measure": {
        "speed": False, "baseline": False, "bootstrap": 20,
    }}  # fmt: skip
    recipe["export"] = {"formats": ["safetensors"]}
    recipe["teacher"] |= {"model": "scratch:bert-tiny", "train": TRAIN}
    with serving(tmp_path) as server:
        run_id = server.post("/api/v1/runs", json={"recipe": recipe}).json()["run_id"]
        port, folder = server.port, server.root / run_id
        watcher = Watcher(server, run_id)
        go_on_and_be_killed(server, run_id, chance.uniform(0, 0.5))
    for kill_again in (True, False):
        with serving(tmp_path, "--port", str(port)) as server:
            wait_for(lambda: state(server, run_id) == "interrupted", timeout=SETTLED_S)
            assert server.get("/api/v1/runs", params={"state": "running"}).json()["total"] == 0
            assert left_over(folder) == []
            assert server.post(f"/api/v1/runs/{run_id}/resume").status_code == 202
            if kill_again:
                go_on_and_be_killed(server, run_id, chance.uniform(0, 0.5))
            else:
                wait_for(lambda: watcher.done, timeout=240)
                wait_for(lambda: state(server, run_id) == "succeeded")
    watcher.join(5)
    written = read_new(folder / "events.jsonl")[0]
    assert [line["seq"] for line in watcher.lines] == list(range(1, len(written) + 1))
    assert watcher.lines == written
    assert watcher.cuts >= 2
    states = [line["state"] for line in written if line["kind"] == "RunStateChanged"]
    assert states.count("interrupted") == 2
    assert states[-1] == "succeeded"
    assert any("resumed at step" in line.get("message", "") for line in written)
    with closing(sqlite3.connect(server.root / ".lessen" / "store.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert left_over(folder) == []
