"""Test samples and what each stage says of them, from predictions.json."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi import Path as PathParam
from fastapi.responses import FileResponse

from lessen.errors import ConflictError, NotFoundError, RecipeError
from lessen.report.predictions import FILE
from lessen.server.service import Served
from lessen.server.v1.artifacts import BYTES, sent
from lessen.server.v1.found import Id, needed
from lessen.server.v1.shapes import SampleOut, SamplesOut, Told
from lessen.store import RunRecord

router = APIRouter(tags=["samples"])
AN_IMAGE = sent("image/png", BYTES, "the image")
Name = Annotated[str | None, Query(max_length=200)]


@router.get("/runs/{run_id}/samples")
def list_samples(
    service: Served,
    run_id: Id,
    reference: Annotated[str, Query(max_length=64, description="stage before")] = "teacher",
    candidate: Annotated[str | None, Query(max_length=64, description="stage after; the last one when absent")] = None,
    label: Annotated[str | None, Query(max_length=200, description="true label")] = None,
    predicted: Annotated[str | None, Query(max_length=200, description="label that the candidate says")] = None,
    change: Annotated[
        Literal["lost", "won", "changed", "all"],
        Query(description="lost: reference right, candidate wrong; won: the other way; changed: they differ"),
    ] = "all",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> SamplesOut:
    """List test samples with the answers of all stages; those that changed between two stages, where asked."""
    record = needed(service, run_id)
    said = _said(record)
    stages = list(said["stages"])
    after = candidate or stages[-1]
    for stage in (reference, after):
        if stage not in stages:
            raise NotFoundError(f"no answers of stage {stage!r} are kept", f"there are those of {', '.join(stages)}")
    labels = list(said.get("labels") or [])
    for name in (label, predicted):
        if name is not None and name not in labels:
            raise RecipeError(f"there is no label {name!r}", f"labels are {', '.join(labels) or 'none: texts'}")
    chosen = [
        i
        for i in range(len(said["ids"]))
        if (label is None or _has(_truth(said, i), labels.index(label)))
        and (predicted is None or _has(_answer(said, after, i), labels.index(predicted)))
        and _changed(said, i, reference, after, change)
    ]
    return SamplesOut(
        run_id=record.run_id,
        reference=reference,
        candidate=after,
        stages=stages,
        labels=labels,
        total=len(chosen),
        samples=[_sample(record, said, i) for i in chosen[offset : offset + limit]],
    )


@router.get("/runs/{run_id}/samples/{index}/image", response_class=FileResponse, responses=AN_IMAGE)
def sample_image(service: Served, run_id: Id, index: Annotated[int, PathParam(ge=0, le=10_000_000)]) -> FileResponse:
    """Return the image of a test sample."""
    record = needed(service, run_id)
    name = _image(_said(record), index)
    root = record.folder.resolve()
    file = (root / name).resolve() if name else root
    if not file.is_relative_to(root) or not file.is_file():
        raise NotFoundError(f"run {record.run_id} keeps no image {index}", "samples of text have none")
    return FileResponse(file, media_type="image/png")


def _said(record: RunRecord) -> dict[str, Any]:
    file = record.folder / FILE
    try:
        stat = file.stat()
    except FileNotFoundError:
        raise ConflictError(
            f"run {record.run_id} keeps no answers of its test samples ({FILE})",
            "they are written at the end of a run, since lessen 0.2: run it again",
        ) from None
    return _read(file, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=4)
def _read(file: Path, changed_ns: int, size: int) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values


def _truth(said: dict[str, Any], i: int) -> Any:
    truth = said.get("truth")
    return None if truth is None else truth[i]


def _has(decided: Any, index: int) -> bool:
    """Whether a decision, or the flags of a multi-label one, names a label."""
    return bool(decided[index]) if isinstance(decided, list) else bool(decided == index)


def _right(said: dict[str, Any], stage: str, i: int) -> bool:
    found = said["stages"][stage]
    if "labels" in found:
        return bool(found["labels"][i] == _truth(said, i))
    references = said.get("references")
    return bool(references and i < len(found["texts"]) and found["texts"][i] == references[i])


def _answer(said: dict[str, Any], stage: str, i: int) -> Any:
    found = said["stages"][stage]
    values = found.get("labels") or found["texts"]
    return values[i] if i < len(values) else None  # texts are generated for the first samples


def _changed(said: dict[str, Any], i: int, reference: str, candidate: str, change: str) -> bool:
    if change == "all":
        return True
    if change == "changed":
        return bool(_answer(said, reference, i) != _answer(said, candidate, i))
    before, after = _right(said, reference, i), _right(said, candidate, i)
    return before and not after if change == "lost" else after and not before


def _sample(record: RunRecord, said: dict[str, Any], i: int) -> SampleOut:
    labels = said.get("labels") or []
    previews, references = said.get("previews"), said.get("references")
    return SampleOut(
        id=str(said["ids"][i]),
        index=i,
        label=_named(_truth(said, i), labels),
        text=previews[i] if previews else None,
        image_url=_url(record, said, i),
        reference=references[i] if references else None,
        predictions={stage: _told(found, i, labels) for stage, found in said["stages"].items()},
    )


def _url(record: RunRecord, said: dict[str, Any], i: int) -> str | None:
    name = _image(said, i)
    there = name is not None and (record.folder / name).is_file()  # of the first samples alone
    return f"/api/v1/runs/{quote(record.run_id, safe='')}/samples/{i}/image" if there else None


def _told(found: dict[str, Any], i: int, labels: list[str]) -> Told:
    decided, sure, texts = (found.get(key) for key in ("labels", "probabilities", "texts"))
    each = sure[i] if sure else None
    return Told(
        label=_named(decided[i], labels) if decided else None,
        probability=None if isinstance(each, list) else each,
        probabilities=dict(zip(labels, each, strict=True)) if isinstance(each, list) else None,
        text=texts[i] if texts and i < len(texts) else None,
    )


def _named(decided: Any, labels: list[str]) -> str | None:
    """Return the label of an index; of flags (multi-label) all that are set, with commas between."""
    if decided is None:
        return None
    if isinstance(decided, list):
        return ", ".join(name for name, on in zip(labels, decided, strict=True) if on)
    return str(labels[decided])


def _image(said: dict[str, Any], index: int) -> str | None:
    """Return the path of a sample's image within the run's folder: `images` is a pattern such as images/%06d.png."""
    pattern = said.get("images")
    return str(pattern) % index if pattern else None
