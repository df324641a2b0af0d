"""A run's events as the predecessors' Socket.IO clients know them.

Their names and fields stay; `run_id`, `seq`, `ts` and `schema_version` come beside. The same events always give the
same messages, so that what is replayed after a reconnect is what was sent live.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lessen import report as reports
from lessen.errors import LessenError
from lessen.recipe import parse
from lessen.server.before_after import before_after
from lessen.server.meter import PHASES, Meter
from lessen.stages import names
from lessen.store import Store

SCHEMA_VERSION = "1.0"
SECTIONS = (
    "model_performance", "teacher_vs_student", "knowledge_distillation_analysis", "pruning_analysis",
    "efficiency_improvements", "learning_outcomes",
)  # fmt: skip
STARTS: Mapping[str, str] = {  # what clients are told when a phase begins
    "model_loading": "Preparing the data and the teacher",
    "knowledge_distillation": "The student learns from the teacher",
    "pruning": "Cutting what matters least out of the model",
    "evaluation": "Exporting, quantizing and measuring on the test split",
}
BEFORE_WORK = ("queued", "starting")  # states in which no phase has begun
LEVELS = {"info": "INFO", "warning": "WARNING", "error": "ERROR"}
PROGRESS_EVERY_S = 0.1  # at most ten messages of progress a second; the last step of a training always comes
LOSS_EVERY_S = 1.0  # lines of the log with a loss
LONGEST = 4000  # characters of a message
Message = tuple[str, dict[str, Any]]


class Translator:
    """Turns the stored events of one run, in order, into the predecessors' messages.

    Args:
        run_id: stands in every message.
        folder: of the run, whose report is read when it is complete.
        model_name: as the run was started; for training_error.
        stages: the stages of the run's recipe; told, percentages fit better.
    """

    def __init__(
        self,
        run_id: str,
        folder: Path | None = None,
        model_name: str | None = None,
        stages: Sequence[str] | None = None,
    ) -> None:
        self.meter = Meter(stages)
        self._run_id, self._folder, self._model_name = run_id, folder, model_name or ""
        self._phase = ""
        self._progress = 0
        self._told: tuple[float, str | None] = (0.0, None)  # when progress was told, and of which stage
        self._loss_told = 0.0
        self._measured: Mapping[str, Any] = {}
        self._completed = False

    def feed(self, event: Mapping[str, Any]) -> list[Message]:
        """Return what clients are told of the next event; often nothing."""
        self.meter.feed(event)
        kind = str(event.get("kind"))
        out: list[Message] = []
        if self.meter.phase != self._phase and not self.meter.done and event.get("state") not in BEFORE_WORK:
            self._phase = self.meter.phase
            out.append(("training_status", {"phase": self._phase, "message": STARTS[self._phase]}))
        handler = getattr(self, f"_on_{kind.lower()}", None)
        if handler is not None:
            out += handler(event)
        stamp = {
            "run_id": self._run_id,
            "seq": event.get("seq"),
            "ts": event.get("ts"),
            "schema_version": SCHEMA_VERSION,
        }
        return [(name, {**payload, **stamp}) for name, payload in out]

    def _on_log(self, event: Mapping[str, Any]) -> list[Message]:
        return [self._line(event, str(event.get("message", "")), level=str(event.get("level", "info")))]

    def _on_stagestarted(self, event: Mapping[str, Any]) -> list[Message]:
        at, total = int(event.get("index", 0)) + 1, int(event.get("total", 1))
        return [self._line(event, f"stage {at} of {total}: {event.get('stage')}")]

    def _on_stageskipped(self, event: Mapping[str, Any]) -> list[Message]:
        text = f"{event.get('stage')} is finished already and reused"
        return [self._line(event, text), self._moved(event, text)]

    def _on_stagefinished(self, event: Mapping[str, Any]) -> list[Message]:
        text = f"{event.get('stage')} is complete after {float(event.get('seconds') or 0):.1f} s"
        return [self._line(event, text), self._moved(event, text)]

    def _on_rowmeasured(self, event: Mapping[str, Any]) -> list[Message]:
        self._measured = event.get("metrics") or {}
        shown = [
            f"{name} {float(value):.4g}"
            for name in ("f1_macro", "accuracy", "perplexity", "bleu", "file_bytes")
            if isinstance(value := self._measured.get(name), int | float)
        ]
        return [self._line(event, f"{event.get('stage')} was measured: {', '.join(shown) or 'no numbers'}")]

    def _on_progress(self, event: Mapping[str, Any]) -> list[Message]:
        now, stage = float(event.get("ts") or 0.0), str(event.get("stage"))
        step, total, loss = event.get("step"), event.get("total_steps"), event.get("loss")
        text = f"{stage}: {step} of {total} {event.get('unit', 'steps')}"
        out: list[Message] = []
        if isinstance(loss, int | float) and abs(now - self._loss_told) >= LOSS_EVERY_S:
            self._loss_told = now
            out.append(self._line(event, _terms(event) or text, step=step, loss=float(loss)))
        last, of = self._told
        if step == total or stage != of or abs(now - last) >= PROGRESS_EVERY_S:
            self._told = (now, stage)
            known = (
                {"loss": float(loss)} if isinstance(loss, int | float) else {}
            )  # clients format it where it is there
            unit = str(event.get("unit", "steps"))
            out.append(self._progress_of(step=step, total_steps=total, unit=unit, message=text, stage=stage, **known))
        return out

    def _on_runfinished(self, event: Mapping[str, Any]) -> list[Message]:
        return self._complete(event)

    def _on_runstatechanged(self, event: Mapping[str, Any]) -> list[Message]:
        state, reason = str(event.get("state")), str(event.get("reason") or "")
        if state == "succeeded":
            return self._complete(event)
        if state in ("failed", "interrupted"):
            return self._stopped(event, state, reason)
        text = f"the run is {state}{f': {reason}' if reason else ''}"
        if state == "cancelled":
            return [self._line(event, text, level="warning"), ("training_cancelled", {"message": reason or text})]
        return [self._line(event, text)]

    def _stopped(self, event: Mapping[str, Any], state: str, reason: str) -> list[Message]:
        error = event.get("error") or {}
        text = _cut(str(error.get("message") or reason or f"the run {state}"))
        hint = str(error.get("hint") or ("resume it to go on" if state == "interrupted" else ""))
        payload = {"error": text, "hint": _cut(hint), "success": False, "model": self._model_name, "state": state}
        return [self._line(event, text, level="error"), ("training_error", payload)]

    def _complete(self, event: Mapping[str, Any]) -> list[Message]:
        """Tell of the report, then of the end, once."""
        if self._completed:
            return []
        self._completed = True
        text = "the run is complete"
        last = {"progress": 100, "phase": PHASES[-1], "status": "completed", "message": text, "eta_s": 0.0}
        self._progress = 100
        return [self._line(event, text), *self._report(), ("training_progress", last)]

    def _report(self) -> list[Message]:
        try:
            if self._folder is None:
                raise LessenError("the report lies elsewhere")
            found = reports.read(self._folder)
        except LessenError as error:
            return [("training_metrics", {"error": error.message, "basic_metrics": self._basic()})]
        whole = {name: found.sections[name] for name in SECTIONS if name in found.sections}
        parts: list[Message] = [("training_metrics", {name: section}) for name, section in whole.items()]
        return [("evaluation_metrics", before_after(found)), *parts, ("training_metrics", whole)]

    def _basic(self) -> dict[str, float | None]:
        accuracy, size = self._measured.get("accuracy"), self._measured.get("file_bytes")
        return {"accuracy": accuracy, "size_mb": None if size is None else size / 1e6}

    def _moved(self, event: Mapping[str, Any], text: str) -> Message:
        at, total = self.meter.stages
        return self._progress_of(step=at, total_steps=total, unit="stages", message=text, stage=event.get("stage"))

    def _progress_of(self, **more: Any) -> Message:
        """Return progress in whole percent that never goes back and keeps 100 for the end."""
        self._progress = max(self._progress, min(99, int(self.meter.percent)))
        eta = self.meter.eta_s
        body = {"progress": self._progress, "phase": self.meter.phase, "eta_s": None if eta is None else round(eta, 1)}
        return "training_progress", {**body, **more}

    def _line(
        self, event: Mapping[str, Any], message: str, *, level: str = "info", step: int | None = None,
        loss: float | None = None,
    ) -> Message:  # fmt: skip
        """Return a line of the log, in fields and as one text."""
        stamp = time.strftime("%H:%M:%S", time.localtime(float(event.get("ts") or 0.0)))
        text = _cut(message)
        parts = [f"[{stamp}]", f"[{self.meter.phase.upper()}]"]
        parts += [f"Step {step}"] if step is not None else []
        parts += [f"Loss: {loss:.4f}"] if loss is not None else []
        return "backend_log", {
            "timestamp": stamp, "level": LEVELS.get(level, "INFO"), "phase": self.meter.phase, "step": step,
            "loss": loss, "message": text, "full_log": " ".join([*parts, text]),
        }  # fmt: skip


def translator_of(store: Store, run_id: str) -> Translator:
    """Return the translator of a run, which knows its folder and its stages."""
    record = store.get(run_id)
    if record is None:
        return Translator(run_id)
    try:
        stages = names(parse(record.recipe))
    except LessenError:  # a recipe of an older version: percentages are guessed
        stages = ()
    return Translator(run_id, record.folder, record.model_name, stages)


def _terms(event: Mapping[str, Any]) -> str:
    """Return the terms of a loss and the gradient's norm as text."""
    values = event.get("values") or {}
    shown = [(key.removeprefix("loss_"), values[key]) for key in sorted(values) if key.startswith("loss_")]
    shown += [(name, values[key]) for key, name in (("lr", "lr"), ("grad_norm", "gradient norm")) if key in values]
    return ", ".join(f"{name} {value:.4g}" for name, value in shown if isinstance(value, int | float))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
