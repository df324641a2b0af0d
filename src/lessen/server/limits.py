"""How much a request may bring, what its body may be, and how often one caller may ask."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lessen.errors import LessenError, RateError
from lessen.server.auth import SOCKETS, is_open
from lessen.server.problems import RequestError, refuse
from lessen.server.settings import MIB, Settings

UPLOADS = ("/upload", "/api/v1/uploads")
INPUTS = ("/api/v1/predictions",)
STARTS = re.compile(r"/train|/api/v1/runs(/[^/]+/resume)?")
JSON = re.compile(r"application/([\w.+-]+\+)?json", re.IGNORECASE)
STALL_S = 60.0  # for a body that is read whole
DEEPEST = 64  # lists within objects within lists
LARGEST = 1 << 63
CALLERS = 4096


class Bodies:
    """Refuses bodies that are too long (413), too slow (408), no JSON (415), or JSON that would harm (422).

    Python reads NaN, 1e400, half surrogate pairs and integers without end from JSON; none of them can be stored,
    compared or sent back, so that routes need not expect them.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose body is fit."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self.limit(scope["path"])
        try:
            told = _told(headers)
            if told is not None and told > limit:
                raise _too_long(limit)
            if told == 0 or (told is None and "transfer-encoding" not in headers):
                counted = receive
            elif limit == self.settings.max_message_bytes or scope["path"].rstrip("/") in UPLOADS:
                counted = _counted(receive, limit)
            else:
                counted = _again(await _checked(headers, receive, limit), receive)
        except LessenError as error:
            await refuse(scope, receive, send, error)
            return
        await self.app(scope, counted, send)

    def limit(self, path: str) -> int:
        """Return the bytes that a body at a path may have."""
        if path == SOCKETS or path.startswith(f"{SOCKETS}/"):
            return self.settings.max_message_bytes
        if path.rstrip("/") in UPLOADS:
            return self.settings.max_upload_bytes + MIB  # the form around the file
        return self.settings.max_inputs_bytes if path.rstrip("/") in INPUTS else self.settings.max_body_bytes


def _told(headers: Headers) -> int | None:
    told = headers.get("content-length")
    if told is None:
        return None
    if not told.isdecimal() or len(told) > 15:
        raise RequestError(400, "Content-Length is not a number of bytes")
    return int(told)


def _too_long(limit: int) -> RequestError:
    return RequestError(413, f"the request is longer than {limit} bytes", "send less", exit_code=7)


def _counted(receive: Receive, limit: int) -> Receive:
    """Return a `receive` that stops at a limit; what reads it turns the exception into the answer."""
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, _too_long(limit).message)
        return message

    return receiving


async def _checked(headers: Headers, receive: Receive, limit: int) -> bytes:
    try:
        async with asyncio.timeout(STALL_S):
            raw = await _whole(receive, limit)
    except TimeoutError:
        raise RequestError(408, f"the request's body did not come within {STALL_S:.0f} seconds") from None
    if not raw:
        return raw
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if not JSON.fullmatch(kind):
        said = f"as {kind[:60]!r}" if kind else "without a content type"
        raise RequestError(
            415, f"the body came {said}, not as application/json", "add the header Content-Type: application/json"
        )
    if len(raw) > 64 * 1024:  # a picture: milliseconds that others need not wait for
        await asyncio.to_thread(check_json, raw)
    else:
        check_json(raw)
    return raw


async def _whole(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    seen, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise RequestError(400, "the request ended before its body")
        parts.append(message.get("body", b""))
        seen += len(parts[-1])
        if seen > limit:
            raise _too_long(limit)
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(raw: bytes, receive: Receive) -> Receive:
    first = True

    async def receiving() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": raw, "more_body": False}
        return await receive()

    return receiving


def check_json(raw: bytes) -> None:
    """Check that a body is JSON of finite numbers, encodable texts and bounded depth.

    Raises:
        RequestError: it is not; 422.
    """
    try:
        value = json.loads(raw, parse_constant=_constant, parse_float=_finite, parse_int=_bounded)
    except RecursionError:
        raise _harmful(f"lists and objects deeper than {DEEPEST}") from None
    except RequestError:
        raise
    except ValueError:
        raise RequestError(422, "the body is not JSON", "check its quotes, commas and encoding (UTF-8)") from None
    if raw.count(b"[") + raw.count(b"{") > DEEPEST or b"\\u" in raw or not raw.isascii():
        _walk(value)


def _walk(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        following: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                following += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                following += item
        level = following
        if not level:
            return
    raise _harmful(f"lists and objects deeper than {DEEPEST}")


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _harmful("a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _harmful("half of a surrogate pair, which is no character") from None


def _constant(name: str) -> float:
    raise _harmful(f"{name}, which is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _harmful("a number that is too large")
    return value


def _bounded(text: str) -> int:
    if len(text) > 20 or abs(value := int(text)) >= LARGEST:
        raise _harmful("an integer of more than 64 bits")
    return value


def _harmful(what: str) -> RequestError:
    return RequestError(422, f"the body holds {what}", "leave it out")


@dataclass
class Bucket:
    """Requests that one caller may still make; refilled as time goes by."""

    left: float
    at: float


class Buckets:
    """One bucket a caller and kind; the longest unused go first.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], Bucket] = OrderedDict()

    def take(self, caller: str, kind: str, per_minute: int) -> float:
        """Take one request out; return 0, or the seconds until there is one."""
        now = self._clock()
        bucket = self._known.pop((caller, kind), None) or Bucket(per_minute, now)
        bucket.left = min(per_minute, bucket.left + (now - bucket.at) * per_minute / 60)
        bucket.at = now
        self._known[caller, kind] = bucket
        if len(self._known) > CALLERS:
            self._known.popitem(last=False)
        if bucket.left < 1:
            return (1 - bucket.left) * 60 / per_minute
        bucket.left -= 1
        return 0.0


class Rates:
    """Answers 429 to a caller who asks too often; sockets and the open pages are not counted here."""

    def __init__(self, app: ASGIApp, settings: Settings, buckets: Buckets | None = None) -> None:
        self.app, self.settings = app, settings
        self._buckets = buckets or Buckets()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that does not come too often."""
        kind = self._kind(scope) if scope["type"] == "http" else None
        if kind is not None:
            name, per_minute = kind
            wait = self._buckets.take(scope.get("lessen.credential", name), name, per_minute)
            if wait:
                error = RateError(
                    f"more than {per_minute} {name} a minute", "wait as Retry-After says", retry_after_s=wait
                )
                await refuse(scope, receive, send, error)
                return
        await self.app(scope, receive, send)

    def _kind(self, scope: Scope) -> tuple[str, int] | None:
        method, path = scope["method"], scope["path"].rstrip("/")
        if path == "/login":
            return "logins", self.settings.logins_per_minute
        if path == SOCKETS or path.startswith(f"{SOCKETS}/") or is_open(method, scope["path"]):
            return None
        if method in ("GET", "HEAD"):
            return "reads", self.settings.reads_per_minute
        if method == "POST" and STARTS.fullmatch(path):
            return "starts", self.settings.starts_per_minute
        return "writes", self.settings.writes_per_minute
