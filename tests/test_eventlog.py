"""The event log: complete lines, in order, whatever dies."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lessen.eventlog import EventLog, read_new
from lessen.events import Log, Progress


def say(text: str) -> Log:
    return Log(stage="teacher", message=text)


def test_lines_are_numbered_over_attempts(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for attempt in (1, 2):
        with EventLog(path) as log:
            for text in ("a", "b"):
                log.append(say(f"{attempt}{text}"))
    lines, offset = read_new(path)
    assert [(x["seq"], x["attempt"], x["message"]) for x in lines] == [
        (1, 1, "1a"), (2, 1, "1b"), (3, 2, "2a"), (4, 2, "2b"),
    ]  # fmt: skip
    assert offset == path.stat().st_size


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 400))
def test_a_line_torn_anywhere_is_cut_off_and_its_number_used_again(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    with EventLog(path) as log:
        for text in ("one", "zwei ä", "three"):
            log.append(say(text))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) - min(cut, len(raw))])
    kept, offset = read_new(path)
    with EventLog(path, 2) as log:
        log.append(say("after"))
    lines, _ = read_new(path)
    assert [x["seq"] for x in lines] == list(range(1, len(kept) + 2))
    assert lines[-1]["message"] == "after"
    more, _ = read_new(path, offset, len(kept))
    assert [x["message"] for x in more] == ["after"]


def test_reading_goes_on_where_it_stopped_and_leaves_a_half_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.append(say("one"))
        first, offset = read_new(path)
        log.append(say("two"))
        with path.open("ab") as stream:
            stream.write(b'{"seq": 3, "kind": "Lo')
        second, after = read_new(path, offset)
    assert [x["message"] for x in first + second] == ["one", "two"]
    assert read_new(path, after) == ([], after)


def test_numbers_that_json_cannot_say_are_null(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.append(Progress(stage="s", step=1, total_steps=2, loss=float("nan"), values={"lr": float("inf")}))
    line = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in the file"))
    assert (line["loss"], line["values"]) == (None, {"lr": None})


def test_lines_of_older_versions_are_numbered_by_their_place(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    old = {"time": "2026-11-01T10:00:00+00:00", "kind": "Log", "stage": "s", "message": "m", "level": "info"}
    path.write_text((json.dumps(old) + "\n") * 2)
    lines, offset = read_new(path)
    assert [x["seq"] for x in lines] == [1, 2]
    assert lines[0]["ts"] == 1793527200.0
    with EventLog(path) as log:
        log.append(say("new"))
    assert [x["seq"] for x in read_new(path, offset, 2)[0]] == [3]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    import resource
    import subprocess
    import sys

    path = tmp_path / "events.jsonl"
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from lessen.eventlog import EventLog\n"
        "from lessen.events import Log\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))\n"
        "log = EventLog(Path(sys.argv[1]))\n"
        "try:\n"
        "    for n in range(100): log.append(Log(stage='s', message='x' * 40))\n"
        "except OSError: print(n)\n"
    )
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    lines, offset = read_new(path)
    assert len(lines) == int(done.stdout) > 0
    assert offset == os.path.getsize(path)
