"""What a report is made of. report.json is this, and the only source of every other form of the report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from lessen.measure.metric import Comparison, Metric

if TYPE_CHECKING:
    from lessen.artifact import Artifact

SCHEMA_VERSION = "1.0"
Role = Literal["main", "control", "reference", "export"]
# main: the stages of the pipeline; control: what a stage is held against; reference: a runtime without compression
ROLES: dict[str, Role] = {
    "teacher": "main", "distill": "main", "prune": "main", "quantize": "main", "control": "control",
    "random": "control", "runtime": "reference", "export": "export",
}  # fmt: skip
SOURCES = {"runtime": ("teacher",), "distill": ("teacher",), "control": ("teacher",)}


class Part(BaseModel):
    """A part of a report; unknown keys are refused and NaN is no number."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")


class Row(Part):
    """One measured artifact."""

    stage: str
    artifact: str | None  # path relative to the report's folder
    device: str
    runtime: str
    role: Role = "main"
    source: str | None = None  # the stage it was made from
    precision: str | None = None  # number format of most weights
    seconds: float | None = None  # wall time of the stage
    metrics: dict[str, Metric]
    facts: dict[str, Any] = {}  # what the stage and the measurement say besides: history, confusion, widths, bytes

    @property
    def fits(self) -> list[dict[str, Any]]:
        """The trainings of this stage (Fit.facts): its own, or those after each cut of a pruning."""
        recoveries = [self.facts.get("recovery"), *[r.get("recovery") for r in self.facts.get("rounds") or []]]
        found = [self.facts.get("fit"), *[r.get("fit") for r in recoveries if r]]
        return [fit for fit in found if fit]

    def value(self, name: str) -> float | None:
        """Return a metric's value, None where it is missing."""
        found = self.metrics.get(name)
        return None if found is None or found.value is None else float(found.value)


class Warned(Part):
    """A fallback or doubt that a stage announced."""

    stage: str
    message: str
    level: Literal["warning", "error"] = "warning"


class Step(Part):
    """One step of the attribution of speed: who won what."""

    name: str
    stage: str | None  # the row it is taken from
    latency_p50_ms: float | None
    gain: float | None  # of this step over the one before, ratio, above 1: faster
    total: float | None  # over the first step
    reason: str | None = None  # why there is no number


class Verdict(Part):
    """What a stage did, in words."""

    stage: str
    subject: Literal["quality", "size", "speed", "distillation", "pruning", "runtime", "result"]
    outcome: Literal["helped", "made worse", "no detectable change", "mixed", "unknown"]
    text: str


class Report(Part):
    """A run's report."""

    schema_version: str = SCHEMA_VERSION
    run_id: str
    name: str
    complete: bool
    created: str  # ISO 8601, UTC
    seconds: float | None = None  # wall time of the run
    task: str
    pipeline: str
    recipe: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    rows: list[Row] = []
    baseline: Row | None = None  # the simple model on the same splits
    comparisons: list[Comparison] = []
    attribution: list[Step] = []
    verdicts: list[Verdict] = []
    sections: dict[str, Any] = {}  # the predecessor's six sections
    warnings: list[Warned] = []

    def row(self, stage: str) -> Row | None:
        """Return the last row of a stage, or None."""
        return next((r for r in reversed(self.rows) if r.stage == stage), None)

    @property
    def main(self) -> list[Row]:
        """The stages of the pipeline, in order."""
        return [r for r in self.rows if r.role == "main"]

    @property
    def teacher(self) -> Row | None:
        """The row of the teacher."""
        return self.row("teacher")

    @property
    def final(self) -> Row | None:
        """The row of what ships: the quantized model, or the deployed export of the last stage, or that stage."""
        last = self.main[-1] if self.main else None
        if last is None or last.stage == "quantize":
            return last
        exported = [r for r in self.rows if r.role == "export" and r.source == last.stage]
        return exported[-1] if exported else last

    def comparison(self, reference: str, candidate: str) -> Comparison | None:
        """Return the paired test of two stages, or None."""
        return next((c for c in self.comparisons if (c.reference, c.candidate) == (reference, candidate)), None)


def make_row(
    stage: str,
    artifact: Artifact,
    out_dir: Path,
    metrics: Mapping[str, Metric],
    *,
    device: str,
    facts: Mapping[str, Any],
    source: str | None = None,
    seconds: float | None = None,
) -> Row:
    """Return the row of a stage's artifact.

    Args:
        out_dir: the report's folder, which paths are relative to.
        facts: of the measurement (`Answers.facts`); the manifest's are added.
        source: the stage it was made from; for the stages whose source is always the same it may be absent.
    """
    manifest = artifact.manifest
    own = {k: v for k, v in facts.items() if k != "precision"}
    return Row(
        stage=stage,
        artifact=Path(os.path.relpath(artifact.path, out_dir)).as_posix(),
        device=device,
        runtime=manifest.runtime,
        role=ROLES.get(stage, "main"),
        source=source or next(iter(SOURCES.get(stage, ())), None),
        precision=facts.get("precision"),
        seconds=seconds,
        metrics=dict(metrics),
        facts=_plain({**manifest.facts, **own, "made_by": manifest.history, "kept_units": manifest.info.widths}),
    )


def pairs(rows: list[Row]) -> list[tuple[str, str]]:
    """List the pairs of stages worth a paired test: each against teacher and source, what was done against controls."""
    names = [r.stage for r in rows]
    wanted: list[tuple[str, str]] = []
    for row in rows:
        wanted += [("teacher", row.stage), (row.source or row.stage, row.stage)]
    wanted += [("control", "distill"), ("random", "prune")]
    out = []
    for pair in wanted:
        if pair[0] != pair[1] and pair not in out and all(p in names for p in pair):
            out.append(pair)
    return out


def _plain(value: Any) -> Any:
    """Return JSON values: numpy numbers become numbers, not-finite ones null, anything else its text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if isinstance(value, bool | int | str | None) else str(value)
