"""Processes are told apart whatever the system's clock does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from jobs.place import Place, check_books, shell, wait_for
from lessen import birth as births
from lessen.birth import birth
from lessen.folder import read_state
from lessen.jobs import Timing, tree
from lessen.jobs.tree import Identity
from lessen.jobs.usage import Meter, cpu_seconds

SLEEPER = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.1: pass\ntime.sleep(60)"]


@pytest.fixture
def sleeper():
    """A process that sleeps."""
    process = subprocess.Popen(SLEEPER)
    yield process
    process.kill()
    process.wait()


def step_clock(monkeypatch, seconds):
    """Set the system's clock forward, as psutil sees it: the date of the boot moves with it."""
    before = psutil._pslinux.boot_time
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: before() + seconds)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_process_is_found_after_the_clock_was_set(sleeper, monkeypatch, tmp_path, seconds):
    who = tree.identify(sleeper.pid)
    meter = Meter("run", who)
    before = psutil.Process(sleeper.pid).create_time()
    step_clock(monkeypatch, seconds)
    assert abs(psutil.Process(sleeper.pid).create_time() - before) > 3000, "psutil does move with the clock"
    assert tree.find(who) is not None
    assert tree.identify(sleeper.pid) == who
    assert tree.living([who]) == tree.family(who) == {who}
    wait_for(lambda: cpu_seconds(who) > 0)
    assert meter.sample().rss_bytes > 0
    tree.send([who], signal.SIGTERM)
    assert sleeper.wait(5) == -signal.SIGTERM
    assert tree.find(who) is None


def test_marked_processes_are_found_after_the_clock_was_set(monkeypatch, tmp_path):
    list(psutil.process_iter())
    process = subprocess.Popen(SLEEPER, env={**os.environ, tree.MARK: str(tmp_path)})
    wait_for(lambda: tree.marked(tmp_path))
    list(psutil.process_iter())  # psutil keeps what it found, with its date
    step_clock(monkeypatch, 3600)
    assert tree.marked(tmp_path) == {tree.identify(process.pid)}
    process.kill()
    process.wait()


def test_another_process_with_the_same_number_is_another(sleeper):
    who = tree.identify(sleeper.pid)
    boot, _, ticks = who.started.partition(":")
    assert tree.find(Identity(who.pid, f"{boot}:{int(ticks) - 1}")) is None
    assert tree.find(Identity(who.pid, f"another-boot:{ticks}")) is None
    assert tree.find(Identity(who.pid, psutil.Process(who.pid).create_time())) is not None, "as older versions noted it"
    assert tree.find(Identity(who.pid, psutil.Process(who.pid).create_time() - 10)) is None


def test_ticks_are_the_start_as_psutil_tells_it(sleeper):
    ticks = int(birth(sleeper.pid).partition(":")[2])
    began = psutil.boot_time() + ticks / os.sysconf("SC_CLK_TCK")
    assert began == pytest.approx(psutil.Process(sleeper.pid).create_time(), abs=0.02)
    assert birth(sleeper.pid) == birth(sleeper.pid) != birth(os.getpid())


def test_a_name_that_looks_like_fields_misleads_nobody(tmp_path, monkeypatch):
    (tmp_path / "7").mkdir()
    (tmp_path / "boot").write_text("abc\n")
    after = " ".join(["S", *map(str, range(4, 53))])
    (tmp_path / "7" / "stat").write_text(f"7 (a) 1 (b c) {after}\n")
    monkeypatch.setattr(births, "PROCESSES", tmp_path)
    monkeypatch.setattr(births, "BOOT", tmp_path / "boot")
    assert birth(7) == "abc:22"
    assert birth(8) is None


def test_without_proc_the_date_serves(sleeper, monkeypatch, tmp_path):
    monkeypatch.setattr(births, "PROCESSES", tmp_path)
    who = tree.identify(sleeper.pid)
    assert who.started == psutil.Process(sleeper.pid).create_time()
    assert tree.find(who) is not None
    assert tree.find(Identity(who.pid, who.started - 10)) is None


def test_the_supervisor_keeps_its_worker_over_a_step_of_the_clock(tmp_path, monkeypatch):
    place = Place(tmp_path / "runs").start()
    run_id = place.run("steps 10000")
    place.steps(run_id, 2)
    step_clock(monkeypatch, 7200)
    seen = len(place.supervisor.resources(run_id))
    wait_for(lambda: len(place.supervisor.resources(run_id)) > seen)
    assert place.supervisor.resources(run_id)[-1].rss_bytes > 0
    pid = place.store.need(run_id).worker_pid
    job = place.supervisor._workers.jobs[run_id]
    job.kill(time.monotonic())
    record = place.until(run_id)
    assert record.error["signal"] == "SIGKILL"
    assert not psutil.pid_exists(pid)
    check_books(place.store, run_id)
    place.close()


@pytest.mark.parametrize("older", [False, True])
def test_a_run_of_a_shell_is_known_by_when_its_process_began(tmp_path, monkeypatch, older):
    place = Place(tmp_path / "runs", timing=Timing(scan=0.2)).start()
    process = shell(place.root / "typed", "steps 10000")
    run_id = wait_for(lambda: next((r.run_id for r in place.store.list()[0]), None))
    place.steps(run_id, 2)
    file = place.root / "typed" / "run.json"
    body = read_state(file.parent)
    assert body["born"] == birth(process.pid)
    if older:
        file.write_text(json.dumps({name: value for name, value in body.items() if name != "born"}))
    else:
        step_clock(monkeypatch, 7200)  # the process seems to have begun after run.json was written
    record = place.store.need(run_id)
    assert place.supervisor._outsiders.who(record) == tree.identify(process.pid)
    file.write_text(json.dumps({**body, "born": "another-boot:1"}))
    assert place.supervisor._outsiders.who(record) is None
    file.write_text(json.dumps(body))
    place.supervisor.cancel(run_id)
    assert process.wait(10) == 75
    assert place.until(run_id).state == "cancelled"
    place.close()
