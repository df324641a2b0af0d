"""Take the files of a multipart form as they come: straight to the disk, counted, and not for ever.

Nothing is believed of what a part says of itself: its name is kept for messages alone, and never becomes a path.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from lessen.errors import ResourceError
from lessen.server.problems import RequestError, clean

MAX_PARTS = 8
MAX_FIELD_BYTES = 64 << 10  # of parts that are no files, together
MAX_HEADER_BYTES = 8 << 10  # of a part
WRITE_BYTES = 1 << 20
STALL_S = 60.0  # without a byte
SPARE_BYTES = 256 << 20  # that must stay free on the disk
FIELD = "file"


@dataclass
class Part:
    """A file of the form.

    Attributes:
        name: as the sender calls it, without folders.
        path: where its bytes lie.
    """

    name: str
    path: Path
    bytes: int = 0


@dataclass
class _Form:
    """What the parser has seen; files are written by `flush`."""

    folder: Path
    limit: int
    parts: list[Part] = field(default_factory=list)
    seen: int = 0
    fields: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    header: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    header_bytes: int = 0
    waiting: list[tuple[Part, bytes]] = field(default_factory=list)
    waiting_bytes: int = 0
    current: Part | None = None
    total: int = 0
    ended: bool = False
    stream: tuple[Part, BinaryIO] | None = None

    def begin(self) -> None:
        """A part begins."""
        self.seen += 1
        if self.seen > MAX_PARTS:
            raise RequestError(413, f"the form has more than {MAX_PARTS} parts", "send fewer files", exit_code=7)
        self.headers, self.header, self.header_bytes, self.current = {}, (bytearray(), bytearray()), 0, None

    def name(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._count(end - start)
        self.header[0].extend(data[start:end])

    def value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._count(end - start)
        self.header[1].extend(data[start:end])

    def _count(self, size: int) -> None:
        self.header_bytes += size
        if self.header_bytes > MAX_HEADER_BYTES:
            raise RequestError(400, f"a part's headers are longer than {MAX_HEADER_BYTES} bytes")

    def keep(self) -> None:
        """A header ended."""
        self.headers[bytes(self.header[0]).lower()] = bytes(self.header[1])
        self.header = (bytearray(), bytearray())

    def open(self) -> None:
        """A part's headers ended: a file, or something else, which is counted and dropped."""
        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        named = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options and named == FIELD:
            name = clean(options[b"filename"].decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2])[:200]
            if name:
                self.current = Part(name, self.folder / str(len(self.parts)))
                self.parts.append(self.current)
                self.waiting.append((self.current, b""))

    def data(self, data: bytes, start: int, end: int) -> None:
        """A piece of a part."""
        size = end - start
        if self.current is None:
            self.fields += size
            if self.fields > MAX_FIELD_BYTES:
                raise RequestError(413, f"the form's other fields are longer than {MAX_FIELD_BYTES} bytes", exit_code=7)
            return
        self.total += size
        if self.total > self.limit:
            raise RequestError(413, f"the files are longer than {self.limit} bytes", "send less", exit_code=7)
        self.current.bytes += size
        self.waiting.append((self.current, data[start:end]))
        self.waiting_bytes += size

    def end(self) -> None:
        """The form ended."""
        self.ended = True

    def flush(self) -> None:
        """Write what waits. Runs in a thread."""
        waiting, self.waiting, self.waiting_bytes = self.waiting, [], 0
        for part, data in waiting:
            if self.stream is None or self.stream[0] is not part:
                self.close()
                self.stream = (part, part.path.open("xb"))
            self.stream[1].write(data)

    def close(self) -> None:
        """Close the file that is being written."""
        if self.stream is not None:
            self.stream[1].close()
            self.stream = None


async def receive(request: Request, folder: Path, limit: int) -> list[Part]:
    """Write the files named `file` of a multipart form into a folder, under numbers.

    Args:
        folder: exists, and is the caller's to remove.
        limit: bytes of all files together.

    Raises:
        RequestError: no form (415), no file (400), too much (413), too slow (408), or a form that is no form (400).
        ResourceError: the disk has no room for it.
    """
    boundary = _boundary(request)
    room(folder, min(limit, int(request.headers.get("content-length") or 0)))
    form = _Form(folder, limit)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": form.begin, "on_header_field": form.name, "on_header_value": form.value,
            "on_header_end": form.keep, "on_headers_finished": form.open, "on_part_data": form.data,
            "on_end": form.end,
        },
    )  # fmt: skip
    try:
        async for chunk in _steadily(request):
            parser.write(chunk)
            if form.waiting_bytes >= WRITE_BYTES:
                await run_in_threadpool(form.flush)
        await run_in_threadpool(form.flush)
    except FormParserError as error:
        raise RequestError(
            400, f"the form cannot be read: {clean(str(error))[:200]}", "send multipart/form-data"
        ) from None
    except ClientDisconnect:
        raise RequestError(400, "the connection ended before the form did") from None
    finally:
        await run_in_threadpool(form.close)
    if not form.ended:
        raise RequestError(400, "the form is cut short", "send it again")
    if not form.parts:
        raise RequestError(400, "No file part in the request", f"send the file as the part named {FIELD!r}")
    return form.parts


def room(folder: Path, wanted: int) -> None:
    """Refuse what the disk has no room for.

    Raises:
        ResourceError: fewer bytes are free than wanted, with some to spare.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted + SPARE_BYTES:
        raise ResourceError(
            f"{free} bytes are free, the upload needs {wanted} and {SPARE_BYTES} to spare", "free some space",
            kind="disk_full",
        )  # fmt: skip


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 200:
        raise RequestError(415, "the body is not multipart/form-data", f"send the file as the part named {FIELD!r}")
    return boundary


async def _steadily(request: Request) -> AsyncIterator[bytes]:
    """Yield the body; who sends nothing for a minute is cut off."""
    stream = request.stream()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), STALL_S)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RequestError(408, f"nothing came for {STALL_S:g} s", "send it again") from None
        if chunk:
            yield chunk
