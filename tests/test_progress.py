"""Events become lines for people."""

from __future__ import annotations

import io

import pytest

from lessen.events import Log, Progress, RowMeasured, RunFinished, StageFinished, StageSkipped, StageStarted
from lessen.progress import Drawn, Lines, duration, watcher


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def spoken(verbose: int = 0) -> tuple[Lines, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    return Lines(stream, verbose, clock), stream, clock


def test_without_a_terminal_progress_is_one_line_in_ten_seconds() -> None:
    lines, stream, clock = spoken()
    lines(StageStarted(stage="teacher", index=0, total=3))
    for step in range(1, 301):
        clock.now = step * 0.1
        lines(Progress(stage="teacher", step=step, total_steps=600, loss=0.5))
    out = stream.getvalue().splitlines()
    assert out[0] == "[1/3] teacher"
    assert len(out) == 1 + 3
    assert all(text in out[1] for text in ("100/600 steps", "10.0/s", "ETA 50s", "loss 0.5"))


def test_the_rate_of_a_resumed_stage_counts_from_where_it_resumed() -> None:
    lines, stream, clock = spoken()
    lines(StageStarted(stage="distill", index=0, total=1))
    lines(Progress(stage="distill", step=500, total_steps=1000))
    clock.now = 10.0
    lines(Progress(stage="distill", step=600, total_steps=1000))
    assert "10.0/s, ETA 40s" in stream.getvalue()


def test_warnings_stages_and_results_are_said_in_words() -> None:
    lines, stream, _ = spoken()
    lines(Log(stage="prune", message="fell back to fp32", level="warning"))
    lines(StageSkipped(stage="teacher", artifact="stages/00-teacher"))
    lines(StageFinished(stage="prune", artifact="stages/02-prune", seconds=65))
    lines(RowMeasured(stage="prune", metrics={"f1_macro": 0.91234, "file_bytes": 2_500_000, "latency_p50_ms": None}))
    lines(RunFinished(report="runs/x/report.json", seconds=4000))
    assert stream.getvalue().splitlines() == [
        "  warning: fell back to fp32",
        "  teacher: found finished in stages/00-teacher",
        "  prune: stages/02-prune in 1m05s",
        "  prune: f1_macro 0.9123, size 2.50 MB",
        "report: runs/x/report.json (1h06m)",
    ]


def test_validation_scores_are_lines_when_verbose() -> None:
    score = Progress(stage="teacher", step=5, total_steps=9, values={"val_loss": 0.4, "val_f1_macro": 0.8})
    for verbose, count in ((0, 0), (1, 1)):
        lines, stream, _ = spoken(verbose)
        lines(score)
        assert stream.getvalue().count("val_f1_macro 0.8") == count


def test_quiet_lets_only_errors_through(capsys: pytest.CaptureFixture[str]) -> None:
    with watcher(live=True, quiet=True) as emit:
        emit(StageStarted(stage="teacher", index=0, total=1))
        emit(Log(stage="teacher", message="slow", level="warning"))
        emit(Log(stage="teacher", message="broken", level="error"))
    assert capsys.readouterr().err == "error: broken\n"


def test_a_bar_follows_each_stage_and_goes_when_the_next_begins() -> None:
    from rich.console import Console
    from rich.progress import Progress as Bars

    bars = Bars(console=Console(file=io.StringIO(), force_terminal=True, width=80))
    drawn = Drawn(bars)
    drawn(StageStarted(stage="teacher", index=0, total=2))
    drawn(Progress(stage="teacher", step=3, total_steps=10, loss=0.5))
    assert [(t.description, t.completed, t.total) for t in bars.tasks] == [("teacher", 3, 10)]
    drawn(StageStarted(stage="distill", index=1, total=2))
    assert bars.tasks == []


def test_a_live_terminal_shows_rate_and_eta(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with watcher(live=True) as emit:
        emit(Progress(stage="teacher", step=1, total_steps=10))
        emit(Progress(stage="teacher", step=2, total_steps=10))
    assert "teacher" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4s"), (42.4, "42s"), (60, "1m00s"), (185, "3m05s"), (7620, "2h07m")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
