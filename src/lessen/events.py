"""What a run tells whoever watches it: typed, small, and the same for every watcher."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Level = Literal["info", "warning", "error"]
RunState = Literal["queued", "starting", "running", "cancelling", "cancelled", "succeeded", "failed", "interrupted"]
LIVE: frozenset[str] = frozenset(("queued", "starting", "running", "cancelling"))  # the others are final until resumed
ACTIVE = LIVE - {"queued"}  # those that have a process, or should have one
Phase = str  # a stage's name: data, teacher, distill, control, prune, quantize, export, measure, report


@dataclass(frozen=True, kw_only=True)
class Event:
    """News of a run."""

    @property
    def kind(self) -> str:
        """The event's name on the wire."""
        return type(self).__name__

    def as_dict(self) -> dict[str, Any]:
        """Return the event as plain JSON values, with its kind."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """A stage began; `index` counts from 0 among `total` planned stages."""

    stage: Phase
    index: int
    total: int


@dataclass(frozen=True, kw_only=True)
class StageSkipped(Event):
    """A stage was found finished, with an unchanged digest, and is reused."""

    stage: Phase
    artifact: str


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Work done within a stage: `step` of `total_steps`, with what was measured there."""

    stage: Phase
    step: int
    total_steps: int
    unit: str = "steps"
    loss: float | None = None
    values: dict[str, float] = field(default_factory=dict)  # lr, grad_norm, loss parts, bytes held, validation scores


@dataclass(frozen=True, kw_only=True)
class Log(Event):
    """A line for people. A fallback is a warning and stands in the report."""

    stage: Phase
    message: str
    level: Level = "info"


@dataclass(frozen=True, kw_only=True)
class StageFinished(Event):
    """A stage's artifact is complete on disk; `seconds` is its wall time."""

    stage: Phase
    artifact: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RowMeasured(Event):
    """A stage's artifact was measured; `metrics` as in report.json."""

    stage: Phase
    metrics: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The report is complete on disk."""

    report: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RunStateChanged(Event):
    """The run as a whole went into another state; `error` holds message, hint and exit_code where it failed."""

    state: RunState
    reason: str = ""
    error: dict[str, Any] | None = None


KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        StageStarted, StageSkipped, Progress, Log, StageFinished, RowMeasured, RunFinished, RunStateChanged,
    )
}  # fmt: skip


def from_dict(line: dict[str, Any]) -> Event | None:
    """Return the event that a line of events.jsonl tells of; None for a kind of a newer version."""
    kind = KINDS.get(str(line.get("kind")))
    if kind is None:
        return None
    return kind(**{f.name: line[f.name] for f in fields(kind) if f.name in line})
