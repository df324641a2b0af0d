"""The stages of a run: what is planned, running and done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from lessen import stages as pipeline
from lessen.errors import LessenError
from lessen.events import ACTIVE
from lessen.recipe import parse
from lessen.report.rows import ROLES
from lessen.server.service import Served, Service
from lessen.server.v1.found import Id, needed, report_of
from lessen.server.v1.shapes import StageOut, StagesOut
from lessen.store import RunRecord

router = APIRouter(tags=["stages"])
KINDS = ("StageStarted", "StageFinished", "StageSkipped")


@router.get("/runs/{run_id}/stages")
def list_stages(service: Served, run_id: Id) -> StagesOut:
    """Return the planned stages of a run, in order, with how each one stands."""
    record = needed(service, run_id)
    return StagesOut(run_id=record.run_id, stages=stages_of(service, record))


def stages_of(service: Service, record: RunRecord) -> list[StageOut]:
    """Return the stages of a run from its recipe, its events and its report."""
    told = _told(service.store.events(record.run_id, kinds=list(KINDS), limit=5000))
    rows = _rows(record)
    names = list(pipeline.names(parse(record.recipe)))
    names += [name for name in told if name not in names]
    return [_stage(name, i, told.get(name, {}), rows.get(name), record.state) for i, name in enumerate(names)]


def _stage(name: str, index: int, told: dict[str, Any], row: Any, state: str) -> StageOut:
    return StageOut(
        stage=name,
        index=index,
        state=_state(told, row, state),
        started_ts=told.get("started_ts"),
        seconds=told.get("seconds") or (row.seconds if row else None),
        artifact=told.get("artifact") or (row.artifact if row else None),
        runtime=row.runtime if row else None,
        role=row.role if row else ROLES.get(name),
    )


def _state(told: dict[str, Any], row: Any, state: str) -> Any:
    if told.get("open"):  # begun and not finished, in the last attempt that came so far
        return "running" if state in ACTIVE else "failed" if state == "failed" else "waiting"
    if told.get("finished") or (row is not None and not told):
        return "done"
    return "skipped" if told.get("skipped") else "waiting"


def _told(events: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for event in events:
        known = out.setdefault(event["stage"], {})
        if event["kind"] == "StageStarted":
            known |= {"open": True, "started_ts": known.get("started_ts") or event["ts"]}
        elif event["kind"] == "StageFinished":
            known |= {"open": False, "finished": True, "seconds": event.get("seconds"), "artifact": event["artifact"]}
        else:
            known |= {"open": False, "skipped": True, "artifact": event["artifact"]}
    return out


def _rows(record: RunRecord) -> dict[str, Any]:
    try:
        return {row.stage: row for row in report_of(record).rows}
    except LessenError:
        return {}
