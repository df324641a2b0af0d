"""The module tree of a stage's model with its numbers, and how the weights of one layer are spread."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParam

from lessen.artifact import Artifact
from lessen.errors import LessenError, NotFoundError
from lessen.server.service import Served, Service
from lessen.server.v1.found import Id, needed, report_of, stage_folders
from lessen.server.v1.layer_shapes import HistogramOut, LayersOut
from lessen.store import RunRecord

router = APIRouter(tags=["layers"])
Stage = Annotated[str | None, Query(max_length=64, description="the last stage when absent")]
Against = Annotated[str | None, Query(max_length=64, description="the stage to hold it against")]
Bins = Annotated[int, Query(ge=4, le=400)]


@router.get("/runs/{run_id}/layers")
def list_layers(service: Served, run_id: Id, stage: Stage = None, against: Against = None) -> LayersOut:
    """Return every module of a stage's model: parameters, zeros, bits, bytes, FLOPs, share of the time, widths, error.

    Counted from the files that ship. The first time takes seconds; the answer is kept beside the store.
    """
    record = needed(service, run_id)
    there, one = _chosen(record, stage)
    other = _chosen(record, against)[1] if against else None
    found = counted(service, record, there, one)
    held: dict[str, Any] = counted(service, record, there, other) if other else {"layers": []}
    return LayersOut(
        run_id=record.run_id, stage=one, against=other, stages=list(there), against_layers=held["layers"], **found
    )


@router.get("/runs/{run_id}/layers/{layer}/histogram")
def layer_histogram(
    service: Served,
    run_id: Id,
    layer: Annotated[str, PathParam(min_length=1, max_length=300, description="a layer's id")],
    stage: Stage = None,
    bins: Bins = 60,
    against: Against = None,
) -> HistogramOut:
    """Return the histogram of a layer's weights, with the cut and the grid that they were rounded to."""
    record = needed(service, run_id)
    there, one = _chosen(record, stage)
    other = _chosen(record, against)[1] if against else None
    found = service.bench.histogram(
        there[one],
        layer,
        bins=bins,
        source=_source(record, there, one),
        against=there[other] if other else None,
        against_source=_source(record, there, other) if other else None,
    )
    return HistogramOut(run_id=record.run_id, stage=one, against=other, layer=layer, **found)


def counted(service: Service, record: RunRecord, there: dict[str, Any], stage: str) -> dict[str, Any]:
    """Return the layers of a stage with columns, totals and remarks, as the helper process counted them.

    Args:
        there: the model folders of the run by stage (`stage_folders`).
    """
    return service.bench.layers(there[stage], source=_source(record, there, stage), lengths=_lengths(record))


def _chosen(record: RunRecord, stage: str | None) -> tuple[dict[str, Any], str]:
    there = stage_folders(record.folder)
    one = stage or next(reversed(there), None)
    if one is None or one not in there:
        raise NotFoundError(
            f"run {record.run_id} has no artifact of stage {stage!r}", f"it has {', '.join(there) or 'none yet'}"
        )
    return there, one


def _lengths(record: RunRecord) -> tuple[int, ...]:
    """Return the lengths that the report counted FLOPs at: "1 x 80 tokens", "1 x 9 source and 4 target tokens"."""
    try:
        row = report_of(record).teacher
    except LessenError:
        return ()
    said = str(row.facts.get("flops_input", "")) if row else ""
    return tuple(int(n) for n in re.findall(r"\d+", said)[1:])


def _source(record: RunRecord, there: dict[str, Any], stage: str) -> Any:
    """Return the folder of the torch model that an exported or quantized artifact was made from, None for others."""
    wanted = Artifact(there[stage]).manifest.facts.get("source_digest")
    if wanted is None:
        return None
    return next((path for path in there.values() if Artifact(path).digest == wanted), None)
