"""GET /matlab_metrics: a run's report as column arrays for MATLAB and GNU Octave, as JSON or as a .mat file."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict

from lessen.errors import NotFoundError
from lessen.report.files import read
from lessen.report.matlab import matlab_metrics, nothing_measured, to_mat
from lessen.server.service import Served
from lessen.store import RunRecord

router = APIRouter(tags=["matlab"])
MAT = "application/x-matlab-data"
Column = list[float | int | None] | list[str]
Columns = dict[str, Any]  # of equal length, one a quantity; matrices and struct arrays where the contract has them


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Line(_Shape):
    """Before (teacher) and after (final model) of one quantity."""

    metric: str
    key: str
    before: float | None
    after: float | None
    unit: str
    better: Literal["higher", "lower", ""]
    change: float | None
    change_percent: float | None
    before_low: float | None
    before_high: float | None
    after_low: float | None
    after_high: float | None


class Formula(Line):
    """Before and after of a complexity, with the formula it follows."""

    before_formula: str
    after_formula: str


class Blocks(_Shape):
    """The predecessor's four blocks; the order of the lines is part of the contract."""

    effectiveness: list[Line]
    efficiency: list[Line]
    compression: list[Line]
    complexity: list[Formula]


class Detailed(_Shape):
    """The predecessor's detailed_metrics."""

    effectiveness: dict[str, dict[str, float | None]]
    efficiency: dict[str, dict[str, float | None]]
    compression: dict[str, dict[str, float | str | None]]
    complexity: dict[str, dict[str, float | str | None]]


class Summary(_Shape):
    """The predecessor's summary in percent, and the two ratios to the teacher."""

    accuracy_retention: float | None
    size_reduction: float | None
    speed_improvement: float | None
    parameter_reduction: float | None
    compression_ratio: float | None
    speedup: float | None


class Confusion(_Shape):
    """Confusion matrices, true labels down."""

    labels: list[str]
    reason: str
    matrices: list[dict[str, Any]]


class Missing(_Shape):
    """Why a number is not there."""

    stage: str
    metric: str
    reason: str


class MatlabMetrics(_Shape):
    """Everything of a run that a script plots."""

    success: bool
    error: str
    schema_version: str
    run_id: str
    model_name: str
    name: str
    task: str
    pipeline: str
    created: str
    complete: Literal[0, 1]
    teacher_stage: str
    final_stage: str
    score: str
    score_title: str
    score_lower_is_better: Literal[0, 1]
    matlab_data: Blocks
    detailed_metrics: Detailed
    summary: Summary
    stages: Columns
    latency: Columns
    layers: Columns
    masks: dict[str, Column]
    history: list[Columns]
    confusion: Confusion
    per_class: list[Columns]
    comparisons: dict[str, Column]
    attribution: dict[str, Column]
    units: dict[str, str]
    not_available: list[Missing]


@router.get(
    "/matlab_metrics",
    response_model=MatlabMetrics,
    responses={200: {"content": {MAT: {"schema": {"type": "string", "format": "binary"}}}}},
)
def matlab(
    service: Served,
    run_id: Annotated[str | None, Query(description="the latest run by default", max_length=200)] = None,
    format: Annotated[Literal["json", "mat"], Query(description="mat: a MATLAB file, version 5")] = "json",
) -> Response:
    """Return column arrays in stage order, and the predecessor's blocks; success is false while nothing is measured."""
    mapping = _of_run(service, run_id)
    if format == "mat":
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"lessen_{mapping['run_id'] or 'nothing'}.mat")
        attached = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(to_mat(mapping), media_type=MAT, headers=attached)
    body = json.dumps(mapping, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(body, media_type="application/json")


def _of_run(service: Served, run_id: str | None) -> dict[str, Any]:
    try:
        record = service.store.need(run_id)
    except NotFoundError:
        if run_id not in (None, "", "latest"):
            raise
        return nothing_measured("no model has been trained yet; start a run and ask again")
    if not (record.folder / "report.json").exists():
        return nothing_measured(_why(record), record.run_id, record.model_name or "")
    found = matlab_metrics(read(record.folder), model_name=record.model_name or "")
    return {**found, "run_id": record.run_id}  # a folder that was copied has another id than its report


def _why(record: RunRecord) -> str:
    if record.error:
        return f"run {record.run_id} is {record.state} and measured nothing: {record.error.get('message', '')}"
    return f"run {record.run_id} is {record.state}: nothing of it has been measured yet"
