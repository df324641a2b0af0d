"""Loggers: what TensorBoard is told stands in its file, and none of them ends a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lessen import loggers, plugins
from lessen.errors import Cancelled, UnavailableError, UnknownNameError
from lessen.events import Event, Log, Progress, RowMeasured, RunFinished

EVENTS = (
    Progress(stage="teacher", step=1, total_steps=2, loss=0.7, values={"lr": 1e-3, "grad_norm": 2.0}),
    Progress(stage="teacher", step=2, total_steps=2, loss=float("nan"), values={"lr": 5e-4, "val_f1_macro": 0.5}),
    RowMeasured(stage="teacher", metrics={"f1_macro": 0.5, "speedup": None}),
)  # fmt: skip


def report(folder: Path) -> str:
    metrics = {"f1_macro": {"value": 0.5}, "speedup": {"value": 2.0}, "bleu": {"value": None}}
    (folder / "report.json").write_text(json.dumps({"rows": [{"stage": "teacher", "metrics": metrics}]}))
    return str(folder / "report.json")


def scalars(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, str]]:
    """Read the event files of a folder back: scalars by tag, and texts."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    found: dict[str, list[tuple[int, float]]] = {}
    texts: dict[str, str] = {}
    for file in sorted((folder / "tensorboard").iterdir()):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                read = make_ndarray(value.tensor)
                if value.metadata.plugin_data.plugin_name == "text":
                    texts[value.tag] = read.flat[0].decode()
                else:
                    found.setdefault(value.tag, []).append((event.step, round(float(read), 6)))
    return found, texts


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_the_curves_and_the_result(tmp_path: Path) -> None:
    heard: list[Event] = []
    with loggers.opened(["tensorboard"], tmp_path, heard.append) as emit:
        for event in (*EVENTS, RunFinished(report=report(tmp_path), seconds=1.0)):
            emit(event)
    assert heard[:3] == list(EVENTS)
    found, texts = scalars(tmp_path)
    assert found["teacher/lr"] == [(1, 1e-3), (2, 5e-4)]
    assert found["teacher/loss"] == [(1, 0.7)]  # no number, no point
    assert found["teacher/grad_norm"] == [(1, 2.0)]
    assert found["teacher/val_f1_macro"] == [(2, 0.5)]
    assert found["teacher/measured/f1_macro"] == [(0, 0.5)]  # once, though the report has it again
    assert found["teacher/measured/speedup"] == [(0, 2.0)]  # measured last: it is in the report alone
    (table,) = texts.values()
    assert table.splitlines() == ["| stage | f1_macro | speedup |", "|---|---|---|", "| teacher | 0.5 | 2 |"]


def test_an_absent_library_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lessen.loggers.tensorboard.find_spec", lambda name: None)
    with (
        pytest.raises(UnavailableError, match="tensorboard needs") as caught,
        loggers.opened(["tensorboard"], tmp_path),
    ):
        pass
    assert "lessen[loggers]" in caught.value.hint
    with pytest.raises(UnknownNameError, match="wandbx") as unknown:
        loggers.require(["wandbx"])
    assert "tensorboard" in unknown.value.hint
    assert not list(tmp_path.iterdir())


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Event], None]:
    """Make a logger `broken` that fails at its first event and when it is closed."""
    calls: list[Event] = []

    class Broken:
        def __call__(self, event: Event) -> None:
            calls.append(event)
            raise OSError("no room")

        def close(self) -> None:
            raise OSError("no room")

    made: Any = SimpleNamespace(require=lambda: None, open=lambda folder: Broken(), calls=calls)
    known = plugins.find
    monkeypatch.setattr(plugins, "find", lambda folder, name: made if name == "broken" else known(folder, name))
    return made


def test_a_logger_that_fails_is_left_out_and_the_run_goes_on(
    tmp_path: Path, broken: Any, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event] = []
    with loggers.opened(["broken"], tmp_path, heard.append) as emit:
        for event in EVENTS:
            emit(event)
    assert heard == list(EVENTS)
    assert broken.calls == [EVENTS[0]]
    assert "broken: a watcher of the run failed" in caplog.text
    assert "could not be closed" in caplog.text


def test_a_watcher_that_stops_the_run_still_does(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled), loggers.opened([], tmp_path, stop) as emit:
        emit(Log(stage="run", message="x"))


def test_tensorboard_is_not_imported_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # importing it fails
    with loggers.opened(["tensorboard"], tmp_path) as emit:
        emit(Log(stage="run", message="x"))
    assert not list(tmp_path.iterdir())


def test_of_several_processes_one_writes(tmp_path: Path, broken: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with loggers.opened(["broken"], tmp_path) as emit:
        emit(EVENTS[0])
    assert not broken.calls
