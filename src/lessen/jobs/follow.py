"""What happens in the folders of runs, brought into the store and to the listeners; and the end of a run, recorded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from lessen.errors import LessenError
from lessen.eventlog import EventLog
from lessen.events import LIVE, RunStateChanged
from lessen.folder import EVENTS, RunFolder, disk_bytes, lock, now, read_state
from lessen.jobs.job import Ending
from lessen.jobs.notices import Events, Listeners, State
from lessen.jobs.tail import Replaced, Tail
from lessen.store import RunRecord, Store

log = logging.getLogger(__name__)
TABLE = ("RowMeasured", "RunFinished")  # events after which report.json has something new for the list of runs


class Follower:
    """Follows live runs.

    Args:
        position: a run's place in the queue, as of Supervisor.position.
    """

    def __init__(self, store: Store, listeners: Listeners, position: Callable[[str], int | None]) -> None:
        self.store = store
        self._listeners = listeners
        self._position = position
        self._tails: dict[str, Tail] = {}

    def tell(self, record: RunRecord) -> RunRecord:
        """Tell the listeners the state of a run, and return it."""
        self._listeners.post(State(record, self._position(record.run_id)))
        return record

    def set_state(self, run_id: str, state: str, **columns: Any) -> RunRecord:
        """Change the state of a run in the store and tell of it."""
        return self.tell(self.store.set_state(run_id, state, **columns))

    def watch(self, record: RunRecord) -> None:
        """Follow a run from now on."""
        self._tails.setdefault(record.run_id, Tail(self.store, record.run_id, record.folder))

    def drop(self, run_id: str) -> None:
        """Follow a run no longer."""
        self._tails.pop(run_id, None)

    @property
    def watched(self) -> list[str]:
        """The runs that are followed."""
        return list(self._tails)

    def poll(self, run_id: str) -> list[dict[str, Any]]:
        """Take in what is new of a run that is followed, and tell of it.

        Raises:
            Replaced: its folder belongs to another run.
        """
        lines = self._tails[run_id].poll()
        if lines:
            self._listeners.post(Events(run_id, lines))
            self._understand(run_id, lines)
        return lines

    def _understand(self, run_id: str, lines: list[dict[str, Any]]) -> None:
        if any(line["kind"] in TABLE for line in lines):
            self.store.update(run_id, summary=summary(self.store.need(run_id)))
        states = [line for line in lines if line["kind"] == "RunStateChanged"]
        began = next((str(line["time"]) for line in states if line.get("state") == "running"), None)
        if began is None:
            return
        record = self.store.need(run_id)
        if record.started is None:
            record = self.store.update(run_id, started=began)
        if states[-1]["state"] == "running" and record.state not in ("running", "cancelling"):
            self.set_state(run_id, "running", finished=None, error=None)

    def close(self, record: RunRecord, ending: Ending, *, hands_off: bool = False) -> RunRecord:
        """Record how a run ended: in its folder, where whoever ran it could not, and in the store.

        May be called again where it failed halfway.

        Args:
            hands_off: leave the folder as it is; another process holds it, or it cannot be written.

        Raises:
            ConflictError: another process holds the folder.
            OSError: the folder cannot be written.
        """
        run_id = record.run_id
        self.watch(record)
        try:
            self.poll(run_id)
            if not hands_off and record.folder.is_dir():
                with lock(record.folder):
                    self.poll(run_id)
                    self._write_end(record, ending)
                self.poll(run_id)
        except Replaced:
            self.drop(run_id)
            return self.replaced(run_id)
        self.drop(run_id)
        fresh = self.store.need(run_id)
        return self.set_state(
            run_id, ending.state, finished=now(), error=ending.error, summary=summary(fresh), worker_pid=None,
            worker_started=None, lease_until=None, queued_at=None, disk_bytes=disk_bytes(record.folder),
        )  # fmt: skip

    def _write_end(self, record: RunRecord, ending: Ending) -> None:
        body = read_state(record.folder)
        if body.get("run_id") != record.run_id:
            raise Replaced(record.run_id)
        if body.get("state") != ending.state:
            RunFolder(record.folder, record.run_id).set_state(ending.state, error=ending.error, finished=now())
        told = self.store.events(record.run_id, kinds=["RunStateChanged"], limit=1_000_000)
        if not told or told[-1].get("state") != ending.state:
            error = {k: v for k, v in ending.error.items() if k != "stderr"} if ending.error else None
            attempt = self.store.need(record.run_id).attempt
            with EventLog(record.folder / EVENTS, attempt or None) as events:
                events.append(RunStateChanged(state=ending.state, reason=ending.reason, error=error))

    def replaced(self, run_id: str) -> RunRecord:
        """Put away a run whose folder was taken over by another one."""
        record = self.store.need(run_id)
        if record.state in LIVE:
            reason = "another run took over its folder"
            error = {"message": reason, "hint": "", "exit_code": 75}
            record = self.store.set_state(run_id, "interrupted", finished=now(), error=error, queued_at=None)
        return self.tell(self.store.update(run_id, deleted_at=time.time(), disk_bytes=None))


def summary(record: RunRecord) -> dict[str, Any]:
    """Return what a table of runs shows of a run, from its report.json; what it had where there is none."""
    from lessen import report as reports
    from lessen.report.summary import summary_of

    if not (record.folder / "report.json").is_file():
        return record.summary
    try:
        found = reports.read(record.folder)
    except LessenError as error:
        log.warning("%s: %s", record.run_id, error)
        return record.summary
    if found.run_id != record.run_id or not found.rows:
        return record.summary
    return summary_of(found)
