"""The server's index of runs, events and uploads: one SQLite file beside the runs.

The truth lies in the folders of the runs; this file can be made again from them, except for the queue and the uploads.
Lines of events.jsonl come in together with the offset that they were read up to, in one transaction, so that none is
lost or doubled whenever the process dies. Listing never reads histories: what a table shows stands in `runs`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.engine import Connection, RowMapping

from lessen.errors import NotFoundError, ResourceError
from lessen.events import ACTIVE
from lessen.folder import now
from lessen.store.curves import Curves, Histories, History
from lessen.store.migrations import VERSION, migrate
from lessen.store.records import RunRecord, Upload
from lessen.store.tables import EVENTS, RUNS, SCHEMA, UPLOADS

FOLDER = ".lessen"
FILE = "store.sqlite"
PAGE = 1000  # lines read at once
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "fuse.gcsfuse", "fuse.s3fs"}  # no WAL there


class Store:
    """Runs, events and uploads under a root folder; safe to use from several threads.

    Args:
        root: the folder of the runs; made when absent.

    Raises:
        ArtifactError: the store was written by a newer version, or is damaged.
        ResourceError: the root lies on a network file system, which cannot hold it, or the disk is full.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.path = self.root / FOLDER / FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_network(self.path.parent)
        self._engine = sql.create_engine(f"sqlite:///{self.path}", connect_args={"timeout": 30})
        sql.event.listen(self._engine, "connect", _configure)
        self._writing = threading.RLock()  # SQLite has one writer; waiting here is fairer than its busy handler
        self._histories = Histories()
        self._prepare()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _prepare(self) -> None:
        migrate(self.path)
        with self._writing, self._engine.connect() as db:
            db.exec_driver_sql("BEGIN IMMEDIATE")
            SCHEMA.create_all(db)
            db.exec_driver_sql(f"PRAGMA user_version = {VERSION}")
            db.commit()

    # runs

    def add(self, record: RunRecord) -> RunRecord:
        """Add a run."""
        with self._writing, self._engine.begin() as db:
            db.execute(sql.insert(RUNS).values(self._row(asdict(record))))
        return record

    def get(self, run_id: str) -> RunRecord | None:
        """Return a run, None where there is none."""
        with self._engine.connect() as db:
            row = db.execute(sql.select(RUNS).where(RUNS.c.run_id == run_id)).mappings().first()
        return self._record(row) if row else None

    def need(self, run_id: str | None = None) -> RunRecord:
        """Return a run; the one created last that is not deleted, without an id or for "latest".

        Raises:
            NotFoundError: there is none.
        """
        if run_id not in (None, "", "latest"):
            found = self.get(str(run_id))
            if found is None:
                raise NotFoundError(f"there is no run {run_id!r}", "see the list of runs")
            return found
        latest, _ = self.list(limit=1)
        if not latest:
            raise NotFoundError("there is no run yet", "start one: POST /train, or `lessen demo`")
        return latest[0]

    def list(
        self, states: Iterable[str] | None = None, search: str = "", limit: int = 50, offset: int = 0,
        sort: str = "-created", deleted: bool = False,
    ) -> tuple[Sequence[RunRecord], int]:  # fmt: skip
        """Return runs and how many there are in all.

        Args:
            search: what the id, the name, the task, the pipeline or the model's name contains, in any case.
            sort: a column, with "-" before it: the largest first.
        """
        wanted: Any = [RUNS.c.deleted_at.is_not(None) if deleted else RUNS.c.deleted_at.is_(None)]
        if states is not None:
            wanted.append(RUNS.c.state.in_(list(states)))
        if search:
            places = (
                RUNS.c.run_id,
                RUNS.c.name,
                RUNS.c.task,
                RUNS.c.pipeline,
                RUNS.c.model_name,
            )
            wanted.append(sql.or_(*(place.icontains(search, autoescape=True) for place in places)))
        column = RUNS.c.get(sort.lstrip("-"), RUNS.c.created)
        order = (column.desc(), RUNS.c.run_id.desc()) if sort.startswith("-") else (column, RUNS.c.run_id)
        with self._engine.connect() as db:
            total = db.execute(sql.select(sql.func.count()).select_from(RUNS).where(*wanted)).scalar_one()
            rows = db.execute(sql.select(RUNS).where(*wanted).order_by(*order).limit(limit).offset(offset))
            return [self._record(row) for row in rows.mappings()], int(total)

    def update(self, run_id: str, **columns: Any) -> RunRecord:
        """Change columns of a run and return it.

        Raises:
            NotFoundError: there is no such run.
        """
        return self._change(run_id, columns, durable=False)

    def set_state(self, run_id: str, state: str, **columns: Any) -> RunRecord:
        """Change the state of a run; it is on the disk when this returns."""
        return self._change(run_id, {"state": state, **columns}, durable=True)

    def _change(self, run_id: str, columns: dict[str, Any], *, durable: bool) -> RunRecord:
        values = self._row({**columns, "updated": now()})
        with self._writing, self._engine.connect() as db:
            _sync(db, full=durable)
            done = db.execute(sql.update(RUNS).where(RUNS.c.run_id == run_id).values(values))
            db.commit()
            _sync(db, full=False)
        if done.rowcount == 0:
            raise NotFoundError(f"there is no run {run_id!r}", "see the list of runs")
        return self.need(run_id)

    def forget(self, run_id: str) -> None:
        """Remove a run and its events from the index; its folder stays."""
        with self._writing, self._engine.begin() as db:
            db.execute(sql.delete(EVENTS).where(EVENTS.c.run_id == run_id))
            db.execute(sql.delete(RUNS).where(RUNS.c.run_id == run_id))
        self._histories.forget(run_id)

    def queue(self) -> Sequence[RunRecord]:
        """Return the runs that wait, first come first."""
        return self._where(RUNS.c.state == "queued", RUNS.c.deleted_at.is_(None), order=RUNS.c.queued_at)

    def active(self) -> Sequence[RunRecord]:
        """Return the runs that have a process, or should have one."""
        return self._where(RUNS.c.state.in_(sorted(ACTIVE)), order=RUNS.c.created)

    def _where(self, *conditions: Any, order: Any) -> Sequence[RunRecord]:
        with self._engine.connect() as db:
            rows = db.execute(sql.select(RUNS).where(*conditions).order_by(order, RUNS.c.run_id))
            return [self._record(row) for row in rows.mappings()]

    def counts(self) -> dict[str, int]:
        """Return how many runs are in each state."""
        query = sql.select(RUNS.c.state, sql.func.count()).where(RUNS.c.deleted_at.is_(None)).group_by(RUNS.c.state)
        with self._engine.connect() as db:
            return {str(state): int(n) for state, n in db.execute(query)}

    def _row(self, values: dict[str, Any]) -> dict[str, Any]:
        folder = values.get("folder")
        if folder is None:
            return values
        path = Path(folder).absolute()
        return values | {"folder": str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)}

    def _record(self, row: RowMapping) -> RunRecord:
        return RunRecord(**{**row, "folder": self.root / row["folder"]})

    # events

    def ingest(self, run_id: str, lines: Sequence[dict[str, Any]], offset: int) -> Sequence[dict[str, Any]]:
        """Take in lines of events.jsonl together with the offset after them; return those that were new."""
        with self._writing, self._engine.begin() as db:
            last = db.execute(sql.select(RUNS.c.seq).where(RUNS.c.run_id == run_id)).scalar_one_or_none()
            if last is None:
                raise NotFoundError(f"there is no run {run_id!r}", "see the list of runs")
            new = [line for line in lines if line["seq"] > last]
            if new:
                db.execute(sql.insert(EVENTS), [_event_row(run_id, line) for line in new])
                last, attempt = new[-1]["seq"], new[-1].get("attempt", 1)
                values = {"seq": last, "offset": offset, "attempt": attempt, "updated": now()}
            else:
                values = {"offset": offset}
            db.execute(sql.update(RUNS).where(RUNS.c.run_id == run_id).values(values))
        return new

    def events(
        self, run_id: str, after: int = 0, limit: int = 1000, kinds: Iterable[str] | None = None,
        stage: str | None = None, level: str | None = None, last_attempt: bool = False,
    ) -> Sequence[dict[str, Any]]:  # fmt: skip
        """Return the lines with a seq above `after`, in order."""
        query = sql.select(EVENTS.c.line).where(EVENTS.c.run_id == run_id, EVENTS.c.seq > after)
        if kinds is not None:
            query = query.where(EVENTS.c.kind.in_(list(kinds)))
        if stage is not None:
            query = query.where(EVENTS.c.stage == stage)
        if level is not None:
            query = query.where(EVENTS.c.level == level)
        if last_attempt:
            newest = sql.select(sql.func.max(EVENTS.c.attempt)).where(EVENTS.c.run_id == run_id).scalar_subquery()
            query = query.where(EVENTS.c.attempt == newest)
        with self._engine.connect() as db:
            return [json.loads(line) for line in db.execute(query.order_by(EVENTS.c.seq).limit(limit)).scalars()]

    def series(
        self, run_id: str, keys: Sequence[str], points: int = 1000, step_from: int | None = None,
        step_to: int | None = None, stage: str | None = None, attempt: int | None = None,
    ) -> Curves:  # fmt: skip
        """Return values over steps: stage -> key -> [[step, value], ...], thinned so that spikes stay.

        Args:
            keys: `loss`, or a name among the values of Progress.
            points: of each curve at most.
            step_from, step_to: of these steps and those between alone; which attempt wins does not depend on them.
            attempt: of this attempt alone; else the newest attempt that reached a step wins there.
        """
        history = self._histories.of(run_id, attempt)
        with history.lock:
            self._read_on(history, run_id, attempt)
            drawn = history.draw(keys, points, step_from, step_to, stage)
            self._histories.drawn(run_id, attempt, history)
        return drawn

    def _read_on(self, history: History, run_id: str, attempt: int | None) -> None:
        """Feed a history the Progress lines that it has not seen, a page at a time."""
        query = sql.select(EVENTS.c.line).where(EVENTS.c.run_id == run_id, EVENTS.c.kind == "Progress")
        if attempt is not None:
            query = query.where(EVENTS.c.attempt == attempt)
        query = query.order_by(EVENTS.c.seq).limit(PAGE)
        while True:
            with self._engine.connect() as db:
                lines = db.execute(query.where(EVENTS.c.seq > history.seq)).scalars().all()
            for line in lines:
                history.feed(json.loads(line))
            if len(lines) < PAGE:
                return

    # uploads

    def add_upload(self, upload: Upload) -> Upload:
        """Add an upload."""
        with self._writing, self._engine.begin() as db:
            db.execute(sql.insert(UPLOADS).values(asdict(upload)))
        return upload

    def get_upload(self, upload_id: str) -> Upload | None:
        """Return an upload, None where there is none."""
        with self._engine.connect() as db:
            row = db.execute(sql.select(UPLOADS).where(UPLOADS.c.upload_id == upload_id)).mappings().first()
        return Upload(**row) if row else None

    def uploads(self) -> Sequence[Upload]:
        """Return the uploads, newest first."""
        with self._engine.connect() as db:
            rows = db.execute(sql.select(UPLOADS).order_by(UPLOADS.c.created.desc(), UPLOADS.c.upload_id))
            return [Upload(**row) for row in rows.mappings()]

    def delete_upload(self, upload_id: str) -> None:
        """Remove an upload from the index; its files stay."""
        with self._writing, self._engine.begin() as db:
            db.execute(sql.delete(UPLOADS).where(UPLOADS.c.upload_id == upload_id))


def _event_row(run_id: str, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "seq": line["seq"],
        "attempt": line.get("attempt", 1),
        "kind": line["kind"],
        "stage": line.get("stage"),
        "level": line.get("level"),
        "step": line.get("step"),
        "line": json.dumps(line, ensure_ascii=False),
    }


def _configure(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "busy_timeout = 30000", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _sync(db: Connection, *, full: bool) -> None:
    """Say whether a commit waits for the disk; not within a transaction."""
    raw: Any = db.connection.driver_connection
    raw.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")


def _refuse_network(folder: Path) -> None:
    import psutil

    here = str(folder)
    mounts = [
        p
        for p in psutil.disk_partitions(all=True)
        if here == p.mountpoint or here.startswith(f"{p.mountpoint.rstrip('/')}/")
    ]
    nearest = max(mounts, key=lambda p: len(p.mountpoint), default=None)
    if nearest is not None and nearest.fstype.lower() in NETWORK:
        raise ResourceError(
            f"{folder} lies on a network file system ({nearest.fstype}), where SQLite's log is not safe",
            "choose a folder on a local disk: --runs DIR",
        )
