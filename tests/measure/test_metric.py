from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from lessen.measure.metric import Metric, derived, measured, missing


def test_a_missing_value_needs_a_reason() -> None:
    with pytest.raises(ValidationError, match="reason"):
        Metric(value=None, unit="ms", kind="not_available")
    with pytest.raises(ValidationError, match="reason"):
        Metric(value=None, unit="ms", kind="measured", reason="because")
    assert missing("ms", "the worker died").reason == "the worker died"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_never_stored(value: float) -> None:
    for made in (measured(value, "share"), derived(value, "share", "a / b")):
        assert made.value is None
        assert made.kind == "not_available"
        assert "not a finite number" in (made.reason or "")
    with pytest.raises(ValidationError):
        Metric(value=value, unit="share")


def test_counts_stay_whole_numbers_in_json() -> None:
    assert '"value":109482240,' in measured(109_482_240, "count").model_dump_json()
