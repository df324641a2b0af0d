"""Cross-validation: every fold is run in a folder of its own, and their mean and spread are reported."""

from __future__ import annotations

import csv
import io
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lessen.context import write_atomic
from lessen.events import Event, Log, RunFinished, RunStateChanged
from lessen.folder import claim, lock, now, recipe_digest
from lessen.measure import Metric
from lessen.recipe import Recipe
from lessen.report import Report, Row, write

SUMMARY = "fold_summary.csv"
COLUMNS = (
    "accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro", "roc_auc", "agreement_with_teacher",
    "parameters", "nonzero_parameters", "file_bytes", "latency_p50_ms", "throughput_per_s",
)  # fmt: skip


def run_folds(
    recipe: Recipe,
    path: Path,
    *,
    emit: Callable[[Event], None] | None = None,
    check: Callable[[], None] | None = None,
    force: bool = False,
) -> Report:
    """Run all folds of a recipe and report the mean of each metric with its spread over the folds.

    A value is the mean over folds, `spread` the smallest and the largest of them. The artifacts that the rows name are
    those of the fold whose teacher did best on validation; test decides nothing.
    """
    from lessen.runner import run

    with lock(path):
        folder = claim(path, recipe, force=force)
        reports: list[Report] = []
        start = time.monotonic()
        with folder.recording(emit) as tell:

            def pass_on(event: Event) -> None:
                if not isinstance(event, RunStateChanged | RunFinished):  # these are of one fold
                    tell(event)

            for fold in range(recipe.data.folds):
                tell(Log(stage="run", message=f"fold {fold + 1} of {recipe.data.folds}"))
                one = recipe.model_copy(update={"data": recipe.data.model_copy(update={"fold": fold})})
                reports.append(run(one, out_dir=path / f"fold-{fold}", emit=pass_on, check=check, force=force))
            best = max(range(len(reports)), key=lambda i: _validation_score(reports[i]))
            merged = write(_merged(reports, best, folder.run_id, recipe_digest(recipe)), path)
            write_atomic(path / SUMMARY, _table(reports))
            tell(RunFinished(report=str(path / "report.json"), seconds=time.monotonic() - start))
    return merged


def _validation_score(report: Report) -> float:
    teacher = report.teacher
    fits = teacher.fits if teacher is not None else []
    return float(fits[-1]["best"].get("val_f1_macro", 0.0)) if fits else 0.0


def _merged(reports: list[Report], best: int, run_id: str, of_recipe: str) -> Report:
    chosen = reports[best]
    rows = [_mean_row([r.row(row.stage) for r in reports], row, best) for row in chosen.rows]
    baseline = chosen.baseline and _mean_row([r.baseline for r in reports], chosen.baseline, best)
    return chosen.model_copy(
        update={
            "run_id": run_id,
            "created": now(),
            "complete": all(r.complete for r in reports),
            "seconds": sum(r.seconds or 0.0 for r in reports),
            "rows": rows,
            "baseline": baseline,
            "comparisons": [],
            "environment": {**chosen.environment, "recipe_digest": of_recipe, "finished": now()},
            "data": {**chosen.data, "folds": len(reports), "artifacts_of_fold": best},
            "warnings": [w for r in reports for w in r.warnings],
        }
    )


def _mean_row(rows: list[Row | None], like: Row, best: int) -> Row:
    there = [r for r in rows if r is not None]
    metrics = {name: _mean([r.metrics[name] for r in there if name in r.metrics], like) for name in like.metrics}
    artifact = None if like.artifact is None else f"fold-{best}/{like.artifact}"
    return like.model_copy(update={"metrics": metrics, "artifact": artifact})


def _mean(metrics: list[Metric], row: Row) -> Metric:
    values = [float(m.value) for m in metrics if m.value is not None]
    first = metrics[0]
    if len(values) < len(metrics):
        reason = next(m.reason for m in metrics if m.value is None)
        return Metric(value=None, unit=first.unit, kind="not_available", reason=f"missing in a fold: {reason}")
    return Metric(
        value=statistics.fmean(values),
        unit=first.unit,
        kind=first.kind,
        n=len(values),
        spread=(min(values), max(values)),
        reason=f"mean over {len(values)} folds; spread: smallest and largest",
    )


def _table(reports: list[Report]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["stage", "fold", *COLUMNS])
    for row in reports[0].rows:
        lines: list[list[float | None]] = []
        for fold, report in enumerate(reports):
            found = report.row(row.stage)
            lines.append([found.value(name) if found else None for name in COLUMNS])
            writer.writerow([row.stage, fold, *lines[-1]])
        writer.writerow([row.stage, "mean", *_columns(lines, statistics.fmean)])
        writer.writerow([row.stage, "std", *_columns(lines, statistics.stdev)])
    return stream.getvalue()


def _columns(lines: list[list[float | None]], of: Callable[[Any], float]) -> list[float | None]:
    columns = zip(*lines, strict=True)
    return [of([v for v in c if v is not None]) if None not in c else None for c in columns]
