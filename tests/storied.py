"""Runs whose course is known by heart (a NaN, a clipped step, a log), written as `lessen run` writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lessen.eventlog import EventLog
from lessen.events import Log, Progress, RunStateChanged, StageFinished, StageStarted
from lessen.folder import EVENTS, RunFolder, lock
from served import Outside

STEPS = 40
BENGALI = "বাংলা মন্তব্য পড়া হলো"


def progress(stage: str, step: int, loss: float, total: int = STEPS, **values: float) -> Progress:
    return Progress(
        stage=stage,
        step=step,
        total_steps=total,
        loss=loss,
        values={"loss_label": loss, "lr": 1e-3, "grad_norm": 2.0, **values},
    )


def teach(run: Outside) -> int:
    """Write a whole teacher stage: 40 steps, one clipped, one not finite, two validations."""
    run.write(StageStarted(stage="teacher", index=0, total=3), Log(stage="teacher", message=BENGALI))
    for step in range(1, STEPS + 1):
        run.write(progress("teacher", step, 2.0 / step, clipped=3.0 if step == 7 else 0.0))
    run.write(
        Log(stage="teacher", message="loss_label is not finite at step 21; the step is left out", level="warning")
    )
    run.write(
        Progress(stage="teacher", step=20, total_steps=STEPS, loss=0.5, values={"val_accuracy": 0.7, "val_loss": 0.9})
    )
    run.write(
        Progress(stage="teacher", step=40, total_steps=STEPS, loss=0.3, values={"val_accuracy": 0.9, "val_loss": 0.4})
    )
    return run.write(StageFinished(stage="teacher", artifact="stages/00-teacher", seconds=12.0))


def distil(run: Outside, first: int = 1, last: int = 10) -> int:
    """Write steps of a distil stage."""
    if first == 1:
        run.write(StageStarted(stage="distill", index=1, total=3))
    return run.write(*(progress("distill", step, 1.0 / step, loss_soft=0.5 / step) for step in range(first, last + 1)))


def running(root: Path, name: str = "storied") -> Outside:
    """A run that is in its second stage."""
    run = Outside(root, name)
    teach(run)
    distil(run)
    return run


def failed(root: Path, name: str = "broken") -> Outside:
    """A run that stopped with an error; resumable."""
    run = Outside(root, name)
    teach(run)
    distil(run)
    error = {"message": "loss_soft is not finite at step 11", "hint": "lower distill.train.lr", "exit_code": 1}
    run.write(RunStateChanged(state="failed", error=error))
    RunFolder(run.path, run.run_id).set_state("failed", error=error)
    run.close()
    return run


@contextmanager
def resumed(run: Outside) -> Iterator[EventLog]:
    """The second attempt of a run that stopped, by another process."""
    with lock(run.path), EventLog(run.path / EVENTS) as lines:
        RunFolder(run.path, run.run_id).set_state("running", attempt=lines.attempt, pid=os.getpid(), error=None)
        lines.append(RunStateChanged(state="running"))
        yield lines
