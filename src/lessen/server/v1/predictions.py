"""Ask every stage of a run the same question."""

from __future__ import annotations

from fastapi import APIRouter

from lessen.errors import NotFoundError, RecipeError
from lessen.server.service import Served
from lessen.server.v1.found import needed, stage_folders
from lessen.server.v1.shapes import PredictIn, PredictOut, StageAnswers

router = APIRouter(tags=["predictions"])


@router.post("/predictions")
def predict(service: Served, body: PredictIn) -> PredictOut:
    """Answer texts or images with every stage of a run, one at a time, after a warm-up, timed."""
    if (body.inputs is None) == (body.images is None):
        raise RecipeError("give either inputs (texts) or images (base64 PNG or JPEG)", "one of them, not both")
    record = needed(service, body.run_id)
    there = stage_folders(record.folder)
    wanted = list(dict.fromkeys(body.stages)) if body.stages else list(there)
    for stage in wanted:
        if stage not in there:
            raise NotFoundError(f"run {record.run_id} has no artifact of stage {stage!r}", f"it has {', '.join(there)}")
    if not wanted:
        raise NotFoundError(f"run {record.run_id} has no complete model yet", "wait for its first stage")
    found = service.bench.predict({stage: there[stage] for stage in wanted}, inputs=body.inputs, images=body.images)
    stages = [StageAnswers.model_validate(s) for s in found["stages"]]
    return PredictOut(
        run_id=record.run_id, task=record.task, threads=found["threads"], stages=stages, agreement=_agreement(stages)
    )


def _agreement(stages: list[StageAnswers]) -> dict[str, float | None]:
    """Return the share of each stage's answers that equal the teacher's; null where either gave none."""
    teacher = next((s for s in stages if s.stage == "teacher" and not s.error), None)
    out: dict[str, float | None] = {}
    for stage in stages:
        if teacher is None or stage.error or len(stage.answers) != len(teacher.answers):
            out[stage.stage] = None
            continue
        same = [a.label == b.label and a.text == b.text for a, b in zip(stage.answers, teacher.answers, strict=True)]
        out[stage.stage] = sum(same) / len(same)
    return out
