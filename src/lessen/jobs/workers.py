"""The workers of this server: started, stepped, sampled, and their runs closed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lessen.errors import ArtifactError, TrainingError
from lessen.folder import read_recipe
from lessen.jobs.follow import Follower
from lessen.jobs.job import Ending, Job
from lessen.jobs.place import Reserve
from lessen.jobs.process import told
from lessen.jobs.timing import Timing
from lessen.store import RunRecord

log = logging.getLogger(__name__)
CLOSE_TRIES = 20  # after which a run whose folder cannot be written is closed without it
RENEW_SHARE = 0.3  # of a lease, after which the store is told of a longer one


@dataclass
class _Closing:
    ending: Ending
    tries: int = 0
    next_at: float = 0.0


class Workers:
    """Jobs by run.

    Args:
        command: what carries out the run in a folder.
    """

    def __init__(self, follower: Follower, reserve: Reserve, command: Sequence[str], timing: Timing) -> None:
        self._follower, self._store, self._reserve = follower, follower.store, reserve
        self._command, self._timing = tuple(command), timing
        self.jobs: dict[str, Job] = {}
        self._closing: dict[str, _Closing] = {}
        self._renewed: dict[str, float] = {}

    def start(self, record: RunRecord, now: float) -> None:
        """Start the worker of a run; one that cannot be started has failed."""
        run_id = record.run_id
        record = self._follower.set_state(run_id, "starting", queued_at=None)
        self._follower.watch(record)
        try:
            read_recipe(record.folder)
            job = Job(run_id, record.folder, self._command, self._timing, now)
        except (OSError, ArtifactError, ValueError) as error:
            known = error if isinstance(error, ArtifactError) else TrainingError(f"the worker did not start: {error}")
            self._closing[run_id] = _Closing(Ending("failed", known.message, told(known)))
            return
        self.jobs[run_id] = job
        self._renewed[run_id] = now
        lease = time.time() + self._timing.lease
        self._store.update(run_id, worker_pid=job.who.pid, worker_started=job.who.started, lease_until=lease)

    def step(self, now: float) -> None:
        """Look after every job."""
        for run_id, job in list(self.jobs.items()):
            if run_id not in self._closing:
                ending = job.step(now)
                if ending is not None:
                    self._closing[run_id] = _Closing(ending)
                elif job.heard_at - self._renewed[run_id] > RENEW_SHARE * self._timing.lease:
                    self._renewed[run_id] = job.heard_at
                    self._store.update(run_id, lease_until=time.time() + self._timing.lease)
        for run_id, closing in list(self._closing.items()):
            if now >= closing.next_at:
                self._close(run_id, closing, now)

    def _close(self, run_id: str, closing: _Closing, now: float) -> None:
        """Record an end; what cannot be written now is tried again, for a disk may be full for a while."""
        closing.tries += 1
        try:
            self._follower.close(self._store.need(run_id), closing.ending, hands_off=closing.tries > CLOSE_TRIES)
        except Exception as error:  # of the disk, the database, a folder that somebody holds
            closing.next_at = now + self._timing.retry
            if closing.tries in (1, CLOSE_TRIES):
                log.warning("the end of %s could not be written: %s", run_id, error)
            self._reserve.spend_if_full()
            return
        for place in (self.jobs, self._closing, self._renewed):
            place.pop(run_id, None)

    def ending(self, run_id: str) -> bool:
        """Whether a run's worker is gone and its end is being written."""
        return run_id in self._closing

    def interrupt(self, now: float) -> None:
        """Ask all to save and leave."""
        for job in self.jobs.values():
            job.interrupt(now)

    def kill(self, now: float) -> None:
        """End all at once."""
        for job in self.jobs.values():
            job.kill(now)
