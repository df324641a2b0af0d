"""A zip that is sent while it is made: at most one chunk of a file is in memory."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK_BYTES = 1 << 18
DENSE = (".safetensors", ".onnx", ".bin", ".png")  # weights deflate by a tenth: not worth the time


@dataclass(frozen=True)
class Entry:
    """A file, or its content, and its name within the zip."""

    file: Path | bytes
    name: str


class _Outbox(io.RawIOBase):
    """What was written and not yet sent; it cannot be sought, so that sizes follow the data."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raw = bytes(data)  # type: ignore[call-overload]
        self._parts.append(raw)
        return len(raw)

    def take(self) -> bytes:
        """Return what waits, and forget it."""
        out, self._parts = b"".join(self._parts), []
        return out


def zipped(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the bytes of a zip of files, a chunk at a time."""
    out = _Outbox()
    with zipfile.ZipFile(out, "w", allowZip64=True) as archive:
        for entry in entries:
            if isinstance(entry.file, bytes):
                archive.writestr(entry.name, entry.file, zipfile.ZIP_DEFLATED)
                continue
            stat = entry.file.stat()
            info = zipfile.ZipInfo(entry.name, time.gmtime(max(stat.st_mtime, 315532800))[:6])
            dense = entry.file.suffix.lower() in DENSE
            info.compress_type = zipfile.ZIP_STORED if dense else zipfile.ZIP_DEFLATED
            info.file_size = stat.st_size
            info.external_attr = 0o644 << 16
            with entry.file.open("rb") as source, archive.open(info, "w", force_zip64=stat.st_size > 1 << 31) as target:
                while chunk := source.read(CHUNK_BYTES):
                    target.write(chunk)
                    if ready := out.take():
                        yield ready
    if ready := out.take():
        yield ready
