"""Who watches a run cannot end it; what the run records of itself is never dropped."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from lessen import progress
from lessen.cli.terminal import Terminal
from lessen.errors import Cancelled, as_lessen
from lessen.eventlog import EventLog, NotRecorded, read_new
from lessen.events import Event, Log, Progress, StageStarted
from lessen.folder import EVENTS, RunFolder, claim, read_state
from lessen.progress import Drawn, Lines
from lessen.recipe import parse
from lessen.sink import Sink, Steady

STEPS = [Progress(stage="teacher", step=n, total_steps=3, loss=0.5) for n in (1, 2, 3)]


def raising(error: BaseException) -> tuple[Callable[[Event], None], list[Event]]:
    """Return a watcher that raises from the second event on, and what it was told."""
    told: list[Event] = []

    def watch(event: Event) -> None:
        told.append(event)
        if len(told) > 1:
            raise error

    return watch, told


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return read_new(folder / EVENTS)[0]


def claimed(folder: Path) -> RunFolder:
    return claim(folder, parse({"name": "watched", "data": {"source": "docstrings"}}))


def record(folder: Path, watch: Callable[[Event], None]) -> None:
    """Do what a run does: tell of three steps."""
    with claimed(folder).recording(watch) as tell:
        for step in STEPS:
            tell(step)


@pytest.mark.parametrize("error", [ValueError("no such chart"), BrokenPipeError(32, "Broken pipe"), RuntimeError()])
def test_a_watcher_that_raises_is_reported_once_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    watch, told = raising(error)
    record(tmp_path, watch)
    assert len(told) == 2, "left out from then on"
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines if line["kind"] == "Progress"] == [1, 2, 3]
    assert read_state(tmp_path)["state"] == "succeeded" == lines[-1]["state"]
    warnings = [line["message"] for line in lines if line["kind"] == "Log"]
    assert len(warnings) == 1
    assert type(error).__name__ in warnings[0]
    assert [r.levelname for r in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("error", "state"),
    [(KeyboardInterrupt(), "interrupted"), (SystemExit(1), "failed"), (Cancelled("enough"), "interrupted")],
)
def test_who_wants_to_stop_a_run_still_can(tmp_path: Path, error: BaseException, state: str) -> None:
    watch, told = raising(error)

    def only_once(event: Event) -> None:
        if len(told) < 2:
            watch(event)

    with pytest.raises(type(error)):
        record(tmp_path, only_once)
    assert read_state(tmp_path)["state"] == state


def test_an_event_that_cannot_be_recorded_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, written = EventLog.append, []

    def full(self: EventLog, event: Event) -> dict[str, Any]:
        if isinstance(event, Progress) and event.step == 2:
            raise NotRecorded(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / EVENTS))
        written.append(event)
        return append(self, event)

    monkeypatch.setattr(EventLog, "append", full)
    with pytest.raises(NotRecorded) as caught:
        record(tmp_path, lambda event: None)
    assert as_lessen(caught.value).kind == "disk_full"  # type: ignore[attr-defined]
    body = read_state(tmp_path)
    assert (body["state"], body["error"]["exit_code"]) == ("failed", 7)
    assert not any(isinstance(e, Progress) and e.step > 1 for e in written)


def test_a_record_within_a_record_is_not_taken_for_a_watcher(tmp_path: Path) -> None:
    """A fold passes its events to the run of all folds; that one's full disk is no fault of a watcher."""
    watch = Sink(raising(NotRecorded(errno.ENOSPC, "No space left on device"))[0])
    with pytest.raises(NotRecorded):
        record(tmp_path, watch)


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with EventLog(tmp_path / EVENTS) as log:
        log.append(Log(stage="run", message="one"))
        file = os.dup(log._file.fileno())
        os.dup2(full, log._file.fileno())
        with pytest.raises(NotRecorded) as caught:
            log.append(Log(stage="run", message="two"))
        os.dup2(file, log._file.fileno())  # there is room again
        log.append(Log(stage="run", message="three"))
    os.close(full)
    os.close(file)
    assert as_lessen(caught.value).message == f"the disk is full: {tmp_path / EVENTS}"
    assert [(line["seq"], line["message"]) for line in lines_of(tmp_path)] == [(1, "one"), (2, "three")]


def test_a_name_in_another_encoding_is_recorded(tmp_path: Path) -> None:
    with EventLog(tmp_path / EVENTS) as log:
        log.append(Log(stage="run", message=os.fsdecode(b"caf\xe9.csv")))
    assert lines_of(tmp_path)[0]["message"] == "caf?.csv"


@pytest.fixture
def broken() -> Iterator[TextIO]:
    """A pipe whose reader has gone; closing it raises where something is left in it, as it does at Python's end."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    yield stream
    stream.close()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("quiet", [False, True])
def test_a_terminal_that_went_away_is_no_concern_of_the_run(
    tmp_path: Path, broken: TextIO, monkeypatch: pytest.MonkeyPatch, live: bool, quiet: bool
) -> None:
    monkeypatch.setattr(sys, "stderr", broken)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws, as on a terminal
    with progress.watcher(live=live, quiet=quiet, verbose=1) as emit:
        emit(StageStarted(stage="teacher", index=0, total=1))
        record(tmp_path, emit)
        emit(Log(stage="teacher", message="fell back", level="error"))
    assert read_state(tmp_path)["state"] == "succeeded"
    assert not [line for line in lines_of(tmp_path) if line["kind"] == "Log"]
    Terminal().say("report: ...")
    assert Terminal().fail(Cancelled("stopped")) == 75


def test_drawing_that_fails_of_itself_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Any, event: Event) -> None:
        raise IndexError("of rich")

    monkeypatch.setattr(Lines, "__call__", fails)
    monkeypatch.setattr(Drawn, "__call__", fails)
    for live in (False, True):
        with progress.watcher(live=live) as emit:
            for step in STEPS:
                emit(step)


def test_a_stream_that_was_closed_or_never_there_is_silent(tmp_path: Path) -> None:
    file = (tmp_path / "said").open("w")
    steady = Steady(file)
    steady.say("one")
    file.close()
    steady.say("two")
    Lines(file)(Log(stage="run", message="three"))
    Steady(None).say("four")
    assert (tmp_path / "said").read_text() == "one\n"
