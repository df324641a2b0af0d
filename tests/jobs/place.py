"""A root of runs with a supervisor whose workers act (stand_in.py), for tests."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from lessen.jobs import Supervisor, Timing
from lessen.jobs.tree import MARK
from lessen.recipe import parse
from lessen.store import Store

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py")))
FINAL = ("succeeded", "failed", "cancelled", "interrupted")


def recipe(what: str, **more):
    return parse({"name": "act", "author": what, "data": {"source": "docstrings"}, **more})


def wait_for(condition, timeout=60.0, every=0.02):
    """Wait until a condition holds and return what it returned."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(every)
    raise AssertionError(f"not within {timeout:g} s")


def best_of(promise_s, attempt, tries=5):
    """Return what an attempt returned that took no longer than promised; `attempt` returns (value, seconds).

    A busy machine may be late once and again: what is promised must hold in one of several tries.
    """
    took = []
    for _ in range(tries):
        value, seconds = attempt()
        if seconds <= promise_s:
            return value
        took.append(round(seconds, 2))
    raise AssertionError(f"{promise_s:g} s are promised, and the tries took {took}")


class Place:
    """A root of runs with a supervisor and what it told."""

    def __init__(self, root: Path, worker=STAND_IN, timing: Timing | None = None, **more):
        self.root = root
        self.store = Store(root)
        self.supervisor = Supervisor(self.store, worker=worker, timing=timing or Timing(), **more)
        self.notices = []
        self.supervisor.listen(self.notices.append)

    def start(self):
        self.supervisor.start()
        return self

    def run(self, what, **more):
        return self.supervisor.submit(recipe(what, **more)).run_id

    def state(self, run_id):
        return self.store.need(run_id).state

    def until(self, run_id, *states, timeout=60.0):
        wait_for(lambda: self.state(run_id) in (states or FINAL), timeout)
        return self.store.need(run_id)

    def steps(self, run_id, number=1):
        """Wait until a run has told of so many steps."""
        wait_for(lambda: len(self.store.events(run_id, kinds=["Progress"], limit=10_000)) >= number)

    def close(self):
        self.supervisor.stop(1.0)
        self.store.close()


def left_over(folder: Path):
    """Return the processes that work for a run's folder."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def check_books(store: Store, run_id: str):
    """Require that events.jsonl, run.json and the store tell the same, with seq 1, 2, 3 ... and no gap."""
    record = store.need(run_id)
    lines = [json.loads(line) for line in (record.folder / "events.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert store.events(run_id, limit=1_000_000) == lines
    body = json.loads((record.folder / "run.json").read_text())
    states = [line["state"] for line in lines if line["kind"] == "RunStateChanged"]
    assert states[-1] == body["state"] == record.state
    with sqlite3.connect(store.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    return lines


SERVE = """
import sys, time
from pathlib import Path
from lessen.jobs import Supervisor
from lessen.store import Store
supervisor = Supervisor(Store(Path(sys.argv[1])), worker=sys.argv[2:])
supervisor.start()
print("started", flush=True)
time.sleep(600)
"""


def serve(root: Path, worker=STAND_IN):
    """Start a process that holds a supervisor, as a server does."""
    command = [sys.executable, "-c", SERVE, str(root), *worker]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    assert process.stdout.readline() == b"started\n"
    process.stdout.close()
    return process


def shell(folder: Path, author: str, name="typed"):
    """Start a run as `lessen run --force` in a shell does."""
    return subprocess.Popen([*STAND_IN, "--shell", str(folder), name, author], start_new_session=True)
