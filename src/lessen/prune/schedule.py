"""How the removed share grows from nothing to the target."""

from __future__ import annotations

import math

RATE = 5.0  # of the exponential schedule


def share(schedule: str, progress: float) -> float:
    """Return the share of the target that is due at `progress`; exactly 0 before the start, exactly 1 from the end on.

    Formulas, with p = progress in [0, 1]:
        one_shot: 1;  linear: p
        cubic: 1 - (1 - p)^3   (Zhu and Gupta 2017, https://arxiv.org/abs/1710.01878, eq. 1, with s_i = 0)
        exponential: (1 - e^(-5p)) / (1 - e^(-5)): starts fastest of all; the division makes it reach 1

    Args:
        schedule: one_shot, linear, cubic, exponential.
        progress: position between start (0) and end (1); values outside are clipped.
    """
    if schedule == "one_shot" or progress >= 1:
        return 1.0
    p = max(0.0, progress)
    if schedule == "linear":
        return p
    if schedule == "cubic":
        return 1 - (1 - p) ** 3
    if schedule == "exponential":
        return math.expm1(-RATE * p) / math.expm1(-RATE)
    raise ValueError(f"no schedule {schedule!r}")
