"""Events of a run: stored lines, waited for where asked; numbers over steps; the log; resources."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from lessen.errors import RateError
from lessen.jobs import Notice, Resources, State
from lessen.server.service import Served, Service
from lessen.server.v1.found import Id, needed
from lessen.server.v1.shapes import EventsOut, LogLine, LogOut, ResourceSample, ResourcesOut, SeriesOut

router = APIRouter(tags=["events"])
unversioned = APIRouter(tags=["events"])
After = Annotated[int, Query(ge=0, le=2**53, description="seq of the last event that is known")]
Limit = Annotated[int, Query(ge=1, le=5000)]
Wait = Annotated[float, Query(ge=0, le=25, allow_inf_nan=False, description="seconds to wait for a first event")]
Stage = Annotated[str | None, Query(max_length=64)]
ENDED = ("cancelled", "succeeded", "failed", "interrupted")
WAITERS = threading.BoundedSemaphore(128)  # requests that wait at a time
RECHECK_S = 1.0  # a notice may come from a folder whose events were stored before the wait began


async def waited(service: Service, run_id: str, after: int, limit: int, wait: float) -> EventsOut:
    """Return stored events after a seq; where there are none and the run goes on, wait for the first."""
    found = await run_in_threadpool(stored, service, run_id, after, limit)
    if found.events or not wait or found.state in ENDED:
        return found
    if not WAITERS.acquire(blocking=False):
        raise RateError("too many requests are waiting for events", "use the socket, or wait=0", retry_after_s=5)
    try:
        return await _until(service, found.run_id, after, limit, wait)
    finally:
        WAITERS.release()


async def _until(service: Service, run_id: str, after: int, limit: int, wait: float) -> EventsOut:
    loop, woke = asyncio.get_running_loop(), asyncio.Event()

    def told(notice: Notice) -> None:
        about = notice.record.run_id if isinstance(notice, State) else notice.run_id
        if about == run_id and not isinstance(notice, Resources):
            with contextlib.suppress(RuntimeError):  # the loop has ended with the server
                loop.call_soon_threadsafe(woke.set)

    end = loop.time() + wait
    stop = service.jobs.listen(told)
    try:
        while True:
            woke.clear()
            found = await run_in_threadpool(stored, service, run_id, after, limit)
            left = end - loop.time()
            if found.events or found.state in ENDED or left <= 0:
                return found
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woke.wait(), min(left, RECHECK_S))
    finally:
        stop()


def stored(service: Service, run_id: str, after: int, limit: int) -> EventsOut:
    """Return stored events after a seq."""
    record = needed(service, run_id)
    events = service.store.events(record.run_id, after=after, limit=limit + 1)
    more, events = len(events) > limit, events[:limit]
    return EventsOut(
        run_id=record.run_id,
        events=events,
        next=int(events[-1]["seq"]) if events else after,
        state=record.state,
        more=more,
    )


@router.get("/runs/{run_id}/events")
async def run_events(service: Served, run_id: Id, after: After = 0, limit: Limit = 1000, wait: Wait = 0) -> EventsOut:
    """Return events after a seq; `wait` holds the answer until there is one (long-poll)."""
    return await waited(service, run_id, after, limit, wait)


@unversioned.get("/events")
async def events_of(
    service: Served,
    run_id: Annotated[str, Query(min_length=1, max_length=200, description="a run's id, or latest")] = "latest",
    after: After = 0,
    limit: Limit = 1000,
    wait: Wait = 0,
) -> EventsOut:
    """Return events after a seq; `wait` holds the answer until there is one (long-poll)."""
    return await waited(service, run_id, after, limit, wait)


@router.get("/runs/{run_id}/series")
def run_series(
    service: Served,
    run_id: Id,
    keys: Annotated[str, Query(max_length=500, description="names, with commas between")] = "loss",
    points: Annotated[int, Query(ge=2, le=10_000, description="of a curve; minima and maxima stay")] = 800,
    stage: Stage = None,
    step_from: Annotated[int | None, Query(alias="from", ge=0, le=2**53)] = None,
    step_to: Annotated[int | None, Query(alias="to", ge=0, le=2**53)] = None,
    attempt: Annotated[
        str, Query(pattern=r"^(merged|[1-9][0-9]{0,5})$", description="merged: the newest wins")
    ] = "merged",
) -> SeriesOut:
    """Return numbers over steps: loss, its parts (loss_*), lr, grad_norm, rss_bytes, gpu_bytes, scores (val_*)."""
    record = needed(service, run_id)
    wanted = [key for key in dict.fromkeys(k.strip() for k in keys.split(",")) if key]
    series = service.store.series(
        record.run_id,
        wanted,
        points=points,
        step_from=step_from,
        step_to=step_to,
        stage=stage,
        attempt=None if attempt == "merged" else int(attempt),
    )
    return SeriesOut(run_id=record.run_id, series=series, attempts=list(range(1, max(1, record.attempt) + 1)))


@router.get("/runs/{run_id}/log")
def run_log(
    service: Served,
    run_id: Id,
    level: Annotated[str | None, Query(pattern="^(info|warning|error)$", description="this level or above")] = None,
    stage: Stage = None,
    search: Annotated[str, Query(max_length=200)] = "",
    after: After = 0,
    limit: Limit = 1000,
) -> LogOut:
    """Return lines for people, oldest first."""
    record = needed(service, run_id)
    order = ("info", "warning", "error")
    wanted = order[order.index(level) :] if level else order
    lines: list[LogLine] = []
    seq, page = after, 1000
    while len(lines) <= limit:
        found = service.store.events(record.run_id, after=seq, limit=page, kinds=["Log"], stage=stage)
        for line in found:
            seq = int(line["seq"])
            text = str(line.get("message", ""))
            if line.get("level", "info") in wanted and search.lower() in text.lower():
                lines.append(_line(line, text))
        if len(found) < page:
            break
    more = len(lines) > limit
    lines = lines[:limit]
    return LogOut(run_id=record.run_id, lines=lines, next=lines[-1].seq if lines else seq, more=more)


def _line(line: dict[str, Any], text: str) -> LogLine:
    return LogLine(
        seq=line["seq"], ts=line["ts"], level=line.get("level", "info"), stage=line.get("stage", ""), message=text
    )


@router.get("/runs/{run_id}/resources")
def run_resources(service: Served, run_id: Id) -> ResourcesOut:
    """Return what the run's processes used lately."""
    record = needed(service, run_id)
    samples = [_sample(s) for s in service.jobs.resources(record.run_id)]
    return ResourcesOut(run_id=record.run_id, samples=samples)


def _sample(sample: Resources) -> ResourceSample:
    return ResourceSample(
        ts=sample.ts, cpu_percent=sample.cpu_percent, rss_bytes=sample.rss_bytes, gpu_bytes=sample.gpu_bytes
    )
