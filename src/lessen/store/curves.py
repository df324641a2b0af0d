"""Lines of progress -> curves that a screen can show; those of the runs that are looked at stay in memory."""

from __future__ import annotations

import math
import re
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

Curves = dict[str, dict[str, list[list[float]]]]  # stage -> key -> [[step, value], ...]
KEPT_POINTS = 4_000_000  # of 16 bytes each, in all histories that are kept
KEPT = 64  # histories
VALIDATION = re.compile("val_")
NUMBER = (int, float)


class Curve:
    """Values over steps, which rise."""

    def __init__(self) -> None:
        self.steps, self.values = array("q"), array("d")

    def put(self, step: int, value: float) -> None:
        """Set the value of a step."""
        if not self.steps or step > self.steps[-1]:
            self.steps.append(step)
            self.values.append(value)
            return
        at = bisect_left(self.steps, step)
        if at < len(self.steps) and self.steps[at] == step:
            self.values[at] = value
        else:
            self.steps.insert(at, step)
            self.values.insert(at, value)

    def cut(self, step: int) -> None:
        """Drop everything from a step on."""
        at = bisect_left(self.steps, step)
        del self.steps[at:], self.values[at:]

    def points(self, most: int, first: int | None, last: int | None) -> list[list[float]]:
        """Return [step, value] of first <= step <= last: the ends, and the extremes of each of most / 2 equal parts."""
        low = 0 if first is None else bisect_left(self.steps, first)
        high = len(self.steps) if last is None else bisect_right(self.steps, last)
        if high - low <= max(most, 4):
            keep: Sequence[int] = range(low, high)
        else:
            parts, inner, found = max(1, (most - 2) // 2), high - low - 2, {low, high - 1}
            for part in range(parts):
                start = low + 1 + part * inner // parts
                span = self.values[start : low + 1 + (part + 1) * inner // parts]
                if span:
                    found |= {start + span.index(min(span)), start + span.index(max(span))}
            keep = sorted(found)
        return [[self.steps[at], self.values[at]] for at in keep]


class History:
    """The curves of one run, as far as its lines were read.

    Of one step the newest line wins. A later attempt that goes on from an earlier step replaces everything from that
    step on: a resumed run does not bend its curve back, whichever part of it is looked at.
    """

    def __init__(self) -> None:
        self.seq = 0  # of the last line that was read
        self.lock = threading.Lock()  # held by who reads on or draws
        self._stages: dict[str, dict[str, Curve]] = {}
        self._newest: dict[str, int] = {}

    def feed(self, line: dict[str, Any]) -> None:
        """Take in a Progress line; they come in order of seq."""
        self.seq, step = int(line["seq"]), line.get("step")
        if not isinstance(step, int) or line.get("unit", "steps") != "steps":
            return
        stage, attempt = str(line.get("stage")), int(line.get("attempt", 1))
        mine = self._stages.setdefault(stage, {})
        if attempt > self._newest.setdefault(stage, attempt):
            self._newest[stage] = attempt
            for curve in mine.values():
                curve.cut(step)
        values = {"loss": line.get("loss"), **(line.get("values") or {})}
        # The line that ends an epoch holds the epoch's mean losses beside the validation; curves are of single steps.
        if any(map(VALIDATION.match, values)):
            values = {key: value for key, value in values.items() if VALIDATION.match(key)}
        for key, value in values.items():
            if isinstance(value, NUMBER) and math.isfinite(value):
                curve = mine.get(key) or mine.setdefault(key, Curve())
                curve.put(step, value)

    def draw(
        self, keys: Sequence[str], points: int, step_from: int | None = None, step_to: int | None = None,
        stage: str | None = None,
    ) -> Curves:  # fmt: skip
        """Return at most `points` points of the curves of some keys between two steps, those included."""
        drawn = {
            name: {key: found[key].points(points, step_from, step_to) for key in keys if key in found}
            for name, found in self._stages.items()
            if stage in (None, name)
        }
        shown = {name: {key: curve for key, curve in found.items() if curve} for name, found in drawn.items()}
        return {name: found for name, found in shown.items() if found}

    def __len__(self) -> int:
        """Return the number of points."""
        return sum(len(curve.steps) for found in self._stages.values() for curve in found.values())


class Histories:
    """The histories that were drawn last; the others are read again from the store when they are asked for."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int | None], tuple[History, int]] = OrderedDict()  # and its points
        self._lock = threading.Lock()

    def of(self, run_id: str, attempt: int | None) -> History:
        """Return the history of a run, or of one attempt of it; an empty one where none is kept."""
        with self._lock:
            return self._kept.setdefault((run_id, attempt), (History(), 0))[0]

    def drawn(self, run_id: str, attempt: int | None, history: History) -> None:
        """Note that a history was read on and drawn; those drawn longest ago go where it gets too much."""
        with self._lock:
            if self._kept.get((run_id, attempt), (None, 0))[0] is not history:
                return  # forgotten meanwhile
            self._kept[run_id, attempt] = history, len(history)
            self._kept.move_to_end((run_id, attempt))
            total = sum(points for _, points in self._kept.values())
            while total > KEPT_POINTS or len(self._kept) > KEPT:
                total -= self._kept.popitem(last=False)[1][1]

    def forget(self, run_id: str) -> None:
        """Drop what is kept of a run."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == run_id]:
                del self._kept[key]
