"""The application: routes, sockets and pages behind guard, limits and token."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lessen import __version__
from lessen.jobs import Supervisor
from lessen.server import matlab, openapi, pages, predecessor, problems, uploads, v1
from lessen.server.auth import SOCKETS, Auth, Gate
from lessen.server.bench import Bench
from lessen.server.compress import Compress
from lessen.server.guard import Guard
from lessen.server.limits import Bodies, Rates
from lessen.server.live import Live
from lessen.server.service import Service
from lessen.server.settings import Settings
from lessen.server.views import Views
from lessen.store import FOLDER, Store

access = logging.getLogger("lessen.access")
TAGS = [
    {"name": "runs", "description": "Start, watch, cancel, resume, delete"},
    {"name": "predecessor", "description": "The endpoints of the earlier systems, with their names and fields"},
]


def create_app(settings: Settings) -> FastAPI:
    """Return the application of a folder of runs; it works once its lifespan began.

    Raises:
        LessenError: the folder, its store or the token cannot be used.
    """
    service = build(settings)
    app = FastAPI(
        title="lessen", version=__version__, docs_url=None, redoc_url=None, openapi_tags=TAGS,
        lifespan=_lifespan, redirect_slashes=False,
        middleware=[
            Middleware(Access),
            Middleware(Guard, settings=settings),
            Middleware(problems.Catch),
            Middleware(Gate, auth=service.auth),
            Middleware(Rates, settings=settings),
            Middleware(Bodies, settings=settings),
            Middleware(Compress),
        ],
    )  # fmt: skip
    app.state.service = service
    problems.install(app)
    for part in (predecessor, uploads, matlab, v1):
        app.include_router(part.router)
    pages.install(app)
    app.mount(SOCKETS, service.live)
    openapi.install(app, auth=settings.auth)
    return app


def build(settings: Settings) -> Service:
    """Return the parts of a server, not yet started."""
    auth = Auth(settings)
    store = Store(settings.root)
    jobs = Supervisor(store, slots=settings.max_running)
    views = Views(store, jobs)
    bench = Bench(store.root / FOLDER / "layers")
    return Service(settings, store, jobs, bench, views, auth, Live(settings, store, auth, views))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Start what works beside the routes; at the end interrupt runs so that they can go on later."""
    service: Service = app.state.service
    await asyncio.to_thread(service.begin)
    await asyncio.to_thread(uploads.sweep, service)
    try:
        await service.live.start(service.jobs)
        yield
    finally:
        await service.live.stop()
        await asyncio.to_thread(service.end)


class Access:
    """Logs each request in one line, without its query: a link's key stands there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and log it."""
        if scope["type"] == "lifespan" or not access.isEnabledFor(logging.INFO):
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] in ("websocket.accept", "websocket.close"):
                status = status or (101 if message["type"] == "websocket.accept" else 403)
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            path = re.sub(r"[^\x21-\x7e]", "?", scope["path"])[:300]
            took = 1000 * (time.perf_counter() - begun)
            access.info("%s %s %d %.1f ms", scope.get("method", "SOCKET"), path, status, took)
