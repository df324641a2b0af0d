"""Made-up runs as lines of events.jsonl: plausible in their order, odd in their details. No work is done."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

ORDER = ("teacher", "runtime", "control", "distill", "random", "prune", "export", "quantize")
Line = dict[str, Any]


@st.composite
def runs(draw: st.DrawFn, *, attempts: int = 3) -> list[Line]:
    """Draw the lines of a run that succeeds, after attempts that broke off anywhere and were taken up again."""
    chosen = draw(st.sets(st.sampled_from(ORDER[1:]), max_size=7))
    stages = [name for name in ORDER if name == "teacher" or name in chosen]
    whole = draw(st.integers(0, attempts - 1))
    out: list[Line] = []
    ts = 1_700_000_000.0
    for attempt in range(1, whole + 2):
        lines = _attempt(draw, stages, skipped=draw(st.integers(0, len(stages))) if attempt > 1 else 0)
        if attempt <= whole:
            cut = draw(st.integers(0, len(lines) - 2))
            lines = [
                *lines[:cut],
                {"kind": "RunStateChanged", "state": draw(st.sampled_from(("failed", "interrupted")))},
            ]
        for line in lines:
            ts += draw(st.sampled_from((0.0, 0.03, 0.5, 7.0, -3600.0)))  # a clock may be set back
            out.append({"seq": len(out) + 1, "attempt": attempt, "ts": ts, **line})
    return out


def _attempt(draw: st.DrawFn, stages: list[str], skipped: int) -> list[Line]:
    lines: list[Line] = [{"kind": "RunStateChanged", "state": "running"}]
    for index, stage in enumerate(stages):
        lines.append({"kind": "StageStarted", "stage": stage, "index": index, "total": len(stages)})
        if index < skipped:
            lines.append({"kind": "StageSkipped", "stage": stage, "artifact": "x"})
            continue
        if draw(st.booleans()):
            lines += _steps(draw, stage, "teacher answers", None)
        for _ in range(draw(st.integers(0, 2))):  # a stage may train more than once
            lines += _steps(draw, stage, "steps", 1.5)
        lines.append(
            {"kind": "Log", "stage": stage, "message": "text", "level": draw(st.sampled_from(("info", "warning")))}
        )
        lines.append({"kind": "StageFinished", "stage": stage, "artifact": "x", "seconds": 1.0})
        lines.append(
            {"kind": "RowMeasured", "stage": stage, "metrics": {"accuracy": 0.5, "file_bytes": 10, "bleu": None}}
        )
    lines += _steps(draw, "measure", "rounds", None)
    return [*lines, {"kind": "RunFinished", "report": "report.json", "seconds": 9.0},
            {"kind": "RunStateChanged", "state": "succeeded"}]  # fmt: skip


def _steps(draw: st.DrawFn, stage: str, unit: str, loss: float | None) -> list[Line]:
    total = draw(st.integers(0, 5))
    return [
        {"kind": "Progress", "stage": stage, "step": step, "total_steps": total, "unit": unit, "loss": loss,
         "values": {"loss_soft": 1.0, "lr": 1e-3, "grad_norm": None}}
        for step in range(total + 1)
    ]  # fmt: skip
