"""Answers by gzip: the page's files, packed once and kept, and the few long answers of the API that hold no secret.

A packed answer tells its length. Where text of a stranger and a secret share one answer, that length gives the secret
away bit by bit (BREACH). So the API's answers are packed by a list of addresses, none of which speaks of tokens.
"""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

LEAST_BYTES = 1000  # a shorter answer is one packet either way
FAST = 4  # the API's answers are packed anew each time, and the loop waits for those below 128 KiB
WORTH = (".css", ".html", ".js", ".json", ".svg", ".txt")
_PLAIN = re.compile(
    r"/openapi\.json|/api/v1/(compare|presets|recipes/schema|runs/[^/]+/(report|series|layers|predictions))"
)
_NEVER = re.compile(r"0(\.0*)?")


def takes_gzip(headers: Headers) -> bool:
    """Return whether a client can unpack gzip: it, or anything, is named and not ruled out by q=0."""
    weights: dict[str, str] = {}
    for part in ",".join(headers.getlist("accept-encoding")).lower().split(","):
        name, _, rest = part.partition(";")
        weights[name.strip()] = rest.replace(" ", "").removeprefix("q=") or "1"
    weight = weights.get("gzip", weights.get("*", "0"))
    return _NEVER.fullmatch(weight) is None


class Packed(StaticFiles):
    """Static files; those that are text go out packed, from memory, as long as the file on disk is the same."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._kept: dict[str, tuple[tuple[int, int], bytes]] = {}

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a file, packed where the client takes that and asks for all of it."""
        headers = Headers(scope=scope)
        plain = FileResponse(full_path, status_code=status_code, stat_result=stat_result)
        if not str(full_path).endswith(WORTH) or stat_result.st_size < LEAST_BYTES:
            return NotModifiedResponse(plain.headers) if self.is_not_modified(plain.headers, headers) else plain
        packed = takes_gzip(headers) and "range" not in headers
        plain.headers["vary"] = "Accept-Encoding"
        if packed:  # another text on the wire, so another name for it
            plain.headers["etag"] = plain.headers["etag"].removesuffix('"') + '-gzip"'
        if self.is_not_modified(plain.headers, headers):
            return NotModifiedResponse(plain.headers)
        if not packed:
            return plain
        body = self._packed(str(full_path), stat_result)
        known = {name: plain.headers[name] for name in ("content-type", "last-modified", "etag", "vary")}
        return Response(body, status_code, headers=known | {"content-encoding": "gzip"})

    def _packed(self, path: str, found: os.stat_result) -> bytes:
        version = (found.st_mtime_ns, found.st_size)
        kept = self._kept.get(path)
        if kept is None or kept[0] != version:
            kept = self._kept[path] = (version, gzip.compress(Path(path).read_bytes(), 9, mtime=0))
        return kept[1]


class Compress:
    """Packs the long answers of the API that are on the list; everything else passes untouched, sockets too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._packing = GZipMiddleware(app, minimum_size=LEAST_BYTES, compresslevel=FAST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        fits = scope["type"] == "http" and scope["method"] == "GET" and _PLAIN.fullmatch(scope["path"])
        await (self._packing if fits and takes_gzip(Headers(scope=scope)) else self.app)(scope, receive, send)
