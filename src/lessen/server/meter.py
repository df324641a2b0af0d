"""How far a run is, from the work that its events tell of; never from a clock.

A stage weighs what it usually takes beside the others. Progress and phases only move forward, also over the attempts of
a run that was resumed, and 100 % are reached when the report is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PHASES = ("model_loading", "knowledge_distillation", "pruning", "evaluation", "completed")  # the predecessors' order
ORDER = ("teacher", "runtime", "control", "distill", "random", "prune", "export", "quantize")  # of a pipeline's stages
WEIGHTS: Mapping[str, float] = {
    "teacher": 35, "runtime": 5, "control": 20, "distill": 25, "random": 8, "prune": 10, "export": 5, "quantize": 3,
}  # fmt: skip
OTHER = 10.0  # of a stage that this file does not know
MEASURING = 17.0  # what follows the stages: baseline, speed, memory, report
PHASE_OF: Mapping[str, str] = {
    "data": "model_loading", "teacher": "model_loading", "runtime": "model_loading",
    "control": "knowledge_distillation", "distill": "knowledge_distillation", "random": "pruning", "prune": "pruning",
    "export": "evaluation", "quantize": "evaluation", "measure": "evaluation", "report": "evaluation",
}  # fmt: skip
BEFORE_STEPS = 0.1  # share of a stage for what comes before its training: the teacher's answers, and the like
STEPS_END = 0.95  # and what comes after: saving and measuring
ALMOST = 99.0  # the most there is before the report is complete
ETA_FROM_PERCENT, ETA_FROM_S = 2.0, 3.0  # work and time of an attempt before which a guess is worth nothing


class Meter:
    """Reads the stored events of one run, in order.

    Args:
        stages: the stages of the run's recipe (`lessen.stages.names`); told, percentages fit better.
    """

    def __init__(self, stages: Sequence[str] | None = None) -> None:
        self._stages = tuple(stages or ())
        self._attempt = 0
        self._began: float | None = None  # seconds since 1970, of this attempt
        self._last = 0.0
        self._before_s = 0.0  # of earlier attempts
        self._first_percent = 0.0  # where this attempt began to move
        self._index, self._total = 0, 0
        self._seen: dict[int, str] = {}
        self._fold, self._folds = 0, 1
        self._percent = 0.0
        self._phase = 0
        self.stage: str | None = None
        self.step: int | None = None
        self.total_steps: int | None = None

    @property
    def percent(self) -> float:
        """Work done, 0 to 100; never less than before."""
        return self._percent

    @property
    def phase(self) -> str:
        """One of PHASES; never one before."""
        return PHASES[self._phase]

    @property
    def stages(self) -> tuple[int, int]:
        """The number of the stage at work, from 1, and how many there are; 0 and 0 before the first."""
        return (self._index + 1, self._total) if self._total else (0, 0)

    @property
    def done(self) -> bool:
        """Whether the report is complete."""
        return self.phase == PHASES[-1]

    @property
    def elapsed_s(self) -> float | None:
        """Seconds of work, those between attempts left out; None before the first event."""
        return None if self._began is None else self._before_s + self._last - self._began

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end, as fast as this attempt was so far; None until that says something, 0 at the end."""
        if self.done:
            return 0.0
        gained = self._percent - self._first_percent
        took = 0.0 if self._began is None else self._last - self._began
        if gained < ETA_FROM_PERCENT or took < ETA_FROM_S:
            return None
        return took / gained * (100.0 - self._percent)

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take in the next event."""
        self._time(event)
        kind, stage = str(event.get("kind")), str(event.get("stage", ""))
        if kind == "StageStarted":
            self._start(stage, int(event.get("index") or 0), int(event.get("total") or 1))
        elif kind in ("StageFinished", "StageSkipped"):
            self._reach(self._share(stage, 1.0))
        elif kind == "Progress":
            self._step(stage, event)
        elif kind == "RunFinished" or (kind == "RunStateChanged" and event.get("state") == "succeeded"):
            self._percent, self._phase = 100.0, len(PHASES) - 1
        elif kind == "Log" and stage == "run":
            self._next_fold(str(event.get("message", "")))

    def _time(self, event: Mapping[str, Any]) -> None:
        now, attempt = float(event.get("ts") or self._last), int(event.get("attempt", 1))
        if attempt != self._attempt or self._began is None:
            if self._began is not None:
                self._before_s += self._last - self._began
            self._attempt, self._began, self._first_percent = attempt, now, self._percent
            self._last = now
            return
        if now < self._last:  # the clock was set back: the time that went by is kept
            self._began -= self._last - now
        self._last = now

    def _start(self, stage: str, index: int, total: int) -> None:
        self.stage, self.step, self.total_steps = stage, None, None
        self._index, self._total = index, max(total, index + 1)
        self._seen[index] = stage
        self._enter(stage)
        self._reach(self._share(stage, 0.0))

    def _step(self, stage: str, event: Mapping[str, Any]) -> None:
        step, total = int(event.get("step", 0)), int(event.get("total_steps", 0))
        if stage != self.stage:  # measuring is no stage of the pipeline and is not announced
            self.stage = stage
        self.step, self.total_steps = step, total
        self._enter(stage)
        done = min(1.0, step / total) if total > 0 else 0.0
        if stage == "measure":
            part = done
        elif event.get("unit", "steps") == "steps":
            part = BEFORE_STEPS + (STEPS_END - BEFORE_STEPS) * done
        else:
            part = BEFORE_STEPS * done
        self._reach(self._share(stage, part))

    def _enter(self, stage: str) -> None:
        phase = PHASE_OF.get(stage)
        if phase is not None:
            self._phase = max(self._phase, PHASES.index(phase))

    def _next_fold(self, message: str) -> None:
        """Read `fold 2 of 5`: each fold is a whole run of its own."""
        words = message.split()
        if len(words) == 4 and words[0] == "fold" and words[2] == "of" and words[1].isdigit() and words[3].isdigit():
            self._fold, self._folds = int(words[1]) - 1, max(1, int(words[3]))

    def _reach(self, share: float) -> None:
        whole = (self._fold + share) / self._folds
        self._percent = max(self._percent, min(ALMOST, 100.0 * whole))

    def _share(self, stage: str, part: float) -> float:
        """Return the share of all work that is done when `part` of a stage is."""
        weights = self._weights()
        whole = sum(weights) + MEASURING
        if stage == "measure":
            return (sum(weights) + MEASURING * part) / whole
        if stage != self._seen.get(self._index):
            return 0.0
        index = min(self._index, len(weights) - 1)
        return (sum(weights[:index]) + weights[index] * part) / whole

    def _weights(self) -> list[float]:
        """Return the weights of the stages in order; of one that is not known yet, the mean of those that may come."""
        names = self._stages if len(self._stages) == self._total else ()
        seen = dict(enumerate(names)) or self._seen
        last = max((ORDER.index(name) for name in self._seen.values() if name in ORDER), default=-1)
        coming = [WEIGHTS[name] for name in ORDER[last + 1 :]] or [OTHER]
        guess = sum(coming) / len(coming)
        return [WEIGHTS.get(seen[i], OTHER) if i in seen else guess for i in range(max(self._total, 1))]
