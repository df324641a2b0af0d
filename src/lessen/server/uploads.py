"""Files that people hand in: a data source or a teacher comes of them, and "upload:<id>" names them in recipes.

They lie below the root in .lessen/uploads, each in a folder with a random name, are checked before they are kept, and
go after 30 days, or when they are deleted.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi import Path as PathParam
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from lessen.errors import ConflictError, NotFoundError, RateError, RecipeError, ResourceError
from lessen.server.accept import Accepted, Kind, accept
from lessen.server.problems import PROBLEMS
from lessen.server.receive import FIELD, receive
from lessen.server.service import Served, Service
from lessen.store import FOLDER, Store, Upload

router = APIRouter(tags=["uploads"], responses=PROBLEMS)
PREFIX = "upload:"
KEPT_DAYS = 30
AT_ONCE = 2
QUOTA = 8  # of all uploads together, in the size of one
HALF_DONE, STALE_S = ".part", 3600.0
ID = re.compile(r"[0-9a-f]{16}")
SLOTS = threading.BoundedSemaphore(AT_ONCE)
MODELS = ("model",)  # settings that name a model; others that may name an upload name data
DATA = ("path", "validation_path", "test_path")
FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


class UploadOut(BaseModel):
    """A file, or the files of a model, that somebody handed in."""

    model_config = ConfigDict(extra="forbid")

    upload_id: str
    file_path: str = Field(description="upload:<id>, which recipes take as data.path, teacher.model, student.model")
    kind: Kind
    name: str
    bytes: int
    created: str
    expires: str
    facts: dict[str, Any] = Field(description="table: columns, rows, preview; images: classes; model: architecture")


class Uploaded(UploadOut):
    """What POST /upload answers."""

    success: Literal[True] = True


class UploadList(BaseModel):
    """Every upload that is kept."""

    model_config = ConfigDict(extra="forbid")

    uploads: list[UploadOut]


Id = Annotated[str, PathParam(min_length=1, max_length=100, description="an upload's id, with or without upload:")]


@router.post("/upload", tags=["predecessor"], openapi_extra=FORM)
async def upload(service: Served, request: Request) -> Uploaded:
    """Hand in a table, a zip of images, or a model: one part named `file`, or several for the files of a model.

    Taken are CSV, TSV, JSON and JSON lines (UTF-8), a zip with one folder of images per class, and config.json with
    safetensors and tokenizer files, together or zipped. Pickles and other archives are refused.
    """
    return Uploaded(**_out(await _taken(service, request)).model_dump())


@router.post("/api/v1/uploads", status_code=201, openapi_extra=FORM)
async def add_upload(service: Served, request: Request) -> Uploaded:
    """Hand in a file, or the files of a model; the same as POST /upload."""
    return Uploaded(**_out(await _taken(service, request)).model_dump())


@router.get("/api/v1/uploads")
def list_uploads(service: Served) -> UploadList:
    """List what was handed in, newest first."""
    sweep(service)
    return UploadList(uploads=[_out(one) for one in sorted(service.store.uploads(), key=_age, reverse=True)])


@router.get("/api/v1/uploads/{upload_id}")
def show_upload(service: Served, upload_id: Id) -> UploadOut:
    """Return an upload."""
    return _out(needed(service.store, upload_id))


@router.delete("/api/v1/uploads/{upload_id}")
def delete_upload(service: Served, upload_id: Id) -> UploadOut:
    """Remove an upload and its files for good; refused while a run that waits or works uses it."""
    found = needed(service.store, upload_id)
    if found.upload_id in _used(service):
        raise ConflictError(f"upload {found.upload_id} is used by a run that is not done", "cancel the run first")
    _remove(service, found)
    return _out(found)


def needed(store: Store, upload_id: str) -> Upload:
    """Return an upload by its id, with or without `upload:`.

    Raises:
        NotFoundError: there is none, or its files are gone.
    """
    short = upload_id.removeprefix(PREFIX)
    found = store.get_upload(short) if ID.fullmatch(short) else None
    if found is None or not (store.root / found.path).exists():
        raise NotFoundError(
            f"there is no upload {short[:40]!r}", f"hand it in again; uploads go after {KEPT_DAYS} days"
        )
    return found


def resolve(service: Service, values: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe's values, nested or with dotted names, with the paths of uploads in place of their ids.

    Raises:
        NotFoundError: there is no such upload.
        RecipeError: it is of another kind than its place asks for, or stands where none may.
    """
    return {k: _resolved(v, service.store, tuple(str(k).split("."))) for k, v in values.items()}


def _resolved(value: Any, store: Store, place: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {k: _resolved(v, store, (*place, *str(k).split("."))) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(v, store, place) for v in value]
    if not isinstance(value, str) or not value.startswith(PREFIX):
        return value
    found, where, last = needed(store, value), ".".join(place), place[-1] if place else ""
    wants = "a model" if last in MODELS else "data" if place[:1] == ("data",) and last in DATA else None
    if wants is None:
        raise RecipeError(f"{where} is {value}", "an upload may be data.path, teacher.model or student.model")
    if (found.kind == "model") != (wants == "a model"):
        raise RecipeError(f"{where} is {value}, which is of kind {found.kind}", f"{where} takes {wants}")
    return str(store.root / found.path)


def sweep(service: Service, now: float | None = None) -> list[str]:
    """Remove uploads that are older than 30 days and that no run waits for, and leavings of uploads that broke off.

    Args:
        now: seconds since 1970.

    Returns:
        The ids that went.
    """
    now = time.time() if now is None else now
    used = _used(service)
    old = [one for one in service.store.uploads() if now - _age(one) > KEPT_DAYS * 86_400 and one.upload_id not in used]
    for one in old:
        _remove(service, one)
    known = {one.upload_id for one in service.store.uploads()}
    for path in folder(service).glob("*"):
        stale = path.name.endswith(HALF_DONE) or path.name not in known
        if stale and now - path.stat().st_mtime > STALE_S:
            shutil.rmtree(path, ignore_errors=True)
    return [one.upload_id for one in old]


def folder(service: Service) -> Path:
    """Return the folder of all uploads, made when absent; nobody else may read it."""
    path = service.store.root / FOLDER / "uploads"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


async def _taken(service: Service, request: Request) -> Upload:
    """Receive, check and keep an upload, or leave nothing."""
    limit = service.settings.max_upload_bytes
    with _slot():
        await run_in_threadpool(_require_quota, service)
        upload_id = secrets.token_hex(8)
        half = folder(service) / f"{upload_id}{HALF_DONE}"
        half.mkdir(mode=0o700)
        try:
            parts = await receive(request, half, limit)
            found = await run_in_threadpool(accept, parts, half, limit)
            return await run_in_threadpool(_keep, service, upload_id, half, parts[0].name, found)
        finally:
            await run_in_threadpool(shutil.rmtree, half, True)


@contextmanager
def _slot() -> Iterator[None]:
    if not SLOTS.acquire(blocking=False):
        raise RateError(f"{AT_ONCE} uploads are under way", "wait for one of them", retry_after_s=5)
    try:
        yield
    finally:
        SLOTS.release()


def _require_quota(service: Service) -> None:
    sweep(service)
    kept, most = sum(one.bytes for one in service.store.uploads()), QUOTA * service.settings.max_upload_bytes
    if kept >= most:
        raise ResourceError(f"{kept} bytes of uploads are kept; allowed are {most}", "delete some of them")


def _keep(service: Service, upload_id: str, half: Path, name: str, found: Accepted) -> Upload:
    """Give the folder its name, then make it known: what is known is whole."""
    whole = half.with_suffix("")
    inner = found.path.relative_to(half)
    half.rename(whole)
    record = Upload(
        upload_id=upload_id,
        kind=found.kind,
        name=name,
        path=(whole / inner).relative_to(service.store.root).as_posix(),
        bytes=found.bytes,
        facts=found.facts,
    )
    try:
        service.store.add_upload(record)
    except BaseException:
        shutil.rmtree(whole, ignore_errors=True)
        raise
    return record


def _remove(service: Service, one: Upload) -> None:
    service.store.delete_upload(one.upload_id)
    shutil.rmtree(folder(service) / one.upload_id, ignore_errors=True)


def _used(service: Service) -> set[str]:
    """Return the ids of uploads that runs use which wait or work."""
    live = [*service.store.queue(), *service.store.active()]
    text = json.dumps([record.recipe for record in live])
    return {one.upload_id for one in service.store.uploads() if one.upload_id in text}


def _age(one: Upload) -> float:
    """Return when an upload came, seconds since 1970."""
    return datetime.fromisoformat(one.created).timestamp()


def _out(one: Upload) -> UploadOut:
    until = datetime.fromisoformat(one.created).astimezone(UTC) + timedelta(days=KEPT_DAYS)
    return UploadOut(
        upload_id=one.upload_id,
        file_path=PREFIX + one.upload_id,
        kind=one.kind,
        name=one.name,
        bytes=one.bytes,
        created=one.created,
        expires=until.isoformat(timespec="seconds"),
        facts=one.facts,
    )
