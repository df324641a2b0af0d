"""Runs: list, start, look, cancel, resume, delete, restore."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from lessen import report
from lessen.errors import RecipeError
from lessen.events import RunState
from lessen.server.service import Served
from lessen.server.v1.found import Id, needed, report_of
from lessen.server.v1.requested import requested
from lessen.server.v1.shapes import GateOut, GatesOut, RecipeOut, RunIn, RunList, RunOut

router = APIRouter(tags=["runs"])
Sort = Literal[
    "-created", "created", "name", "-name", "state", "-state", "started", "-started", "finished", "-finished"
]  # fmt: skip


@router.get("/runs")
def list_runs(
    service: Served,
    state: Annotated[list[RunState] | None, Query(description="one or more states", max_length=8)] = None,
    search: Annotated[str, Query(max_length=200, description="in name, id and model")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    sort: Sort = "-created",
    deleted: Annotated[bool, Query(description="those in the bin instead")] = False,
) -> RunList:
    """List runs, newest first; those of the shell too."""
    records, total = service.store.list(
        states=state, search=search, limit=limit, offset=offset, sort=sort, deleted=deleted
    )
    return RunList(runs=[service.views.run(r) for r in records], total=total)


@router.post("/runs", status_code=202)
def start_run(service: Served, body: RunIn) -> RunOut:
    """Put a run into the queue: a preset, a recipe, or a recipe laid over a preset."""
    recipe, model_name = requested(service, body.model_name, body.preset, body.recipe, body.name)
    return service.views.run(service.jobs.submit(recipe, model_name=model_name, name=body.name))


@router.get("/runs/{run_id}")
def show_run(service: Served, run_id: Id) -> RunOut:
    """Return a run."""
    return service.views.run(needed(service, run_id), exact=True)


@router.post("/runs/{run_id}/cancel")
def cancel_run(service: Served, run_id: Id) -> RunOut:
    """Ask a run to stop; it is gone within 15 seconds. Asked twice, the same."""
    return service.views.run(service.jobs.cancel(needed(service, run_id).run_id))


@router.post("/runs/{run_id}/resume", status_code=202)
def resume_run(service: Served, run_id: Id) -> RunOut:
    """Put a stopped run into the queue again; finished stages are kept, a broken one goes on from its checkpoint."""
    return service.views.run(service.jobs.resume(needed(service, run_id).run_id))


@router.delete("/runs/{run_id}")
def delete_run(service: Served, run_id: Id) -> RunOut:
    """Move a run into the bin, where it stays for 7 days."""
    return service.views.run(service.jobs.delete(needed(service, run_id).run_id))


@router.post("/runs/{run_id}/restore")
def restore_run(service: Served, run_id: Id) -> RunOut:
    """Take a run out of the bin."""
    return service.views.run(service.jobs.restore(needed(service, run_id).run_id))


@router.get("/runs/{run_id}/recipe")
def show_recipe(service: Served, run_id: Id) -> RecipeOut:
    """Return the resolved recipe of a run, also as YAML."""
    from lessen.server.v1.requested import as_yaml

    record = needed(service, run_id)
    return RecipeOut(run_id=record.run_id, recipe=record.recipe, yaml=as_yaml(record.recipe))


Bound = Annotated[float, Field(allow_inf_nan=False)]


@router.get("/runs/{run_id}/gates")
def check_gates(
    service: Served,
    run_id: Id,
    stage: Annotated[str | None, Query(max_length=64, description="the final model when absent")] = None,
    metric: Annotated[str, Query(max_length=64, description="what max_drop is of")] = "",
    max_drop: Annotated[Bound | None, Query(description="largest fall below the teacher")] = None,
    min_speedup: Annotated[Bound | None, Query(gt=0)] = None,
    min_compression: Annotated[Bound | None, Query(gt=0)] = None,
) -> GatesOut:
    """Check a run's report against bounds, as `lessen check` does."""
    record = needed(service, run_id)
    found = report_of(record)
    bounds: dict[str, Any] = {"stage": stage, "min_speedup": min_speedup, "min_compression": min_compression}
    if max_drop is not None:
        from lessen.report.headline import headline

        bounds["max_drop"] = {metric or headline(found).metric: max_drop}
    elif metric:
        raise RecipeError(f"metric {metric!r} is given without max_drop", "give max_drop too")
    gates = report.check(found, bounds)
    final = found.final
    return GatesOut(
        run_id=record.run_id,
        stage=stage or (final.stage if final else None),
        met=all(g.passed for g in gates),
        gates=[GateOut(name=g.name, bound=g.bound, value=g.value, met=g.passed, text=g.text) for g in gates],
    )
