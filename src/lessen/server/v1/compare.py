"""Several runs side by side: every stage a point, and the settings that differ."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from lessen.errors import LessenError, RecipeError
from lessen.report.numbers import TITLES, lower_is_better, title
from lessen.report.rows import Report, Row
from lessen.report.runs import differences
from lessen.server.service import Served
from lessen.server.v1.found import needed, report_of
from lessen.server.v1.shapes import CompareOut, Differs, MetricName, MetricOut, Point

router = APIRouter(tags=["compare"])
MOST = 50
NOT_COMPARED = ("name", "output_dir", "cache_dir", "legacy")
MACHINE = ("cpu", "threads")


@router.get("/compare")
def compare_runs(
    service: Served, runs: Annotated[str, Query(min_length=1, max_length=10_000, description="ids, commas between")]
) -> CompareOut:
    """Return the measured stages of several runs as points, and what their recipes differ in.

    Speeds of different machines, devices or thread counts carry different `comparable` groups, scores on different
    data different `comparable_quality` groups: they do not belong on one axis.
    """
    ids = list(dict.fromkeys(part.strip() for part in runs.split(",") if part.strip()))
    if not 1 <= len(ids) <= MOST:
        raise RecipeError(f"{len(ids)} runs are named", f"name 1 to {MOST}, with commas between")
    records = list({r.run_id: r for r in (needed(service, run_id) for run_id in ids)}.values())
    reports: dict[str, Report] = {}
    remarks = []
    for record in records:
        try:
            reports[record.run_id] = report_of(record)
        except LessenError as error:
            remarks.append(error.message)
    known = list(reports.values())
    remarks += [f"{r.run_id}: {text}" for r in known[1:] for text in differences(r, known[0])]
    return CompareOut(
        runs=[service.views.run(r) for r in records],
        points=_points(reports),
        metrics=_metrics(known),
        comparisons={run_id: [c.model_dump(mode="json") for c in r.comparisons] for run_id, r in reports.items()},
        config_diff=config_diff({r.run_id: r.recipe for r in records}),
        remarks=remarks,
    )


def config_diff(recipes: dict[str, dict[str, Any]]) -> list[Differs]:
    """Return the settings that are not the same in all recipes, by their paths."""
    flat = {run_id: _flat(recipe) for run_id, recipe in recipes.items()}
    paths = sorted({path for values in flat.values() for path in values})
    out = []
    for path in paths:
        values = {run_id: known.get(path) for run_id, known in flat.items()}
        first = next(iter(values.values()))
        if any(value != first for value in values.values()):
            out.append(Differs(path=path, values=values))
    return out


def _flat(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        if not path and name in NOT_COMPARED:
            continue
        where = f"{path}.{name}" if path else name
        out |= _flat(value, where) if isinstance(value, dict) and value else {where: value}
    return out


def _points(reports: dict[str, Report]) -> list[Point]:
    speed: dict[tuple[Any, ...], str] = {}
    quality: dict[Any, str] = {}
    points = []
    for run_id, report in reports.items():
        data = quality.setdefault(report.data.get("digest") or run_id, f"data-{len(quality) + 1}")
        final = report.final
        for row in report.rows:
            machine = (*(report.environment.get(key) for key in MACHINE), row.device, row.value("input_length"))
            group = speed.setdefault(machine, f"speed-{len(speed) + 1}")
            points.append(
                Point(
                    run_id=run_id,
                    stage=row.stage,
                    role=row.role,
                    device=row.device,
                    runtime=row.runtime,
                    final=final is not None and row.stage == final.stage,
                    metrics=_values(row),
                    comparable=group,
                    comparable_quality=data,
                )
            )
    return points


def _values(row: Row) -> dict[str, MetricOut]:
    return {
        name: MetricOut(value=m.value, unit=m.unit, ci95=list(m.ci95) if m.ci95 else None, reason=m.reason)
        for name, m in row.metrics.items()
    }


def _metrics(reports: list[Report]) -> list[MetricName]:
    units: dict[str, str] = {}
    for report in reports:
        for row in report.rows:
            for name, metric in row.metrics.items():
                units.setdefault(name, metric.unit)
    order = list(TITLES)
    names = sorted(units, key=lambda n: (order.index(n) if n in TITLES else len(order), n))
    return [MetricName(name=n, title=title(n), unit=units[n], better=_better(n)) for n in names]


def _better(name: str) -> Any:
    if lower_is_better(name):
        return "lower"
    sign = TITLES.get(name, ("", 0))[1]
    return "higher" if sign > 0 or name.startswith("token_accuracy_") else None
