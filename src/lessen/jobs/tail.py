"""Following a run's events.jsonl into the store, whoever writes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lessen.eventlog import read_new
from lessen.folder import EVENTS, read_state
from lessen.store import Store

Mark = tuple[int, int] | None  # of run.json, which is replaced whenever it changes


class Replaced(Exception):
    """The folder belongs to another run by now (`lessen run --force`)."""


class Tail:
    """Reads what is new of one run; goes on where the store stands."""

    def __init__(self, store: Store, run_id: str, folder: Path) -> None:
        record = store.need(run_id)
        self.run_id, self.folder = run_id, folder
        self._store = store
        self._events = folder / EVENTS
        self._offset, self._seq = record.offset, record.seq
        self._mark: Mark = None

    def poll(self) -> list[dict[str, Any]]:
        """Take in what was written since; return the new lines.

        Raises:
            Replaced: the folder belongs to another run; nothing of that one was taken in.
        """
        found: list[dict[str, Any]] = []
        while self._changed():
            self._require_mine()
            lines, offset = read_new(self._events, self._offset, self._seq)
            # A new run's run.json is there before its first event: unchanged now, the lines are this run's.
            self._require_mine()
            if offset == self._offset:
                break
            found += self._store.ingest(self.run_id, lines, offset)
            self._offset = offset
            self._seq = lines[-1]["seq"] if lines else self._seq
        return found

    def _changed(self) -> bool:
        try:
            size = self._events.stat().st_size
        except FileNotFoundError:
            return False
        if size < self._offset:  # the file was made anew
            self._require_mine()
            self._offset = 0
        return size > self._offset

    def _require_mine(self) -> None:
        seen = mark(self.folder / "run.json")
        if seen == self._mark and seen is not None:
            return
        try:
            run_id = read_state(self.folder).get("run_id")
        except ValueError:  # damaged by hand; no other run writes such a file
            run_id = self.run_id
        if run_id is not None and run_id != self.run_id:
            raise Replaced(self.run_id)
        if run_id is None:
            return  # between the old run and the next one; its events are gone first
        self._mark = seen


def mark(path: Path) -> Mark:
    """Return what tells whether a file that is replaced atomically was replaced; None where there is none."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino
