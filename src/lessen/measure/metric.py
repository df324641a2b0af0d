"""One number of a report: what it is, how it was come by, and how sure it is.

Imports no torch: a report is read and written without it.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

Kind = Literal["measured", "derived", "not_available"]


class Metric(BaseModel):
    """A number with its unit and origin; a missing one says why."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    value: int | float | None
    unit: str  # "share" is 0..1, "count", "bytes", "ms", "per_s", "FLOP", "ratio", "nats", "tokens", "pixels" ...
    kind: Kind = "measured"
    n: int | None = None  # samples, calls or rounds behind the value
    ci95: tuple[float, float] | None = None  # bootstrap 95 % interval
    spread: tuple[float, float] | None = None  # 10 % and 90 % points over rounds
    reason: str | None = None  # why there is no value, or what a derived value was derived from

    @model_validator(mode="after")
    def _explained(self) -> Metric:
        if self.value is None and not (self.reason and self.kind == "not_available"):
            raise ValueError("a metric without a value needs kind not_available and a reason")
        if self.value is not None and self.kind == "not_available":
            raise ValueError("a metric that is not available has no value")
        return self


class Comparison(BaseModel):
    """Two stages on the same test samples: does `candidate` answer better or worse than `reference`?"""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    reference: str
    candidate: str
    n: int
    agreement: float  # share of samples with equal decisions
    f1_macro_change: float  # candidate minus reference
    ci95: tuple[float, float]  # paired bootstrap, of f1_macro_change
    only_reference_right: int
    only_candidate_right: int
    mcnemar_p: float  # exact, two-sided
    verdict: Literal["better", "worse", "no detectable change"]


Metrics = dict[str, Metric]


def measured(
    value: float | int | None,
    unit: str,
    *,
    n: int | None = None,
    ci95: tuple[float, float] | None = None,
    spread: tuple[float, float] | None = None,
) -> Metric:
    """Return a measured metric; a value that is not finite becomes one that is not available."""
    if value is None or not math.isfinite(value):
        return missing(unit, f"the measurement gave {value}, which is not a finite number")
    return Metric(value=value, unit=unit, n=n, ci95=_finite(ci95), spread=_finite(spread))


def derived(value: float | int, unit: str, source: str, *, n: int | None = None) -> Metric:
    """Return a metric that follows from other values; `source` says from which."""
    if not math.isfinite(value):
        return missing(unit, f"{source} gave {value}, which is not a finite number")
    return Metric(value=value, unit=unit, kind="derived", n=n, reason=source)


def missing(unit: str, reason: str) -> Metric:
    """Return a metric without a value, with the reason."""
    return Metric(value=None, unit=unit, kind="not_available", reason=" ".join(reason.split()) or "no reason given")


def _finite(pair: tuple[float, float] | None) -> tuple[float, float] | None:
    if pair is None or not all(math.isfinite(x) for x in pair):
        return None
    return float(pair[0]), float(pair[1])
