"""A run's events as the predecessors' clients know them: their names, their fields, their order."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings

from lessen import report as reports
from lessen.server.meter import PHASES
from lessen.server.translate import SECTIONS, Translator
from report.conftest import build
from server.runs_in_events import runs

STAMP = {"run_id", "seq", "ts", "schema_version"}
LOG = {"timestamp", "level", "phase", "step", "loss", "message", "full_log"}


@settings(max_examples=100, deadline=None)
@given(runs())
def test_any_run_is_told_in_order(lines):
    translator, told = Translator("r"), []
    for line in lines:
        told += translator.feed(line)
    progress = [p for name, p in told if name == "training_progress"]
    assert [p["progress"] for p in progress] == sorted(p["progress"] for p in progress)
    assert all(type(p["progress"]) is int for p in progress)
    phases = [PHASES.index(p["phase"]) for p in progress]
    assert phases == sorted(phases)
    assert [p["progress"] == 100 for p in progress] == [False] * (len(progress) - 1) + [True]
    assert told[-1][0] == "training_progress"
    assert told[-1][1]["status"] == "completed"
    begun = [p["phase"] for name, p in told if name == "training_status"]
    assert len(begun) == len(set(begun))
    assert begun == [p for p in PHASES if p in begun]
    for name, payload in told:
        assert payload.keys() >= STAMP
        assert payload["run_id"] == "r"
        json.dumps(payload, allow_nan=False)
        if name == "backend_log":
            assert set(payload) == LOG | STAMP
        if name == "training_progress":
            assert payload.get("loss", 0.0) is not None  # clients format what is there
    seqs = [payload["seq"] for _, payload in told]
    assert seqs == sorted(seqs)


@settings(max_examples=30, deadline=None)
@given(runs())
def test_the_same_events_give_the_same_messages(lines):
    one, two = Translator("r"), Translator("r")
    assert [one.feed(line) for line in lines] == [two.feed(line) for line in lines]


def event(kind, seq=1, ts=1_700_000_000.0, **more):
    return {"kind": kind, "seq": seq, "attempt": 1, "ts": ts, **more}


def progress(step, ts, stage="distill", loss=0.25, total=10):
    values = {"loss_soft": 0.2, "loss_label": 0.3, "lr": 1e-3, "grad_norm": 2.0}
    return event(
        "Progress", step, ts, stage=stage, step=step, total_steps=total, unit="steps", loss=loss, values=values
    )


def test_a_line_of_the_log_has_the_predecessors_form():
    translator = Translator("r")
    translator.feed(event("StageStarted", stage="distill", index=1, total=3))
    told = dict(translator.feed(progress(4, 1_700_000_000.0)))
    line, clock = told["backend_log"], time.strftime("%H:%M:%S", time.localtime(1_700_000_000))
    assert line["timestamp"] == clock
    assert (line["level"], line["phase"], line["step"], line["loss"]) == ("INFO", "knowledge_distillation", 4, 0.25)
    assert line["full_log"] == f"[{clock}] [KNOWLEDGE_DISTILLATION] Step 4 Loss: 0.2500 {line['message']}"
    assert "soft 0.2" in line["message"]
    assert "gradient norm 2" in line["message"]
    warned = translator.feed(event("Log", stage="distill", message="careful", level="warning"))
    assert [(n, p["level"], p["full_log"]) for n, p in warned] == [
        ("backend_log", "WARNING", f"[{clock}] [KNOWLEDGE_DISTILLATION] careful")
    ]


def test_progress_has_the_predecessors_fields():
    translator = Translator("r")
    translator.feed(event("StageStarted", stage="distill", index=1, total=3))
    told = dict(translator.feed(progress(4, 1_700_000_000.0)))["training_progress"]
    assert told.keys() >= {"progress", "phase", "step", "total_steps", "loss", "message", "eta_s"}
    assert (told["step"], told["total_steps"], told["loss"]) == (4, 10, 0.25)


def test_fast_steps_are_told_ten_times_a_second_and_the_last_one_always():
    translator = Translator("r")
    translator.feed(event("StageStarted", stage="distill", index=1, total=3))
    told = [
        payload["step"]
        for step in range(1, 201)
        for name, payload in translator.feed(progress(step, 1_700_000_000 + step / 100, total=200))
        if name == "training_progress"
    ]
    assert 15 <= len(told) <= 25
    assert told[-1] == 200


def test_the_report_comes_in_sections_then_whole_then_the_end(tmp_path):
    written = reports.write(build(), tmp_path)
    translator = Translator("r", tmp_path, "distillBert")
    told = translator.feed(event("RunFinished", report="report.json", seconds=3.0))
    names = [name for name, _ in told]
    assert names == ["backend_log", "evaluation_metrics", *["training_metrics"] * 7, "training_progress"]
    parts = [{k: v for k, v in p.items() if k not in STAMP} for n, p in told if n == "training_metrics"]
    assert [list(part) for part in parts[:6]] == [[section] for section in SECTIONS]
    assert list(parts[6]) == list(SECTIONS)
    assert parts[6] == written.sections
    blocks = dict(told)["evaluation_metrics"]
    rows = [*blocks["effectiveness"], *blocks["efficiency"], *blocks["compression"], *blocks["complexity"]]
    assert [row["metric"] for row in blocks["effectiveness"]] == ["Accuracy", "Precision", "Recall", "F1-Score"]
    assert all(isinstance(row["before"], int | float) and row["unit"] for row in rows)
    assert translator.feed(event("RunStateChanged", state="succeeded")) == []  # told once


def test_without_a_report_the_error_form_has_what_was_measured(tmp_path):
    translator = Translator("r", tmp_path)
    translator.feed(event("RowMeasured", stage="prune", metrics={"accuracy": 0.7, "file_bytes": 2_000_000}))
    told = dict(translator.feed(event("RunFinished", report="report.json", seconds=3.0)))
    assert told["training_metrics"]["basic_metrics"] == {"accuracy": 0.7, "size_mb": 2.0}
    assert "report" in told["training_metrics"]["error"]
    assert told["training_progress"]["progress"] == 100


@pytest.mark.parametrize("state", ["failed", "interrupted"])
def test_a_run_that_breaks_off_is_an_error_with_a_hint(state):
    translator = Translator("r", model_name="ResNet-18")
    error = {"message": "the loss is not finite at step 3", "hint": "lower lr", "exit_code": 1}
    told = dict(translator.feed(event("RunStateChanged", state=state, error=error)))
    assert told["training_error"] | {"seq": 1} == {
        "error": error["message"], "hint": "lower lr", "success": False, "model": "ResNet-18", "state": state,
        "run_id": "r", "seq": 1, "ts": 1_700_000_000.0, "schema_version": "1.0",
    }  # fmt: skip
    assert told["backend_log"]["level"] == "ERROR"
    assert "training_progress" not in told


def test_a_cancelled_run_says_so():
    told = dict(Translator("r").feed(event("RunStateChanged", state="cancelled", reason="somebody asked")))
    assert told["training_cancelled"]["message"] == "somebody asked"
    assert "training_error" not in told


def test_phases_begin_with_work_not_in_the_queue():
    translator = Translator("r")
    waiting = translator.feed(event("RunStateChanged", state="queued"))
    assert "training_status" not in dict(waiting)
    told = dict(translator.feed(event("RunStateChanged", state="running")))
    assert told["training_status"]["phase"] == "model_loading"
    assert told["training_status"]["message"]


def test_long_and_foreign_texts_are_cut_and_kept():
    text = "বাংলা " * 2000
    line = dict(Translator("r").feed(event("Log", stage="run", message=text)))["backend_log"]
    assert line["message"].startswith("বাংলা ")
    assert len(json.dumps(line).encode()) < 64 * 1024
    assert re.fullmatch(r"\d\d:\d\d:\d\d", line["timestamp"])
