"""kill -9 at random moments, of the worker, of the server, of both: nothing is lost, doubled or left running."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import suppress

import pytest

from jobs.place import Place, check_books, left_over, serve, wait_for

NUMBERS = 60


def kill(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def resumed_or_new(place, runs):
    """Put the last run in the queue again, or another one where it has succeeded."""
    if not runs or place.state(runs[-1]) == "succeeded":
        runs.append(place.run(f"count {NUMBERS}"))
    elif place.state(runs[-1]) in ("failed", "interrupted"):
        place.supervisor.resume(runs[-1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_random_kills(tmp_path, seed):
    chance = random.Random(seed)
    root = tmp_path / "runs"
    place = Place(root)  # only looks and queues; the servers are processes of their own
    runs = []
    for _ in range(10):
        resumed_or_new(place, runs)
        server = serve(root)
        began = time.monotonic()
        time.sleep(chance.uniform(0.1, 2.0))
        victim = chance.choice(["worker", "server", "both"])
        pid = place.store.need(runs[-1]).worker_pid
        if victim != "server" and pid:
            kill(pid)
        if victim == "worker" and pid:
            wait_for(lambda: place.state(runs[-1]) in ("failed", "succeeded"), timeout=5)
        server.kill()
        server.wait()
        with Watch(root, runs[-1]) as watch:  # what the next server finds, it settles within 5 seconds
            wait_for(lambda: watch.place.state(runs[-1]) not in ("running", "cancelling"), timeout=5)
        assert time.monotonic() - began < 60
    last = place.start()
    for run_id in runs:
        if last.state(run_id) not in ("succeeded", "queued"):
            last.supervisor.resume(run_id)
    for run_id in runs:
        record = last.until(run_id, "succeeded", timeout=30)
        assert json.loads((record.folder / "sum.json").read_text()) == [NUMBERS, sum(i * i for i in range(NUMBERS + 1))]
        lines = check_books(last.store, run_id)
        losses = {line["step"]: line["loss"] for line in lines if line["kind"] == "Progress"}
        assert losses == {n: sum(i * i for i in range(n + 1)) for n in range(1, NUMBERS + 1)}
        assert left_over(record.folder) == []
    place.close()


class Watch:
    """A server for a moment, which starts nothing new: it has no slot."""

    def __init__(self, root, run_id):
        self.place = Place(root, slots=0)

    def __enter__(self):
        self.place.start()
        return self

    def __exit__(self, *error):
        self.place.close()
