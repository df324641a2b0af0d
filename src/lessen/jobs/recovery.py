"""After the death of a server: its workers are ended, and the runs that they had are interrupted."""

from __future__ import annotations

import logging
import signal

from lessen.errors import ConflictError
from lessen.events import LIVE, RunState
from lessen.folder import read_state
from lessen.jobs import tree
from lessen.jobs.follow import Follower
from lessen.jobs.job import Ending
from lessen.jobs.timing import Timing
from lessen.store import RunRecord

log = logging.getLogger(__name__)
REASON = "the server stopped"


class Recovery:
    """Runs that the store says are active while no process of this server has them. `step` never waits.

    Their workers know of the server's death by their control pipe and are saving; they are given a moment.
    """

    def __init__(self, follower: Follower, timing: Timing, now: float) -> None:
        self._follower, self._timing, self._began = follower, timing, now
        # The end of a run of a shell is noticed by the scan.
        active = [r for r in follower.store.active() if r.origin == "server" or r.worker_pid is not None]
        self._left = {record.run_id: (record, _orphans(record)) for record in active}

    def step(self, now: float) -> bool:
        """End what is left and close what has ended; whether all is done."""
        for run_id, (record, orphans) in list(self._left.items()):
            known = tree.living(orphans)
            for who in list(known):
                known |= tree.family(who)
            if known and now - self._began < self._timing.orphans:
                self._left[run_id] = (record, orphans | known)
                continue
            known |= tree.marked(record.folder)
            if known:
                tree.send(known, signal.SIGKILL)
                self._left[run_id] = (record, orphans | known)
                if now - self._began < 2 * self._timing.orphans:
                    continue
            if self._close(record, late=now - self._began >= self._timing.orphans):
                del self._left[run_id]
        return not self._left

    def _close(self, record: RunRecord, *, late: bool) -> bool:
        try:
            self._follower.close(record, _ending(record))
        except ConflictError:  # somebody else goes on with it, in a shell: the scan will follow it
            return True
        except Exception as error:  # of the disk or the database
            if not late:
                return False
            log.warning("the folder of %s could not be written: %s", record.run_id, error)
            self._follower.close(record, _ending(record), hands_off=True)
        return True


def _orphans(record: RunRecord) -> set[tree.Identity]:
    """Return the processes that still work for a run; a number that is another's by now is none."""
    found = tree.marked(record.folder)
    if record.worker_pid is not None and record.worker_started is not None:
        found |= tree.family(tree.Identity(record.worker_pid, record.worker_started))
    return found


def _ending(record: RunRecord) -> Ending:
    """Return how a run ended: as its worker wrote, where it came to that."""
    body = read_state(record.folder)
    state: RunState | None = body.get("state") if body.get("run_id") == record.run_id else None
    if state is not None and state not in LIVE and state != "interrupted":
        error = body.get("error")
        return Ending(state, "", error if isinstance(error, dict) else None)
    error = {"message": REASON, "hint": "resume it to go on from its last checkpoint", "exit_code": 75}
    return Ending("interrupted", REASON, error)
