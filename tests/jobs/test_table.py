"""Whatever is asked in whatever order: runs start first come first served, one at a time, and no state is illegal."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jobs.place import check_books, recipe
from lessen.errors import ConflictError
from lessen.events import LIVE
from lessen.jobs import Supervisor, tree, workers
from lessen.jobs.job import Ending
from lessen.jobs.supervisor import QUEUE
from lessen.store import Store


class Act:
    """A job without a process: it ends as it is told to."""

    def __init__(self, run_id, folder, command, timing, now):
        self.run_id, self.folder, self.heard_at = run_id, folder, now
        self.who = tree.Identity(1 << 30, 0.0)
        self.next = None

    def cancel(self, now):
        self.next = Ending("cancelled", "the run was cancelled")

    def step(self, now):
        return self.next


class Table(RuleBasedStateMachine):
    """Runs asked for, cancelled, ended, resumed and deleted at random; `waiting` says who must be next."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(workers, "Job", Act)
        self.store = Store(self.root)
        self.supervisor = Supervisor(self.store)
        self.waiting, self.running, self.ended, self.deleted = [], None, {}, []  # in order: ids are random

    def teardown(self):
        for run_id in [*self.waiting, *self.ended]:
            self.supervisor._tick_jobs(0.0)
            if self.store.need(run_id).state not in ("running", "starting"):
                check_books(self.store, run_id)
        self.store.close()
        self.patch.undo()
        shutil.rmtree(self.root)

    @precondition(lambda self: len(self.waiting) < QUEUE)
    @rule()
    def submit(self):
        self.waiting.append(self.supervisor.submit(recipe("steps 1")).run_id)

    @rule()
    def tick(self):
        self.supervisor._tick_jobs(0.0)
        if self.running is None and self.waiting:
            self.running = self.waiting.pop(0)
        assert list(self.supervisor._workers.jobs) == ([self.running] if self.running else [])

    @precondition(lambda self: self.running)
    @rule(state=st.sampled_from(["succeeded", "failed", "interrupted"]))
    def end(self, state):
        self.supervisor._workers.jobs[self.running].next = Ending(state, "so it went")
        self.ended[self.running], self.running = state, None
        self.tick()  # in which the next one starts

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel_one_that_waits(self, data):
        run_id = data.draw(st.sampled_from(self.waiting))
        assert self.supervisor.cancel(run_id).state == "cancelled"
        self.waiting.remove(run_id)
        self.ended[run_id] = "cancelled"

    @precondition(lambda self: self.running)
    @rule()
    def cancel_the_running_one(self):
        assert self.supervisor.cancel(self.running).state == "cancelling"
        self.ended[self.running], self.running = "cancelled", None
        self.tick()

    @precondition(lambda self: self.ended and len(self.waiting) < QUEUE)
    @rule(data=st.data())
    def resume(self, data):
        run_id = data.draw(st.sampled_from(list(self.ended)))
        if self.ended[run_id] == "succeeded":
            with pytest.raises(ConflictError):
                self.supervisor.resume(run_id)
            return
        self.supervisor.resume(run_id)
        del self.ended[run_id]
        self.deleted = [other for other in self.deleted if other != run_id]
        self.waiting.append(run_id)

    @precondition(lambda self: self.ended or self.waiting)
    @rule(data=st.data())
    def delete(self, data):
        run_id = data.draw(st.sampled_from([*self.ended, *self.waiting]))
        if run_id in self.waiting:
            with pytest.raises(ConflictError):
                self.supervisor.delete(run_id)
        else:
            self.supervisor.delete(run_id)
            self.deleted = [other for other in self.deleted if other != run_id] + [run_id]

    @precondition(lambda self: self.deleted)
    @rule(data=st.data())
    def restore(self, data):
        run_id = data.draw(st.sampled_from(self.deleted))
        assert self.supervisor.restore(run_id).deleted_at is None
        self.deleted.remove(run_id)

    @invariant()
    def the_queue_is_in_order(self):
        assert [r.run_id for r in self.store.queue()] == self.waiting
        first = 1 if self.running else 0
        places = [self.supervisor.position(r) for r in self.waiting]
        assert places == list(range(first, first + len(places)))

    @invariant()
    def every_run_is_in_the_state_that_it_should_be_in(self):
        for run_id, state in self.ended.items():
            record = self.store.need(run_id)
            assert record.state == state
            assert record.finished is not None
            assert (record.deleted_at is not None) == (run_id in self.deleted)
            assert self.supervisor.position(run_id) is None
        assert {r.state for r in self.store.active()} <= LIVE - {"queued"}
        assert len(self.store.active()) == (1 if self.running else 0)


TestTable = pytest.mark.slow(Table.TestCase)
TestTable.settings = settings(
    max_examples=8, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
