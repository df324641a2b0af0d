"""events.jsonl: the append-only truth of what happened in a run, one JSON object a line.

A line holds `seq` (1, 2, 3 ... without a gap, over all attempts), `attempt`, `ts` (seconds since 1970, to the
millisecond), `time` (the same, ISO 8601, UTC), `kind` and the fields of the event. Only whoever holds the folder's lock
writes; anybody may read. A line counts once its newline is there, so that a process that dies while it writes loses at
most that line, and the next writer cuts it off.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from lessen.events import Event

CHUNK_BYTES = 1 << 20  # read at once


class NotRecorded(OSError):
    """An event that could not be written: the record of a run has no gaps, so the run ends."""


class EventLog:
    """Appends events to a file.

    Args:
        path: the file; made when absent. A torn last line is cut off.
        attempt: of the run, from 1; one more than the last line's when absent.
    """

    def __init__(self, path: Path, attempt: int | None = None) -> None:
        self._file = path.open("ab", buffering=0)  # nothing of a line that failed is left to be written later
        try:
            seq, last = _mend(path)
        except BaseException:
            self._file.close()
            raise
        self.seq = seq
        self.attempt = attempt or last + 1

    def append(self, event: Event) -> dict[str, Any]:
        """Write an event and return its line as a mapping.

        Raises:
            NotRecorded: the disk is full; what was written of the line is taken back.
        """
        now = datetime.now(UTC)
        line = {
            "seq": self.seq + 1,
            "attempt": self.attempt,
            "ts": round(now.timestamp(), 3),
            "time": now.isoformat(timespec="milliseconds"),
            **event.as_dict(),
        }
        text = json.dumps(finite(line), ensure_ascii=False, default=str, allow_nan=False) + "\n"
        raw = text.encode(errors="replace")  # half a character, as in a file name of another encoding, is a ?
        end = self._file.seek(0, os.SEEK_END)
        try:
            while raw:
                raw = raw[self._file.write(raw) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), end)
            raise NotRecorded(error.errno, error.strerror, self._file.name) from error
        self.seq += 1
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_new(path: Path, offset: int = 0, seq: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the complete lines from a byte offset on, and the offset after them.

    Args:
        seq: of the last line before `offset`; lines of older versions, which carry none, are counted on from it.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            raw = stream.read(CHUNK_BYTES)
            while b"\n" not in raw and (more := stream.read(CHUNK_BYTES)):
                raw += more
    except FileNotFoundError:
        return [], offset
    end = raw.rfind(b"\n") + 1
    lines = []
    for text in raw[:end].splitlines():
        line = _parsed(text)
        if line is not None:
            seq = line["seq"] = int(line.get("seq", seq + 1))
            lines.append(_dated(line))
    return lines, offset + end


def _parsed(text: bytes) -> dict[str, Any] | None:
    """Return a line as a mapping; None where it is damaged (a disk that lost a block, a hand that edited it)."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "kind" in line else None


def _dated(line: dict[str, Any]) -> dict[str, Any]:
    """Fill in what lines of older versions lack."""
    line.setdefault("attempt", 1)
    if "ts" not in line:
        line["ts"] = datetime.fromisoformat(line["time"]).timestamp() if "time" in line else 0.0
    return line


def _mend(path: Path) -> tuple[int, int]:
    """Cut off a torn last line; return the last line's seq and attempt, or 0 and 0."""
    seq = attempt = offset = 0
    while True:
        lines, after = read_new(path, offset, seq)
        if lines:
            seq, attempt = lines[-1]["seq"], lines[-1]["attempt"]
        if after == offset:
            break
        offset = after
    if path.stat().st_size > offset:
        os.truncate(path, offset)
    return seq, attempt


def finite(value: Any) -> Any:
    """Return the value with null for numbers that JSON has no word for."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return value
