"""Errors as RFC 9457 problem details. What a caller can mend is told; what is our fault is told to the log alone."""

from __future__ import annotations

import json
import logging
import math
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lessen import errors

log = logging.getLogger("lessen.server")
MEDIA = "application/problem+json"
VERSIONED = "/api/"  # below it answers have no success and error, which the predecessors' clients read
LONGEST = 2000  # characters of a text that came from outside
SHOWN = 20  # mistakes of one request

STATUS: tuple[tuple[type[errors.LessenError], int], ...] = (
    (errors.NotFoundError, 404),
    (errors.QueueFullError, 429),
    (errors.ConflictError, 409),
    (errors.AuthError, 401),
    (errors.ResourceError, 507),
    (errors.ArtifactError, 409),
    (errors.UnavailableError, 424),
    (errors.RateError, 429),
    (errors.GateError, 409),
    (errors.RecipeError, 422),
    (errors.DataError, 422),
    (errors.ModelError, 422),
    (errors.Cancelled, 409),
    (errors.TrainingError, 500),
    (errors.LessenError, 400),
)


class Mistake(BaseModel):
    """One value of a request that cannot be taken."""

    model_config = ConfigDict(extra="forbid")

    where: list[str | int]
    message: str
    kind: str


class Problem(BaseModel):
    """Why a request was refused, and what to do about it."""

    model_config = ConfigDict(extra="forbid")

    type: str
    title: str
    status: int
    detail: str
    hint: str = ""
    exit_code: int
    instance: str
    errors: list[Mistake] | None = None
    id: str | None = None  # of an error that is ours: it stands in the log
    success: bool | None = None  # false, where the predecessors' clients look for it
    error: str | None = None


class RequestError(errors.LessenError):
    """A request that is refused before any route sees it."""

    def __init__(
        self, status: int, message: str, hint: str = "", *, exit_code: int = 2, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, hint)
        self.status, self.exit_code, self.headers = status, exit_code, dict(headers or {})


def install(app: FastAPI) -> None:
    """Make an application answer every error with a problem."""
    app.add_exception_handler(errors.LessenError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def answer(path: str, error: errors.LessenError) -> Response:
    """Return the response that tells of an error."""
    status = error.status if isinstance(error, RequestError) else status_of(error)
    return _response(
        path, status, _kind(error), error.message, hint=error.hint, exit_code=error.exit_code, headers=_headers(error)
    )


def status_of(error: errors.LessenError) -> int:
    """Return the HTTP status of an error."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


async def refuse(scope: Scope, receive: Receive, send: Send, error: errors.LessenError) -> None:
    """Answer a request, or a WebSocket that was not accepted yet, with an error."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
        return
    await answer(scope["path"], error)(scope, receive, send)


class Catch:
    """Answer 500 to what nobody foresaw, with an id that stands in the log beside the traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] in ("http.response.start", "websocket.accept")
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:
            response = _unforeseen(scope, error)
            if begun:
                raise  # the status is gone already: the connection must not look complete
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1011})
                return
            await response(scope, receive, send)


def _unforeseen(scope: Scope, error: Exception) -> Response:
    path = scope["path"]
    if isinstance(error, errors.LessenError):
        return answer(path, error)
    if isinstance(error, MemoryError):
        return answer(path, errors.ResourceError("the server is out of memory", "try again with less"))
    if errors.disk_full(error) or "database or disk is full" in str(error):
        return answer(path, errors.ResourceError("the server's disk is full", "free some space; `lessen gc` may help"))
    number = secrets.token_hex(6)
    log.error("error %s at %s %s", number, scope.get("method", "socket"), clean(path), exc_info=error)
    return _response(
        path, 500, "internal", f"an error of the server, number {number}",
        hint="this is a bug of lessen; the server's log says more beside that number", exit_code=1, id=number,
    )  # fmt: skip


def _known(request: Request, error: Exception) -> Response:
    if not isinstance(error, errors.LessenError):
        raise error
    return answer(request.scope["path"], error)


def _invalid(request: Request, error: Exception) -> Response:
    """Name what is wrong and where; never repeat what was sent, which may be secret, endless or not even text."""
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    mistakes = [
        {"where": [_place(p) for p in e["loc"]], "message": clean(str(e["msg"])), "kind": str(e["type"])}
        for e in found[:SHOWN]
    ]
    first = mistakes[0]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    where = ".".join(map(str, first["where"]))
    return _response(
        request.scope["path"], 422, "invalid", f"{where}: {first['message']}{more}",
        hint="the OpenAPI document at /docs says what is allowed", exit_code=2, errors=mistakes,
    )  # fmt: skip


def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path = request.scope["path"]
    detail = str(error.detail)
    hint = ""
    if error.status_code == 404:
        detail, hint = f"there is nothing at {clean(path)[:200]}", "see /docs for what there is"
    elif error.status_code == 405:
        detail, hint = f"{clean(path)[:200]} does not take {request.method}", "see /docs for what it takes"
    return _response(path, error.status_code, "http", detail, hint=hint, exit_code=2, headers=error.headers)


def _headers(error: errors.LessenError) -> dict[str, str]:
    if isinstance(error, RequestError):
        return error.headers
    if isinstance(error, errors.RateError | errors.QueueFullError):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, errors.AuthError):
        return {"WWW-Authenticate": 'Bearer realm="lessen"'}
    return {}


def _response(
    path: str, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    body = {"type": f"urn:lessen:{kind}", "title": _title(status), "status": status, "detail": clean(detail)}
    body |= {"instance": clean(path)[:200], **more, "hint": clean(more.get("hint", ""))}
    if not path.startswith(VERSIONED):
        body |= {"success": False, "error": body["detail"]}
    shown = Problem.model_validate(body).model_dump(exclude_none=True)
    raw = json.dumps(shown, ensure_ascii=False, allow_nan=False).encode()
    return Response(raw, status, headers=dict(headers or {}), media_type=MEDIA)


def clean(text: str) -> str:
    """Return a text that can be sent and logged: on one line, encodable, not endless."""
    seen = text[:LONGEST].encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in seen)


def _place(part: Any) -> str | int:
    return part if isinstance(part, int) and abs(part) < 1 << 53 else clean(str(part))[:100]


def _title(status: int) -> str:
    return HTTPStatus(status).phrase if status in list(HTTPStatus) else "Error"


def _kind(error: errors.LessenError) -> str:
    """Return a class name as words: NotFoundError -> not-found."""
    name = type(error).__name__.removesuffix("Error") or "error"
    return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


PROBLEM = {
    "description": "A problem (RFC 9457): why not, and what to do about it",
    "content": {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": PROBLEM, "5XX": PROBLEM}  # what any route may answer
