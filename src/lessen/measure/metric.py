"""One number of a report: what it is, how it was come by, and how sure it is.

Imports no torch: a report is read and written without it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

Kind = Literal["measured", "derived", "not_available"]
Verdict = Literal["better", "worse", "no detectable change"]


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
    n: int  # samples, documents or pairs
    metric: str = "f1_macro"  # what is compared: f1_macro, bleu, nll_per_token, bits_per_byte
    unit: str = "share"
    change: float  # of the metric, candidate minus reference
    lower_is_better: bool = False
    ci95: tuple[float, float]  # paired bootstrap, of the change
    verdict: Verdict
    # of decisions only
    agreement: float | None = None  # share of samples with equal decisions
    f1_macro_change: float | None = None  # the change, where the metric is f1_macro
    only_reference_right: int | None = None
    only_candidate_right: int | None = None
    mcnemar_p: float | None = None  # exact, two-sided

    @model_validator(mode="before")
    @classmethod
    def _change_of_f1(cls, values: Any) -> Any:
        """Read comparisons that only name the change of macro-F1."""
        if isinstance(values, dict) and "change" not in values and "f1_macro_change" in values:
            return {**values, "change": values["f1_macro_change"]}
        return values


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


def judged(interval: tuple[float, float], *, lower_is_better: bool = False) -> Verdict:
    """Return the verdict on a change with this 95 % interval: none is detectable unless it leaves out zero."""
    low, high = interval
    if low <= 0 <= high:
        return "no detectable change"
    return "better" if (high < 0) == lower_is_better else "worse"


def _finite(pair: tuple[float, float] | None) -> tuple[float, float] | None:
    if pair is None or not all(math.isfinite(x) for x in pair):
        return None
    return float(pair[0]), float(pair[1])
