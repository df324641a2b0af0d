"""A run as the service shows it: the stored record with its progress. Lists read no histories."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lessen.errors import LessenError
from lessen.events import ACTIVE, LIVE
from lessen.recipe import parse
from lessen.server.meter import Meter
from lessen.server.v1.shapes import ErrorOut, ProgressOut, RunOut
from lessen.stages import names

if TYPE_CHECKING:
    from lessen.jobs.supervisor import Supervisor
    from lessen.store import RunRecord, Store

STOPPED = ("cancelled", "failed", "interrupted")
KINDS = ("StageStarted", "StageSkipped", "StageFinished", "Progress", "RunFinished", "RunStateChanged", "Log")
KEPT = 64  # meters in memory
PAGE = 1000
NOT_KNOWN = dict.fromkeys(ProgressOut.model_fields)
FROM_SCRATCH = "trained from scratch: no pretrained weights"


@dataclass
class Progressed:
    """A meter and how far it has read."""

    meter: Meter
    seq: int = 0
    index: int | None = None
    total: int | None = None
    unit: str | None = None

    def feed(self, event: dict[str, Any]) -> None:
        """Take in one stored event."""
        self.meter.feed(event)
        self.seq = int(event["seq"])
        if event["kind"] == "StageStarted":
            self.index, self.total, self.unit = event.get("index"), event.get("total"), None
        elif event["kind"] == "Progress":
            self.unit = event.get("unit")

    def out(self) -> ProgressOut:
        """Return what is known."""
        meter = self.meter
        return ProgressOut(
            percent=meter.percent, phase=meter.phase, stage=meter.stage, stage_index=self.index,
            stage_total=self.total, step=meter.step, total_steps=meter.total_steps, unit=self.unit,
            eta_s=meter.eta_s, elapsed_s=meter.elapsed_s,
        )  # fmt: skip


class Views:
    """Makes RunOut of records, and keeps a meter for each live run."""

    def __init__(self, store: Store, jobs: Supervisor) -> None:
        self._store, self._jobs = store, jobs
        self._meters: OrderedDict[str, Progressed] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, record: RunRecord, *, exact: bool = False) -> RunOut:
        """Return a run.

        Args:
            exact: read the events of a run that stopped before its end, to say how far it came; lists do not.
        """
        queued = record.state == "queued"
        return RunOut(
            run_id=record.run_id,
            name=record.name,
            task=record.task,
            pipeline=record.pipeline,
            state=record.state,
            origin=record.origin,
            model_name=record.model_name,
            attempt=record.attempt,
            created=record.created,
            started=record.started,
            finished=record.finished,
            position=self._jobs.position(record.run_id) if queued else None,
            seq=record.seq,
            progress=self._progress(record, exact),
            error=_error(record.error),
            summary=record.summary or {},
            resumable=record.state in STOPPED and record.deleted_at is None,
            deleted=record.deleted_at is not None,
            note=note(record.recipe),
            disk_bytes=None if record.state in LIVE else record.disk_bytes,
        )

    def _progress(self, record: RunRecord, exact: bool) -> ProgressOut:
        if record.state in ACTIVE or (exact and record.state in STOPPED):
            return self._metered(record)
        known: dict[str, Any] = {**NOT_KNOWN, "elapsed_s": _took(record)}
        if record.state == "succeeded":
            known |= {"percent": 100.0, "phase": "completed", "eta_s": 0.0}
        elif record.state == "queued":
            known |= {"percent": 0.0}
        return ProgressOut(**known)

    def _metered(self, record: RunRecord) -> ProgressOut:
        with self._lock:
            run_id = record.run_id
            known = self._meters.pop(run_id, None)
            if known is None or known.seq > record.seq:  # made, or replaced by another run in the same folder
                known = Progressed(Meter(_stages(record)))
            self._meters[run_id] = known
            while len(self._meters) > KEPT:
                self._meters.popitem(last=False)
            while True:
                lines = self._store.events(run_id, after=known.seq, limit=PAGE, kinds=list(KINDS))
                for line in lines:
                    known.feed(line)
                if len(lines) < PAGE:
                    return known.out()


def _stages(record: RunRecord) -> tuple[str, ...]:
    try:
        return names(parse(record.recipe))
    except LessenError:  # of an older version, with settings that are gone
        return ()


def note(recipe: dict[str, Any]) -> str | None:
    """Return what a reader should know of the run's models, or None."""
    teacher = (recipe or {}).get("teacher") or {}
    said = (recipe or {}).get("note")
    if said:
        return str(said)
    return FROM_SCRATCH if str(teacher.get("model", "")).startswith("scratch:") else None


def _error(error: dict[str, Any] | None) -> ErrorOut | None:
    if not error:
        return None
    return ErrorOut(**{k: v for k, v in error.items() if k in ErrorOut.model_fields})


def _took(record: RunRecord) -> float | None:
    if record.started and record.finished:
        return (datetime.fromisoformat(record.finished) - datetime.fromisoformat(record.started)).total_seconds()
    known = (record.summary or {}).get("seconds")
    return None if known is None else float(known)
