"""What a request names: a run, its report, a stage's folder, a file. Nothing outside of the run's folder is reached."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from fastapi import Path as PathParam

from lessen import report
from lessen.artifact import MANIFEST, Artifact
from lessen.errors import ConflictError, LessenError, NotFoundError
from lessen.report.rows import Report
from lessen.server.service import Service
from lessen.store import RunRecord

Id = Annotated[str, PathParam(min_length=1, max_length=200, description="a run's id, or latest")]
_STAGE = re.compile(r"^\d+-([a-z0-9_]+)$")
DEPLOYED = "onnx"  # of several exports, the one that deploys carries the stage's name alone


def needed(service: Service, run_id: str) -> RunRecord:
    """Return the record of a run, or of the latest.

    Raises:
        NotFoundError: there is none.
    """
    return service.store.need(None if run_id == "latest" else run_id)


def report_of(record: RunRecord) -> Report:
    """Return the report of a run as far as it is.

    Raises:
        ConflictError: nothing was measured yet.
    """
    try:
        stat = (record.folder / "report.json").stat()
    except FileNotFoundError:
        raise ConflictError(
            f"run {record.run_id} ({record.state}) has no report yet", "wait for its first stage"
        ) from None
    return _read(record.folder, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=32)
def _read(folder: Path, changed_ns: int, size: int) -> Report:
    return report.read(folder)


def stage_folders(folder: Path) -> dict[str, Path]:
    """Return the complete model folders of a run by stage, in the order of the stages.

    Exports that do not deploy are named by their format: export-huggingface.
    """
    root = folder.resolve()
    found: dict[str, Path] = {}
    for outer in sorted((root / "stages").glob("*")):
        match = _STAGE.match(outer.name)
        if match is None:
            continue
        stage = match.group(1)
        for manifest in sorted([*outer.glob(MANIFEST), *outer.glob(f"*/{MANIFEST}")]):
            inner = manifest.parent
            if inner.name.startswith(".") or not inner.resolve().is_relative_to(root):
                continue
            plain = inner == outer or inner.name == DEPLOYED
            found[stage if plain else f"{stage}-{inner.name}"] = inner
    return found


def artifact_of(record: RunRecord, stage: str) -> Artifact:
    """Return the artifact of a stage.

    Raises:
        NotFoundError: the stage left none (yet).
    """
    there = stage_folders(record.folder)
    if stage not in there:
        raise NotFoundError(
            f"run {record.run_id} has no artifact of stage {stage!r}", f"it has {', '.join(there) or 'none yet'}"
        )
    return Artifact(there[stage])


def file_of(folder: Path, name: str, allowed: set[str]) -> Path:
    """Return a file of a folder that is on a list, and lies where its name says.

    Raises:
        NotFoundError: it is not on the list, missing, or a link that leads out of the folder.
    """
    if name in allowed:
        root = folder.resolve()
        file = (root / name).resolve()
        if file.is_relative_to(root) and file.is_file():
            return file
    raise NotFoundError(f"there is no file {name[:100]!r}", f"there are {', '.join(sorted(allowed)[:20]) or 'none'}")


def final_stage(record: RunRecord) -> str | None:
    """Return the stage of what ships, None where it is not known yet."""
    try:
        final = report_of(record).final
    except LessenError:
        return None
    return final.stage if final else None
