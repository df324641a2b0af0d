"""The tables of the store as this version makes them. A change here needs a step in lessen.store.migrations."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql


class Birth(sql.types.UserDefinedType[Any]):
    """When a process began: a text (lessen.birth), or a number of older versions; SQLite holds both in its FLOAT."""

    cache_ok = True

    def get_col_spec(self, **more: Any) -> str:
        """Return what the column has been declared as since version 1."""
        return "FLOAT"


SCHEMA = sql.MetaData()
RUNS = sql.Table(
    "runs", SCHEMA,
    sql.Column("run_id", sql.String, primary_key=True),
    sql.Column("folder", sql.String, nullable=False),  # relative to the root where it lies below it
    sql.Column("name", sql.String, nullable=False),
    sql.Column("task", sql.String, nullable=False),
    sql.Column("pipeline", sql.String, nullable=False),
    sql.Column("state", sql.String, nullable=False, index=True),
    sql.Column("origin", sql.String, nullable=False),
    sql.Column("model_name", sql.String),
    sql.Column("recipe", sql.JSON, nullable=False),
    sql.Column("attempt", sql.Integer, nullable=False),
    sql.Column("created", sql.String, nullable=False, index=True),
    sql.Column("started", sql.String),
    sql.Column("finished", sql.String),
    sql.Column("updated", sql.String, nullable=False),
    sql.Column("error", sql.JSON(none_as_null=True)),
    sql.Column("summary", sql.JSON, nullable=False),
    sql.Column("worker_pid", sql.Integer),
    sql.Column("worker_started", Birth),  # lessen.jobs.tree.Identity
    sql.Column("lease_until", sql.Float),
    sql.Column("seq", sql.Integer, nullable=False),
    sql.Column("offset", sql.Integer, nullable=False),
    sql.Column("queued_at", sql.Float),
    sql.Column("deleted_at", sql.Float),
    sql.Column("disk_bytes", sql.Integer),
)  # fmt: skip
EVENTS = sql.Table(
    "events", SCHEMA,
    sql.Column("run_id", sql.String, primary_key=True),
    sql.Column("seq", sql.Integer, primary_key=True),
    sql.Column("attempt", sql.Integer, nullable=False),
    sql.Column("kind", sql.String, nullable=False),
    sql.Column("stage", sql.String),
    sql.Column("level", sql.String),
    sql.Column("step", sql.Integer),
    sql.Column("line", sql.Text, nullable=False),
    sql.Index("events_by_kind", "run_id", "kind", "seq"),
    sqlite_with_rowid=False,
)  # fmt: skip
UPLOADS = sql.Table(
    "uploads", SCHEMA,
    sql.Column("upload_id", sql.String, primary_key=True),
    sql.Column("kind", sql.String, nullable=False),
    sql.Column("name", sql.String, nullable=False),
    sql.Column("path", sql.String, nullable=False),
    sql.Column("bytes", sql.Integer, nullable=False),
    sql.Column("created", sql.String, nullable=False),
    sql.Column("facts", sql.JSON, nullable=False),
)  # fmt: skip
