"""The dashboard's files, the way in by /login, and /docs without a foreign server."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Scope

from lessen.server.auth import wanted
from lessen.server.compress import Packed
from lessen.server.problems import PROBLEMS
from lessen.server.service import Served

FILES = Path(__file__).parent / "static"
BOTH = ["GET", "HEAD"]
REVALIDATE = {"Cache-Control": "no-cache"}  # kept by the browser, asked about by ETag: an upgrade shows at once
USED = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>lessen: {title}</title>
<link rel="stylesheet" href="/static/style.css"></head>
<body><main><h1>{title}</h1><p>{text}</p><p><a href="/">Go to the dashboard</a></p></main></body></html>
"""

router = APIRouter()


class Given(BaseModel):
    """What POST /login takes."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=200)]


class Entered(BaseModel):
    """What POST /login answers; the cookie that comes with it lets scripts of the page in."""

    success: bool


class Files(Packed):
    """The files of the page."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file, to be asked about again before it is used again."""
        response = await super().get_response(path, scope)
        response.headers.update(REVALIDATE)
        return response


def install(app: FastAPI) -> None:
    """Add the pages to an application."""
    app.include_router(router)
    app.state.files = Files(directory=FILES)
    app.mount("/static", app.state.files, name="static")


@router.api_route("/", methods=BOTH, include_in_schema=False)
async def show_page(request: Request) -> Response:
    """Return the dashboard's shell; everything it shows it asks for by the API."""
    return await _file(request, "index.html")


@router.api_route("/favicon.ico", methods=BOTH, include_in_schema=False)
async def show_icon(request: Request) -> Response:
    """Return the icon."""
    return await _file(request, "favicon.svg")


@router.get("/docs", include_in_schema=False)
async def show_docs(request: Request) -> Response:
    """Return the page that draws /openapi.json."""
    return await _file(request, "docs.html")


@router.get("/login", include_in_schema=False)
def enter_by_link(service: Served, key: str = "") -> Response:
    """Trade the key of a printed link for the session's cookie; it works once."""
    if not service.auth.enabled or not key:
        return RedirectResponse("/", 303)
    if not service.auth.redeem(key):
        where = html.escape(str(service.auth.file))
        text = f"Log in with the token instead; it lies in <code>{where}</code> on the server's machine."
        return HTMLResponse(USED.format(title="This link was used already, or is too old", text=text), 401)
    return _entered(service, RedirectResponse("/", 303))


@router.post("/login", responses=PROBLEMS, tags=["system"])
def enter(service: Served, given: Given, response: Response) -> Entered:
    """Trade the token for the session's cookie, which scripts cannot read."""
    if service.auth.enabled and not service.auth.matches(given.token):
        raise wanted(service.auth)
    _entered(service, response)
    return Entered(success=True)


@router.post("/logout", responses=PROBLEMS, tags=["system"])
def leave(service: Served, response: Response) -> Entered:
    """End the session of this browser."""
    response.headers["Set-Cookie"] = service.auth.set_cookie(None)
    return Entered(success=True)


async def _file(request: Request, name: str) -> Response:
    files: Files = request.app.state.files
    return await files.get_response(name, request.scope)


def _entered(service: Served, response: Response) -> Response:
    response.headers["Set-Cookie"] = service.auth.set_cookie(service.auth.session())
    return response
