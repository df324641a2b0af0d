"""Following a file that others write: nothing twice, nothing of another run."""

from __future__ import annotations

import pytest

from jobs.place import recipe
from lessen.eventlog import EventLog
from lessen.events import Log
from lessen.folder import EVENTS, claim, prepare
from lessen.jobs import tail as tails
from lessen.store import RunRecord, Store


@pytest.fixture
def followed(tmp_path):
    """A store, a run's folder and its tail."""
    store, folder = Store(tmp_path), tmp_path / "one"
    prepare(folder, recipe("steps 1"), "one")
    store.add(RunRecord(run_id="one", folder=folder, name="one", task="t", pipeline="p", state="running", recipe={}))
    yield store, folder, tails.Tail(store, "one", folder)
    store.close()


def write(folder, *messages):
    with EventLog(folder / EVENTS) as events:
        for message in messages:
            events.append(Log(stage="run", message=message))


def said(store, run_id="one"):
    return [line["message"] for line in store.events(run_id)]


def test_lines_come_in_once_and_whole(followed):
    store, folder, tail = followed
    assert tail.poll() == []
    write(folder, "a", "b")
    with (folder / EVENTS).open("ab") as torn:
        torn.write(b'{"seq": 3, "kind": "Log", "mess')
    assert [line["message"] for line in tail.poll()] == ["a", "b"]
    assert tail.poll() == []
    write(folder, "c")  # cuts the torn line off
    assert [line["message"] for line in tail.poll()] == ["c"]
    assert [line["message"] for line in tails.Tail(store, "one", folder).poll()] == []
    assert said(store) == ["a", "b", "c"]


def test_a_file_that_was_copied_back_shorter_is_read_again_without_doubling(followed):
    store, folder, tail = followed
    write(folder, "a", "b")
    tail.poll()
    lines = (folder / EVENTS).read_bytes().splitlines(keepends=True)
    (folder / EVENTS).write_bytes(lines[0])
    assert tail.poll() == []
    (folder / EVENTS).write_bytes(b"".join(lines))
    write(folder, "c")
    tail.poll()
    assert said(store) == ["a", "b", "c"]


def test_a_folder_that_another_run_took_over_between_two_looks(followed, monkeypatch):
    store, folder, tail = followed
    write(folder, "a")
    tail.poll()
    real = tails.read_new

    def late(*args):
        """The other run comes exactly between the look at run.json and the reading."""
        monkeypatch.setattr(tails, "read_new", real)
        claim(folder, recipe("steps 2"), force=True)
        write(folder, "of another", "run", "which", "says", "more")
        return real(*args)

    write(folder, "b")
    monkeypatch.setattr(tails, "read_new", late)
    with pytest.raises(tails.Replaced):
        tail.poll()
    assert said(store) == ["a"]
    with pytest.raises(tails.Replaced):
        tail.poll()


def test_damaged_lines_cost_themselves_alone(followed):
    store, folder, tail = followed
    write(folder, "a")
    with (folder / EVENTS).open("ab") as file:
        file.write(b"not json\n")
    write(folder, "b")
    tail.poll()
    assert said(store) == ["a", "b"]
