"""Steps from each version of the tables to the next: forward only, all or none, with a copy of the file beside it.

A change of lessen.store.tables adds a step here. A step is written once and never changed, since it works on the tables
as they were then; tests/store/v1.sql is a store from before the first one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from lessen.errors import ArtifactError, ResourceError

REBUILT = "is made again from the folders of the runs (docs/server.md)"
STEPS: tuple[Sequence[str], ...] = (
    ("ALTER TABLE runs ADD COLUMN disk_bytes INTEGER",),  # 1 -> 2
)
VERSION = 1 + len(STEPS)


def migrate(path: Path, steps: Sequence[Sequence[str]] = STEPS) -> Path | None:
    """Bring the tables of a store to the version of this program; one that has no tables yet stays as it is.

    Args:
        path: the file; made when absent.
        steps: SQL statements; those at i lead from version i + 1 to i + 2.

    Returns:
        The copy of the file as it was, `store-v1.sqlite` beside it; None where nothing was to be done.

    Raises:
        ArtifactError: a newer version wrote the store, it is no store, or a step failed; it is as it was.
        ResourceError: there is no room for the copy or for the step.
    """
    newest, copy = 1 + len(steps), None
    try:
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
            version = _version(db, path, newest)
            if version in (0, newest):
                return None
            copy = _copy(db, path, version)
            db.execute("BEGIN IMMEDIATE")  # a step that fails takes all of them back when this connection closes
            for step in steps[_version(db, path, newest) - 1 :]:  # asked again: another process may have been first
                for statement in step:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {newest}")
            db.execute("COMMIT")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            raise ResourceError(
                f"no room on the disk to bring {path} to version {newest}", "free some space"
            ) from error
        hint = f"move it away: it {REBUILT}"
        if copy is not None:
            hint = f"it is as it was, and a copy is {copy}; go back to the lessen that wrote it, or {hint}"
        raise ArtifactError(f"{path} cannot be brought to version {newest}: {error}", hint) from error
    return copy


def _version(db: sqlite3.Connection, path: Path, newest: int) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > newest:
        raise ArtifactError(
            f"{path} has schema {version}, this version knows {newest}",
            f"upgrade lessen, or move it away: it {REBUILT}",
        )
    return version


def _copy(db: sqlite3.Connection, path: Path, version: int) -> Path:
    copy = path.with_name(f"{path.stem}-v{version}{path.suffix}")
    partial = copy.with_name(copy.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        db.execute("VACUUM INTO ?", (str(partial),))
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(copy)
    finally:
        partial.unlink(missing_ok=True)
    return copy
