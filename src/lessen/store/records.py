"""What the store holds: runs and uploads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lessen.folder import now


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run as the store knows it. Times are ISO 8601 (UTC), or seconds since 1970 where they are numbers."""

    run_id: str
    folder: Path
    name: str
    task: str
    pipeline: str
    state: str
    recipe: dict[str, Any]
    origin: str = "server"  # or cli
    model_name: str | None = None  # as the predecessors call it
    attempt: int = 0
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    started: str | None = None
    finished: str | None = None
    updated: str = field(default_factory=now)
    error: dict[str, Any] | None = None  # message, hint, exit_code; of a dead worker also signal and stderr
    summary: dict[str, Any] = field(default_factory=dict)
    worker_pid: int | None = None
    worker_started: str | float | None = None  # jobs.tree.Identity: another with its number is not mistaken for it
    lease_until: float | None = None
    seq: int = 0  # of the last event that came in
    offset: int = 0  # bytes of events.jsonl that came in
    queued_at: float | None = None
    deleted_at: float | None = None
    disk_bytes: int | None = None  # of the folder's files when the run ended


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that somebody handed in, checked and kept."""

    upload_id: str
    kind: str  # table, images, model
    name: str  # as it was called
    path: str  # where it lies, relative to the root
    bytes: int
    created: str = field(default_factory=now)
    facts: dict[str, Any] = field(default_factory=dict)
