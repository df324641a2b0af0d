"""Bounds that a run must keep: `lessen check` in a pipeline of continuous integration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lessen.errors import RecipeError
from lessen.report.numbers import lower_is_better, number, title
from lessen.report.rows import Report, Row
from lessen.report.tables import compression

ALIASES = {
    "f1": "f1_macro", "acc": "accuracy", "precision": "precision_macro", "recall": "recall_macro",
    "size": "file_bytes", "latency": "latency_p50_ms", "memory": "peak_rss_bytes",
    "agreement": "agreement_with_teacher", "ppl": "perplexity", "rouge": "rouge_l",
}  # fmt: skip


class Bounds(BaseModel):
    """What to check, of the final model unless `stage` names another."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str | None = Field(None, description="the stage to check; the final model when absent")
    max_drop: dict[str, float] = Field(
        default_factory=dict,
        description="largest fall below the teacher (rise, where lower is better)",
    )
    min_speedup: float | None = Field(None, gt=0, description="least speed-up over the teacher, p50 at batch 1")
    min_compression: float | None = Field(None, gt=0, description="least ratio of file bytes, teacher / model")
    at_least: dict[str, float] = Field(default_factory=dict, description="least value, by metric")
    at_most: dict[str, float] = Field(default_factory=dict, description="largest value, by metric")


@dataclass(frozen=True)
class Gate:
    """One bound and how it was met; a value that is not known does not meet it."""

    name: str
    passed: bool
    value: float | None
    bound: float | None
    text: str


def check(report: Report, bounds: Bounds | Mapping[str, Any]) -> list[Gate]:
    """Check a report against bounds; the first gate is that the run is complete.

    Raises:
        RecipeError: a bound is unknown or malformed, or the stage is not in the report.
    """
    limits = bounds if isinstance(bounds, Bounds) else parse_bounds(bounds)
    row = report.row(limits.stage) if limits.stage else report.final
    if limits.stage and row is None:
        there = ", ".join(r.stage for r in report.rows)
        raise RecipeError(f"the report has no stage {limits.stage!r}", f"it has {there}")
    state = "complete" if report.complete else "not complete"
    gates = [Gate("complete", report.complete, None, None, f"run {report.run_id} is {state}")]
    for name, bound in limits.max_drop.items():
        gates.append(_drop(report.teacher, row, ALIASES.get(name, name), bound))
    if limits.min_speedup is not None:
        gates.append(
            _least("min_speedup", row.value("speedup") if row else None, limits.min_speedup, "ratio", row, "speedup")
        )
    if limits.min_compression is not None:
        ratio = compression(report, row) if row else None
        gates.append(_least("min_compression", ratio, limits.min_compression, "ratio", row, "file_bytes"))
    for name, bound in limits.at_least.items():
        key = ALIASES.get(name, name)
        gates.append(_least(f"at_least {key}", row.value(key) if row else None, bound, _unit(row, key), row, key))
    for name, bound in limits.at_most.items():
        key = ALIASES.get(name, name)
        gates.append(_most(f"at_most {key}", row.value(key) if row else None, bound, _unit(row, key), row, key))
    return gates


def parse_bounds(values: Mapping[str, Any]) -> Bounds:
    """Check plain values and return the bounds.

    Raises:
        RecipeError: a bound is unknown or malformed.
    """
    try:
        return Bounds.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecipeError(f"bound {where}: {first['msg']}", f"bounds are {', '.join(Bounds.model_fields)}") from None


def junit(gates: list[Gate], *, suite: str) -> str:
    """Return the gates as JUnit XML, one test case each."""
    failed = sum(not g.passed for g in gates)
    attributes = {"name": suite, "tests": str(len(gates)), "failures": str(failed), "errors": "0", "skipped": "0"}
    root = ElementTree.Element("testsuites")
    node = ElementTree.SubElement(root, "testsuite", attributes)
    for gate in gates:
        case = ElementTree.SubElement(node, "testcase", {"classname": suite, "name": gate.name})
        if gate.passed:
            ElementTree.SubElement(case, "system-out").text = gate.text
        else:
            ElementTree.SubElement(case, "failure", {"message": gate.text}).text = gate.text
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _drop(teacher: Row | None, row: Row | None, name: str, bound: float) -> Gate:
    before, after = (r.value(name) if r else None for r in (teacher, row))
    label = f"max_drop {name}"
    if before is None or after is None:
        return Gate(label, False, None, bound, f"{title(name)} is not known: {_why(row, name)}")
    lower = lower_is_better(name)
    drop = after - before if lower else before - after
    unit = _unit(row, name)
    sign = "at most" if drop <= bound else "more than"
    text = f"{title(name)} {'rose' if lower else 'fell'} by {number(drop, unit)}, {sign} {number(bound, unit)}"
    return Gate(label, drop <= bound, drop, bound, text)


def _least(name: str, value: float | None, bound: float, unit: str, row: Row | None, metric: str) -> Gate:
    if value is None:
        return Gate(name, False, None, bound, f"{title(metric)} is not known: {_why(row, metric)}")
    sign = "at least" if value >= bound else "less than"
    return Gate(name, value >= bound, value, bound, f"{number(value, unit)}, {sign} {number(bound, unit)}")


def _most(name: str, value: float | None, bound: float, unit: str, row: Row | None, metric: str) -> Gate:
    if value is None:
        return Gate(name, False, None, bound, f"{title(metric)} is not known: {_why(row, metric)}")
    sign = "at most" if value <= bound else "more than"
    return Gate(name, value <= bound, value, bound, f"{number(value, unit)}, {sign} {number(bound, unit)}")


def _unit(row: Row | None, name: str) -> str:
    return row.metrics[name].unit if row and name in row.metrics else ""


def _why(row: Row | None, name: str) -> str:
    if row is None:
        return "no stage was measured"
    metric = row.metrics.get(name)
    return f"{row.stage} has no such metric" if metric is None else metric.reason or "no reason given"
