"""The predecessors' endpoints, with their names, methods and fields. docs/predecessor-server.md says what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from lessen import __version__
from lessen.artifact import MANIFEST, Artifact
from lessen.errors import ConflictError, LessenError, NotFoundError, RateError
from lessen.events import LIVE
from lessen.report.predictions import read_predictions
from lessen.report.rows import Report
from lessen.server import presets
from lessen.server.before_after import before_after, nothing
from lessen.server.earlier_results import checks, results
from lessen.server.explanations import EXPLANATIONS
from lessen.server.predecessor_shapes import (
    CancelledOut,
    Evaluated,
    Explained,
    Explanation,
    ModelIn,
    Network,
    PreviousResults,
    RunIn,
    Running,
    TestedMetrics,
    TestedModel,
    Trained,
    TrainIn,
    VerifiedModels,
    Visualized,
    VisualizeIn,
)
from lessen.server.problems import PROBLEMS
from lessen.server.service import Served, Service
from lessen.server.v1.found import file_of, report_of, stage_folders
from lessen.server.v1.requested import requested
from lessen.server.visual import network
from lessen.server.zipped import Entry, zipped
from lessen.store import RunRecord

router = APIRouter(tags=["predecessor"], responses=PROBLEMS)
RunId = Annotated[str | None, Query(min_length=1, max_length=200, description="the latest run when absent")]
RECENT = 50  # runs among which a finished one is looked for
MODEL_STAGES = ("prune", "distill", "control", "teacher")  # models of torch, the smallest first
ZIP_NAME = "compressed_model_and_results.zip"
ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}, "description": "the zip"}
}
READ_ME = """\
compressed_model/              the model that ships, as `lessen.load("compressed_model")` opens it
compressed_model.safetensors   weights of the last torch model (was compressed_model.pth, a pickle)
compressed_model/shared.bin    raw numbers that both graphs of an ONNX T5 read, no pickle (where there is one)
evaluation_results.json        before and after, in numbers with units
report.json, report.html       everything that was measured
"""


@router.get("/test")
def running() -> Running:
    """Say that the server runs; needs no token."""
    return Running(status="Server is running", version=__version__)


@router.post("/train")
def train(service: Served, body: TrainIn) -> Trained:
    """Put a model's training, pruning and quantization into the queue.

    `model_name` is distillBert, T5-small, MobileNetV2 or ResNet-18 in any case, or an alias. Any setting of a recipe
    may stand beside it, nested ({"prune": {"remove_frac": 0.3}}) or with a dotted name ("prune.remove_frac"), and
    `preset` says how thorough it is. A second call waits for the first.
    """
    recipe, model_name = requested(service, body.model_name, body.preset, dict(body.model_extra or {}), None)
    record = service.jobs.submit(recipe, model_name=model_name)
    position = service.jobs.position(record.run_id)
    waits = f"; {position} before it in the queue" if position else ""
    return Trained(
        success=True,
        message=f"Training has been started in the background{waits}",
        run_id=record.run_id,
        position=position,
        model_name=model_name or body.model_name,
        note=recipe.note,
    )


@router.post("/cancel_training")
def cancel_training(service: Served, body: RunIn | None = None, run_id: RunId = None) -> CancelledOut:
    """Stop a run: the one named, else the one at work, else the first that waits. Asked twice, the same."""
    wanted = (body.run_id if body else None) or run_id
    record = service.store.need(wanted) if wanted else _at_work(service)
    if record is None or record.state not in LIVE:
        state = record.state if record else None
        text = f"run {record.run_id} is {state} already" if record else "no training is in progress"
        return CancelledOut(success=True, message=text, run_id=record.run_id if record else None, state=state)
    record = service.jobs.cancel(record.run_id)
    return CancelledOut(
        success=True, message="Training cancellation requested", run_id=record.run_id, state=record.state
    )


def _at_work(service: Service) -> RunRecord | None:
    active = service.store.active()
    return next(iter([*active, *service.store.queue()]), None)


@router.post("/evaluate")
def evaluate(service: Served, body: RunIn | None = None, run_id: RunId = None) -> Evaluated:
    """Return before (teacher) and after (final model) of a run; null with the reason where there is no number."""
    return _evaluated(service, (body.run_id if body else None) or run_id)


@router.get("/evaluate")
def get_evaluation(service: Served, run_id: RunId = None) -> Evaluated:
    """Return the same as POST /evaluate."""
    return _evaluated(service, run_id)


def _evaluated(service: Service, run_id: str | None) -> Evaluated:
    record = _record(service, run_id)
    if record is None:
        blocks = nothing("no model has been trained yet; POST /train starts one")
        return Evaluated.model_validate({**blocks, "run_id": None, "state": None, "complete": False})
    try:
        found = report_of(record)
    except ConflictError as error:
        blocks, complete = nothing(error.message), False
    else:
        blocks, complete = before_after(found), found.complete
        if not complete and found.final is found.teacher and record.pipeline != "baseline":
            blocks = nothing(f"run {record.run_id} ({record.state}) has measured its teacher alone so far")
    return Evaluated.model_validate({**blocks, "run_id": record.run_id, "state": record.state, "complete": complete})


@router.get("/get_previous_results")
def get_previous_results(service: Served, run_id: RunId = None) -> PreviousResults:
    """Return the numbers of a finished run, the latest when none is named; null where there is none."""
    record = _finished(service, run_id)
    if record is None:
        return PreviousResults(success=False, message="No previous training results available", results=None)
    report = report_of(record)
    found = results(report, record.model_name or record.name, trained=report.complete)
    if found is None:
        return PreviousResults(success=False, message=f"run {record.run_id} measured nothing", results=None)
    text = "Previous results retrieved successfully"
    return PreviousResults(success=True, message=text, results=found.model_copy(update={"run_id": record.run_id}))


@router.post("/test_model")
def try_model(service: Served, body: ModelIn) -> TestedModel:
    """Build the architecture at full size with random weights and answer one sample with it."""
    return _tested(service, presets.find(body.model_name))


@router.get("/verify_all_models")
def verify_all_models(service: Served) -> VerifiedModels:
    """Do so for all four models."""
    tested = [_tested(service, preset) for preset in presets.PRESETS.values()]
    sound = sum(one.success for one in tested)
    text = f"{sound} of {len(tested)} models can be built and answer"
    return VerifiedModels(success=sound == len(tested), message=text, models=tested)


def _tested(service: Service, preset: presets.Preset) -> TestedModel:
    name = preset.model_name
    try:
        found = service.bench.test_model(preset.architecture, preset.task)
    except RateError:
        raise
    except LessenError as error:
        text = f"{name} cannot be built: {error.message}"
        return TestedModel(success=False, message=text, model_name=name, error=error.message, hint=error.hint or None)
    known = {key: found[key] for key in ("architecture", "parameters", "bytes", "build_ms", "forward_ms", "output")}
    if not found["finite"]:
        text = f"{name} answers with numbers that are not finite"
        return TestedModel(success=False, message=text, model_name=name, error=text, **known)
    return TestedModel(success=True, message="Model loaded successfully", model_name=name, **known)


@router.get("/test_metrics")
def check_metrics(service: Served, run_id: RunId = None) -> TestedMetrics:
    """Return a run's metrics, and whether accuracy and F1 follow from the answers that were stored."""
    record = _finished(service, run_id)
    if record is None:
        text = "no run has been finished yet; nothing is wrong, and there is nothing to check"
        return TestedMetrics(success=True, message=text, run_id=None, test_metrics=None, checks=[])
    report = report_of(record)
    found = results(report, record.model_name or record.name, trained=True)
    done = checks(report, read_predictions(record.folder))
    wrong = [check for check in done if not check.equal]
    text = f"{len(done) - len(wrong)} of {len(done)} metrics follow from the stored answers"
    shown = found.compression_results.model_dump() if found else None
    return TestedMetrics(success=not wrong, message=text, run_id=record.run_id, test_metrics=shown, checks=done)


@router.post("/visualize")
def visualize(service: Served, body: VisualizeIn | None = None, run_id: RunId = None) -> Visualized:
    """Return the layers of one of a run's models as nodes and links, with what its files hold."""
    asked = body or VisualizeIn()
    record = _record(service, asked.run_id or run_id)
    there = stage_folders(record.folder) if record else {}
    if record is None or not there:
        hint = "POST /train first; GET /verify_all_models shows what the architectures are"
        empty = Network(nodes=[], connections=[])
        known = record.run_id if record else None
        return Visualized(success=False, message="no model has been trained yet", data=empty, hint=hint, run_id=known)
    stage = asked.stage or next((name for name in MODEL_STAGES if name in there), next(iter(there)))
    if stage not in there:
        raise NotFoundError(f"run {record.run_id} has no model of stage {stage!r}", f"it has {', '.join(there)}")
    drawn = network(service.bench.layers(there[stage])["layers"])
    text = f"{len(drawn['nodes'])} layers of {stage}, joined in the order of the modules"
    data = Network.model_validate(drawn)
    return Visualized(success=True, message=text, data=data, run_id=record.run_id, stage=stage, stages=list(there))


@router.get("/download", response_class=StreamingResponse, responses=ZIP)
def download(service: Served, run_id: RunId = None) -> StreamingResponse:
    """Return the final model with what was measured as a zip; the latest finished run when none is named."""
    record = _finished(service, run_id)
    if record is None:
        raise ConflictError("Model is not trained yet. Please train the model first.", "POST /train starts a run")
    headers = {"Content-Disposition": f'attachment; filename="{ZIP_NAME}"'}
    return StreamingResponse(zipped(_entries(record)), media_type="application/zip", headers=headers)


def _entries(record: RunRecord) -> Iterator[Entry]:
    """Return what goes into the zip. Everything is looked up before the first byte is sent."""
    report = report_of(record)
    there = stage_folders(record.folder)
    final = report.final.stage if report.final else ""
    if final not in there:
        raise ConflictError(f"run {record.run_id} ({record.state}) has no complete model", "wait for its end")
    entries = [Entry(_told(record, report), "evaluation_results.json"), Entry(READ_ME.encode(), "README.txt")]
    for name in ("report.json", "report.html"):
        entries.append(Entry(file_of(record.folder, name, {name}), name))
    weights = next((there[name] for name in MODEL_STAGES if name in there), None)
    if weights is not None:
        inner = "model.safetensors"
        entries.append(Entry(file_of(weights, inner, {inner}), "compressed_model.safetensors"))
    for name in sorted({*Artifact(there[final]).manifest.files, MANIFEST}):
        entries.append(Entry(file_of(there[final], name, {name}), f"compressed_model/{name}"))
    return iter(entries)


def _told(record: RunRecord, report: Report) -> bytes:
    """Return evaluation_results.json."""
    found = results(report, record.model_name or record.name, trained=report.complete)
    body = {
        "run_id": record.run_id,
        "model_name": record.model_name or record.name,
        "metrics": before_after(report),
        "results": found.model_dump() if found else None,
        "sections": report.sections,
        "warnings": [w.model_dump() for w in report.warnings],
    }
    return (json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


@router.get("/metrics_explanations")
def metrics_explanations() -> Explained:
    """Return what every metric and term means: description, formula, range, interpretation."""
    known = {name: Explanation.model_validate(words) for name, words in EXPLANATIONS.items()}
    return Explained(success=True, explanations=known)


def _record(service: Service, run_id: str | None) -> RunRecord | None:
    """Return the run named, else the latest, None where there is none at all.

    Raises:
        NotFoundError: the one named does not exist.
    """
    if run_id in (None, "latest"):
        found, _ = service.store.list(limit=1)
        return found[0] if found else None
    return service.store.need(run_id)


def _finished(service: Service, run_id: str | None) -> RunRecord | None:
    """Return the run named, else the latest whose report is complete, None where there is none.

    Clients ask as soon as they hear that a run is completed; its process may still be on its way out then.
    """
    if run_id not in (None, "latest"):
        return service.store.need(run_id)
    found, _ = service.store.list(limit=RECENT)
    return next((one for one in found if one.state == "succeeded" or _is_complete(one)), None)


def _is_complete(record: RunRecord) -> bool:
    try:
        return report_of(record).complete
    except LessenError:  # there is none yet
        return False
