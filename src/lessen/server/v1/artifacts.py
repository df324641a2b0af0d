"""Artifacts and files of a run: by id and name only, never by path."""

from __future__ import annotations

import mimetypes
import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi import Path as PathParam
from fastapi.responses import FileResponse, StreamingResponse

from lessen.artifact import MANIFEST, Artifact
from lessen.errors import ConflictError, NotFoundError
from lessen.server.service import Served
from lessen.server.v1.found import Id, artifact_of, file_of, final_stage, needed, stage_folders
from lessen.server.v1.shapes import ArtifactOut, FileOut
from lessen.server.zipped import Entry, zipped
from lessen.store import RunRecord

router = APIRouter(tags=["artifacts"])
FILES = re.compile(r"^(report\.(json|html)|recipe\.json|predictions\.json|events\.jsonl|results_[a-z_]+\.(csv|json))$")
# a report is a page of its own: it may neither run scripts nor speak to the service
PAGE = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"}


def sent(kind: str, schema: dict[str, Any], text: str) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of a route that sends a file."""
    return {200: {"content": {kind: {"schema": schema}}, "description": text}}


BYTES = {"type": "string", "format": "binary"}
A_FILE = sent("application/octet-stream", BYTES, "the file")
A_ZIP = sent("application/zip", BYTES, "the zip")
A_REPORT = sent("application/json", {"type": "object"}, "report.json")
A_PAGE = sent("text/html", {"type": "string"}, "the page")


def listed(stage: str, path: Path, root: Path) -> ArtifactOut:
    """Return an artifact and its files with their sizes."""
    artifact = Artifact(path)
    manifest = artifact.manifest
    files = [
        FileOut(name=name, bytes=(path / name).stat().st_size, sha256=manifest.files.get(name))
        for name in sorted({*manifest.files, MANIFEST})
        if (path / name).is_file()
    ]
    return ArtifactOut(
        stage=stage,
        path=path.relative_to(root.resolve()).as_posix(),
        runtime=manifest.runtime,
        bytes=sum(f.bytes for f in files),
        digest=artifact.digest,
        files=files,
    )


def run_files(folder: Path) -> set[str]:
    """Return the names of a run's files that may be fetched."""
    return {file.name for file in folder.iterdir() if FILES.match(file.name)} if folder.is_dir() else set()


@router.get("/runs/{run_id}/artifacts")
def list_artifacts(service: Served, run_id: Id) -> list[ArtifactOut]:
    """List the model folders of a run."""
    record = needed(service, run_id)
    return [listed(stage, path, record.folder) for stage, path in stage_folders(record.folder).items()]


@router.get(
    "/runs/{run_id}/artifacts/{stage}/{file:path}",
    response_class=FileResponse,
    responses=A_FILE,
)
def artifact_file(
    service: Served,
    run_id: Id,
    stage: Annotated[str, PathParam(max_length=64)],
    file: Annotated[str, PathParam(max_length=300)],
) -> FileResponse:
    """Return a file of an artifact, as its manifest names it."""
    artifact = artifact_of(needed(service, run_id), stage)
    found = file_of(artifact.path, file, {*artifact.manifest.files, MANIFEST})
    return _attached(found, "application/octet-stream")


@router.get("/runs/{run_id}/download", response_class=StreamingResponse, responses=A_ZIP)
def download(
    service: Served, run_id: Id, every: Annotated[bool, Query(alias="all", description="every stage's model")] = False
) -> StreamingResponse:
    """Return what ships with its report and tables as a zip, made while it is sent."""
    record = needed(service, run_id)
    entries = entries_of(record, every=every)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", record.run_id)
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(zipped(entries), media_type="application/zip", headers=headers)


def entries_of(record: RunRecord, *, every: bool = False) -> list[Entry]:
    """Return the files of a run's zip: report, tables, and the model that ships (or all).

    Raises:
        ConflictError: no model is complete.
    """
    folders = stage_folders(record.folder)
    final = final_stage(record)
    chosen = folders if every else {s: p for s, p in folders.items() if s == final}
    if not chosen:
        raise ConflictError(f"run {record.run_id} ({record.state}) has no complete model yet", "wait for its end")
    entries = [Entry(file_of(record.folder, name, {name}), name) for name in sorted(run_files(record.folder))]
    for stage, path in chosen.items():
        for name in sorted({*Artifact(path).manifest.files, MANIFEST}):
            entries.append(Entry(file_of(path, name, {name}), f"{stage}/{name}"))
    return entries


@router.get(
    "/runs/{run_id}/files/{name}",
    response_class=FileResponse,
    responses=A_FILE,
)
def run_file(service: Served, run_id: Id, name: Annotated[str, PathParam(max_length=100)]) -> FileResponse:
    """Return a file of a run: report.json, report.html, recipe.json, events.jsonl, predictions.json, results_*."""
    record = needed(service, run_id)
    found = file_of(record.folder, name, run_files(record.folder))
    kind = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
    return _attached(found, "text/plain" if kind == "text/html" else kind)


@router.get(
    "/runs/{run_id}/report",
    response_class=FileResponse,
    responses=A_REPORT,
)
def report_json(service: Served, run_id: Id) -> FileResponse:
    """Return report.json as it is; its schema is `lessen schema report`."""
    return FileResponse(_report(needed(service, run_id), "report.json"), media_type="application/json")


@router.get(
    "/runs/{run_id}/report.html",
    response_class=FileResponse,
    responses=A_PAGE,
)
def report_html(service: Served, run_id: Id) -> FileResponse:
    """Return the report as a page of its own."""
    return FileResponse(_report(needed(service, run_id), "report.html"), media_type="text/html", headers=PAGE)


def _report(record: RunRecord, name: str) -> Path:
    try:
        return file_of(record.folder, name, {name})
    except NotFoundError:
        raise ConflictError(
            f"run {record.run_id} ({record.state}) has no report yet", "wait for its first stage"
        ) from None


def _attached(file: Path, kind: str) -> FileResponse:
    return FileResponse(file, media_type=kind, filename=file.name)
