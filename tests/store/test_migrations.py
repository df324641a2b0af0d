"""A store of an older version is brought forward, with a copy of it beside; one of a newer version is let alone."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lessen.errors import ArtifactError, ResourceError
from lessen.store import Store, migrations
from lessen.store.migrations import STEPS, VERSION, migrate

OLD = Path(__file__).parent / "v1.sql"


def ask(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchall()


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return [*db.iterdump(), str(db.execute("PRAGMA user_version").fetchone())]


def shape(path: Path) -> Any:
    tables = [name for (name,) in ask(path, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    kinds = {name: sorted(row[1:] for row in ask(path, f"PRAGMA table_info({name})")) for name in tables}
    return kinds, sorted(ask(path, "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The file of a store of version 1."""
    path = tmp_path / ".lessen" / "store.sqlite"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.executescript(OLD.read_text(encoding="utf-8"))
    return path


def test_an_old_store_keeps_what_it_holds(old: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    done = store.need("20260102-030405-aaaa")
    assert (done.folder, done.state, done.seq, done.offset) == (tmp_path / "reviews", "succeeded", 3, 400)
    assert (done.summary["score"], done.disk_bytes) == (0.875, None)
    assert [line["seq"] for line in store.events(done.run_id)] == [1, 2, 3]
    assert store.events(done.run_id, kinds=["Log"])[0]["message"] == "it's “slow”"
    assert store.series(done.run_id, ["loss"]) == {"teacher": {"loss": [[1, 0.75]]}}
    assert [r.run_id for r in store.list(deleted=True)[0]] == ["20260103-000000-bbbb"]
    assert [upload.facts for upload in store.uploads()] == [{"rows": 2}]
    assert store.update(done.run_id, disk_bytes=7).disk_bytes == 7
    store.close()


def test_an_old_store_gets_the_tables_that_a_new_one_has(old: Path, tmp_path: Path) -> None:
    Store(tmp_path).close()
    Store(tmp_path / "new").close()
    new = tmp_path / "new" / ".lessen" / "store.sqlite"
    assert shape(old) == shape(new)
    assert ask(old, "PRAGMA user_version") == ask(new, "PRAGMA user_version") == [(VERSION,)]
    assert sorted(os.listdir(new.parent)) == ["store.sqlite"]  # nothing was there to be copied


def test_a_copy_of_the_old_store_stays_beside_it_and_is_made_once(old: Path, tmp_path: Path) -> None:
    before = dump(old)
    Store(tmp_path).close()
    copy = old.with_name("store-v1.sqlite")
    assert dump(copy) == before
    copy.unlink()
    Store(tmp_path).close()
    assert not copy.exists()


def test_what_is_still_in_the_log_of_an_old_store_is_in_the_copy(old: Path) -> None:
    with closing(sqlite3.connect(old)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("DELETE FROM uploads")
        other.commit()
        copy = migrate(old)
    assert copy is not None
    assert ask(copy, "SELECT * FROM uploads") == []


def test_a_step_that_fails_changes_nothing(old: Path) -> None:
    before = dump(old)
    with pytest.raises(ArtifactError, match="version 3: no such table: nowhere") as caught:
        migrate(old, [*STEPS[:1], ["ALTER TABLE runs ADD COLUMN more INTEGER", "DROP TABLE nowhere"]])
    assert "store-v1.sqlite" in caught.value.hint
    assert dump(old) == before


def test_no_room_for_the_copy_changes_nothing(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(db: sqlite3.Connection, *_: Any) -> Path:
        db.execute("PRAGMA temp.max_page_count = 1")
        db.execute("CREATE TEMP TABLE big AS SELECT randomblob(100000)")
        raise AssertionError("the disk was not full")

    before = dump(old)
    monkeypatch.setattr(migrations, "_copy", full)
    with pytest.raises(ResourceError, match="no room"):
        migrate(old)
    assert dump(old) == before


def test_a_damaged_store_is_named(old: Path, tmp_path: Path) -> None:
    old.write_bytes(b"nothing that SQLite wrote" * 99)
    with pytest.raises(ArtifactError, match="not a database") as caught:
        Store(tmp_path)
    assert "made again from the folders" in caught.value.hint


def test_a_newer_store_is_let_alone(old: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(old)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = old.read_bytes()
    with pytest.raises(ArtifactError, match=f"schema {VERSION + 1}"):
        Store(tmp_path)
    assert old.read_bytes() == before
