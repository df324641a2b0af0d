from __future__ import annotations

import math

import pytest

from lessen.prune.schedule import share

GROWING = ("linear", "cubic", "exponential")


@pytest.mark.parametrize("schedule", GROWING)
def test_a_schedule_starts_at_nothing_hits_the_target_exactly_and_never_falls(schedule):
    values = [share(schedule, p / 100) for p in range(101)]
    assert values[0] == 0.0
    assert values[-1] == 1.0
    assert values == sorted(values)
    assert share(schedule, -1) == 0.0
    assert share(schedule, 7) == 1.0


def test_cubic_is_zhu_and_gupta_not_a_smoothstep():
    for p in (0.25, 0.5, 0.75):
        assert share("cubic", p) == pytest.approx(0 + (0 - 1) * -(1 - (1 - p) ** 3))
    assert share("cubic", 0.5) == 0.875


def test_exponential_is_the_stated_formula():
    for p in (0.1, 0.5, 0.9, 1.0):
        assert share("exponential", p) == pytest.approx((1 - math.exp(-5 * p)) / (1 - math.exp(-5)))


def test_one_shot_is_due_at_once():
    assert share("one_shot", 0.0) == 1.0


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="sawtooth"):
        share("sawtooth", 0.5)
