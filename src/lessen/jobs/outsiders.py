"""Runs that somebody else started in a folder under the root: `lessen run` in a shell, or a server before this one."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from lessen.errors import ConflictError, LessenError
from lessen.events import LIVE, RunState
from lessen.folder import disk_bytes, is_locked, read_recipe, read_state
from lessen.jobs import tree
from lessen.jobs.follow import Follower, summary
from lessen.jobs.job import KILL_EVERY_SECONDS, TERM_EVERY_SECONDS, Ending
from lessen.jobs.tail import Mark, Replaced, mark
from lessen.jobs.timing import Timing
from lessen.store import RunRecord

log = logging.getLogger(__name__)
GONE = "the process that ran it is gone"


@dataclass
class _Cancel:
    asked_at: float
    who: set[tree.Identity]
    pushed_at: float


class Outsiders:
    """Finds runs of others, follows the live ones and notices their end.

    Args:
        ours: whether a run has a worker of this server.
    """

    def __init__(self, follower: Follower, ours: Callable[[str], bool], timing: Timing) -> None:
        self._follower, self._store, self._ours, self._timing = follower, follower.store, ours, timing
        self._marks: dict[Path, Mark] = {}  # of run.json, when the folder was last looked into
        self._owners: dict[Path, str] = {r.folder: r.run_id for r in self._store.list(limit=-1)[0]}
        self._cancels: dict[str, _Cancel] = {}
        self._live: dict[str, Path] = {}  # runs that somebody else is running right now

    def scan(self) -> Iterator[None]:
        """Look into every folder that is new, changed or live; pauses after each, so that others get their turn."""
        for folder in folders(self._store.root):
            seen = mark(folder / "run.json")
            if self._marks.get(folder) == seen and folder not in self._live.values():
                continue
            try:
                if self._look(folder):
                    self._marks[folder] = seen
            except (LessenError, OSError, ValueError, KeyError, Replaced) as error:
                self._marks[folder] = seen
                log.warning("%s cannot be read as a run: %s", folder, error)
            yield
        for run_id in [r for r, folder in self._live.items() if not (folder / "run.json").is_file()]:
            self._put_away(run_id)

    @property
    def live(self) -> list[str]:
        """The runs that somebody else is running right now."""
        return list(self._live)

    def _look(self, folder: Path) -> bool:
        """Bring one folder and the store together; whether that holds until run.json changes."""
        body = read_state(folder)
        run_id = body.get("run_id")
        if not run_id or self._ours(run_id):
            return False
        record = self._store.get(run_id)
        former = self._owners.get(folder, run_id)
        if former != run_id:  # `lessen run --force`
            self._put_away(former)
        if record is None:
            record = self._store.add(_adopted(folder, body))
        elif record.folder != folder:
            if (record.folder / "run.json").is_file() and read_state(record.folder).get("run_id") == run_id:
                return True  # a copy: the run is the one that was there before
            record = self._store.update(run_id, folder=folder)
        self._owners[folder] = run_id
        state = str(body.get("state"))
        if state == "queued" and record.state == "queued":
            return True  # it waits here
        if state in LIVE:
            return self._going_on(record, state, int(body.get("attempt") or 0))
        return self._ended(record, cast("RunState", state), body)

    def _put_away(self, run_id: str) -> None:
        self._leave(run_id)
        self._follower.drop(run_id)
        self._follower.replaced(run_id)

    def _going_on(self, record: RunRecord, state: str, attempt: int) -> bool:
        if not is_locked(record.folder):
            ending = self._ending(record.run_id, "it was never started" if state == "queued" else GONE)
            if record.state not in LIVE and attempt <= record.attempt:  # its end could not be written at the time
                ending = Ending(cast("RunState", record.state), "", record.error)
            try:
                self._follower.close(record, ending)
            except ConflictError:
                return False  # somebody goes on with it at this very moment
            self._leave(record.run_id)
            return True
        if record.run_id not in self._live:
            self._live[record.run_id] = record.folder
            if record.deleted_at is not None:
                record = self._store.update(record.run_id, deleted_at=None)
            if record.state not in ("running", "cancelling"):
                self._follower.set_state(record.run_id, "running", finished=None, error=None, queued_at=None)
            self._follower.watch(record)
        return False

    def _ending(self, run_id: str, why: str) -> Ending:
        if run_id in self._cancels:
            how = "the run was cancelled"
            return Ending("cancelled", how, {"message": how, "hint": "resume it to go on", "exit_code": 75})
        return Ending("interrupted", why, {"message": why, "hint": "resume it to go on", "exit_code": 75})

    def _ended(self, record: RunRecord, state: RunState, body: dict[str, Any]) -> bool:
        run_id = record.run_id
        if is_locked(record.folder):
            return False  # its last lines may still be on their way
        self._follower.watch(record)
        self._follower.poll(run_id)
        if run_id in self._cancels and state == "interrupted":  # it does not know that it was for good
            self._follower.close(record, self._ending(run_id, ""))
        elif record.state != state or run_id in self._live:
            self._follower.set_state(
                run_id, state, started=body.get("started"), finished=body.get("finished") or body.get("updated"),
                error=_error(body.get("error")), summary=summary(self._store.need(run_id)), queued_at=None,
                disk_bytes=disk_bytes(record.folder),
            )  # fmt: skip
        elif not record.summary or record.disk_bytes is None:
            self._store.update(run_id, summary=summary(record), disk_bytes=disk_bytes(record.folder))
        self._follower.drop(run_id)
        self._leave(run_id)
        return True

    def _leave(self, run_id: str) -> None:
        self._live.pop(run_id, None)
        self._cancels.pop(run_id, None)

    def who(self, record: RunRecord) -> tree.Identity | None:
        """Return the process that runs a run; None where that is not sure."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            body = read_state(record.folder)
            found = tree.identify(int(body["pid"]))
            if found is not None and found.pid != os.getpid() and _wrote(found, body):
                return found
        return None

    def cancel(self, record: RunRecord, now: float) -> RunRecord:
        """Ask the process of a run to stop.

        Raises:
            ConflictError: which process it is cannot be told.
        """
        who = self.who(record)
        if who is None:
            raise ConflictError(
                f"{record.run_id} runs in a process that is not known", "stop it where it was started: Ctrl-C"
            )
        if record.run_id not in self._cancels:
            self._cancels[record.run_id] = _Cancel(now, tree.family(who), now)
            tree.send([who], signal.SIGTERM)
        return self._follower.set_state(record.run_id, "cancelling")

    def push(self, now: float) -> None:
        """See to it that cancelled runs end: a second SIGTERM after some seconds, SIGKILL for all of it at last."""
        for run_id, cancel in self._cancels.items():
            record = self._store.need(run_id)
            leader = self.who(record)
            if leader is not None:
                cancel.who |= tree.family(leader)
            if now - cancel.asked_at >= self._timing.kill and now - cancel.pushed_at >= KILL_EVERY_SECONDS:
                cancel.pushed_at = now
                tree.send(cancel.who, signal.SIGKILL)
            elif now - cancel.asked_at >= self._timing.term and now - cancel.pushed_at >= TERM_EVERY_SECONDS:
                cancel.pushed_at = now
                tree.send([leader] if leader else [], signal.SIGTERM)

    @property
    def cancelling(self) -> bool:
        """Whether a run of somebody else was asked to stop and has not ended."""
        return bool(self._cancels)


def folders(root: Path) -> Iterator[Path]:
    """Yield the folders of runs directly under a root or one level below; a run's own folders are no runs."""
    for folder in _below(root):
        if (folder / "run.json").is_file():
            yield folder
        else:
            yield from (inner for inner in _below(folder) if (inner / "run.json").is_file())


def _below(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [
                e.name for e in entries if not e.name.startswith((".", "fold-")) and e.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def _wrote(who: tree.Identity, body: dict[str, Any]) -> bool:
    """Whether a process is the one that run.json speaks of."""
    born = body.get("born")
    if born is not None:
        return bool(who.started == born)
    # Of an older version, or a system that cannot tell: one that began after the file was last written is another.
    written = datetime.fromisoformat(body["updated"]).timestamp() + 1 + tree.SAME_SECONDS
    began = tree.began(who.pid)
    return began is not None and began <= written


def _adopted(folder: Path, body: dict[str, Any]) -> RunRecord:
    recipe = read_recipe(folder)
    state, started = str(body.get("state")), body.get("started")
    more = {"created": started} if started else {}
    if state not in LIVE:
        more |= {"finished": body.get("finished") or body.get("updated"), "error": _error(body.get("error"))}
    return RunRecord(
        run_id=str(body["run_id"]), folder=folder, name=recipe.name, task=recipe.task, pipeline=recipe.pipeline,
        state="starting" if state in LIVE else state, origin=body.get("origin", "cli"),
        model_name=body.get("model_name"), recipe=recipe.model_dump(mode="json"), started=started, **more,
    )  # fmt: skip


def _error(given: Any) -> dict[str, Any] | None:
    """Return the error of run.json; older versions wrote a text."""
    return {"message": given, "hint": "", "exit_code": 1} if isinstance(given, str) else given or None
