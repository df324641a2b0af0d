"""News of runs over Socket.IO: what the predecessors' clients know, and streams of single runs.

From a client (each with an acknowledgement where one is asked for)::

    subscribe {run_id = latest, after = 0, predecessor = false}  ->  {run_id, seq, replayed, state}
    unsubscribe {run_id}                                         ->  {run_id}
    client_connected {timestamp}, ping {timestamp}, connection_health_check

To all: server_ready, run_state {run}. To subscribers: run_event (a stored line and run_id), run_resources. The
predecessors' events go to clients without a subscription for every run, and to subscribers who ask for them.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import socketio
from socketio.exceptions import ConnectionRefusedError as Refused
from starlette.types import Receive, Scope, Send

from lessen import __version__
from lessen.errors import LessenError, RateError, RecipeError
from lessen.jobs import Events, Notice, Resources, State, Supervisor
from lessen.server.auth import Auth, wanted
from lessen.server.feed import Client, Feed, Subscription
from lessen.server.guard import origins_of
from lessen.server.limits import Buckets
from lessen.server.outbox import Message, Outbox
from lessen.server.problems import RequestError, clean, refuse
from lessen.server.settings import Settings
from lessen.server.translate import SCHEMA_VERSION
from lessen.server.views import Views
from lessen.store import RunRecord, Store

log = logging.getLogger("lessen.server")
PROGRESS_S = 0.5  # between two run_state of a run whose state is the same
UNKNOWN_S = 10.0  # that a connection may take to show its token
SUBSCRIPTIONS = 16  # of a client
FEEDS = 64  # kept while nobody listens


class Live:
    """The Socket.IO server and the streams behind it."""

    def __init__(self, settings: Settings, store: Store, auth: Auth, views: Views) -> None:
        self.settings, self.store, self.auth, self.views = settings, store, auth, views
        self.clients: dict[str, Client] = {}
        self._feeds: dict[str, Feed] = {}
        self._met: dict[str, float] = {}  # connections that did not show their token yet, since when
        self._tasks: set[asyncio.Task[Any]] = set()
        self._states: asyncio.Queue[RunRecord | str] = asyncio.Queue()
        self._moved: set[str] = set()  # runs with progress since the last tick
        self._buckets = Buckets()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.lag_s: float | None = None  # from writing an event to taking it up here, the last one
        self._stop_listening: Callable[[], None] | None = None
        self.started = time.monotonic()
        self.server = socketio.AsyncServer(
            async_mode="asgi",
            cors_allowed_origins=sorted(origins_of(settings)),
            max_http_buffer_size=settings.max_message_bytes,
            ping_interval=settings.ping_interval_s,
            ping_timeout=settings.ping_timeout_s,
        )
        for name, handler in self._handlers().items():
            self.server.on(name, handler)
        ended = self.server.eio.handlers["disconnect"]

        async def end(eio_sid: str, reason: str) -> None:
            await ended(eio_sid, reason)
            self._release(eio_sid)

        self.server.eio.on("disconnect", end)

    def _handlers(self) -> dict[str, Callable[..., Any]]:
        return {
            "connect": self._connect,
            "disconnect": self._disconnect,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "client_connected": self._client_connected,
            "ping": self._ping,
            "connection_health_check": self._health,
            "*": self._unknown,
        }

    # life

    async def start(self, jobs: Supervisor) -> None:
        """Begin to listen; call in the event loop."""
        self._loop, self._states = asyncio.get_running_loop(), asyncio.Queue()
        self._stop_listening = jobs.listen(self._hear)
        self._spawn(self._tell_states())
        self._spawn(self._tick())

    async def stop(self) -> None:
        """Say goodbye to every client and end every task; twice is fine."""
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        for eio_sid in list(self.server.eio.sockets):
            await self._close(eio_sid, "the server stops")
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.server.eio.service_task_handle is not None:  # else nobody ever connected
            await self.server.shutdown()

    @property
    def sockets(self) -> int:
        """How many clients are connected."""
        return len(self.clients)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request below /socket.io."""
        if scope["type"] not in ("http", "websocket"):
            return
        begins = "sid" not in parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if begins and len(self.server.eio.sockets) >= self.settings.max_sockets:
            error = RateError(f"{self.settings.max_sockets} sockets are open", "close one", retry_after_s=10)
            await refuse(scope, receive, send, error)
            return
        try:
            await self.server.handle_request(scope, receive, send)
        except KeyError:  # Engine.IO's, where a session ends between two of its own looks
            await refuse(scope, receive, send, RequestError(400, "this session is over", "connect again"))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the live service failed", exc_info=error)

    # connections

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        given = auth.get("token") if isinstance(auth, dict) else None
        credential = self.auth.who(
            environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_COOKIE"), given if isinstance(given, str) else None
        )
        eio_sid = self.server.manager.eio_sid_from_sid(sid, "/")
        if credential is None:
            error = wanted(self.auth)
            self._spawn(self._close(eio_sid, "no token", after_s=0.05))  # once the refusal is on its way
            raise Refused(error.message, {"hint": error.hint, "exit_code": error.exit_code})
        if len(self.clients) >= self.settings.max_sockets:
            raise Refused(f"{self.settings.max_sockets} sockets are open", {"hint": "close one", "exit_code": 7})

        def gone(reason: str) -> None:
            self._spawn(self._close(eio_sid, reason))

        outbox = Outbox(self.server, eio_sid, gone)
        self.clients[sid] = Client(sid, eio_sid, credential, self.auth.generation, outbox)
        self._spawn(self._greet(sid))

    async def _greet(self, sid: str) -> None:
        """Say server_ready, once the client was told that it is connected."""
        while sid in self.clients and not self.server.manager.is_connected(sid, "/"):
            await asyncio.sleep(0.001)
        if sid in self.clients:
            trains = importlib.util.find_spec("torch") is not None
            versions = {"server_version": __version__, "schema_version": SCHEMA_VERSION}
            self._say(sid, "server_ready", message="Server is ready", ml_available=trains, **versions)

    async def _disconnect(self, sid: str, reason: str | None = None) -> None:
        client = self.clients.pop(sid, None)
        if client is not None:
            client.subscriptions.clear()
            client.outbox.close()
            self._spawn(self._close(client.eio_sid, "the client left"))  # some leave the namespace alone

    async def _close(self, eio_sid: str, reason: str, after_s: float = 0.0) -> None:
        """End a connection, even of a client who neither reads nor says goodbye."""
        await asyncio.sleep(after_s)
        self._met.pop(eio_sid, None)
        socket = self.server.eio.sockets.get(eio_sid)
        if socket is None or socket.closed:
            return
        log.info("closing a socket: %s", reason)
        await socket.close(wait=False, reason=self.server.reason.SERVER_DISCONNECT)
        self._release(eio_sid)

    def _release(self, eio_sid: str) -> None:
        """End what still waits for something to send: a poll, which then answers, or the writer of a WebSocket."""
        socket = self.server.eio.sockets.get(eio_sid)
        if socket is not None:
            socket.queue.put_nowait(None)

    # what clients say

    async def _subscribe(self, sid: str, data: Any = None, *_: Any) -> dict[str, Any] | None:
        client = self._counted(sid)
        if client is None:
            return None
        try:
            run_id, after, predecessor = _asked(data)
            record = await asyncio.to_thread(self.store.need, run_id)
            after = min(after, record.seq)  # a seq of another store would wait for ever
            if len(client.subscriptions) >= SUBSCRIPTIONS and record.run_id not in client.subscriptions:
                raise RateError(f"a client may follow {SUBSCRIPTIONS} runs", "unsubscribe from one first")
        except LessenError as error:
            return self._refused(sid, error)
        subscription = Subscription(last=after, predecessor=predecessor)
        client.subscriptions[record.run_id] = subscription
        replayed = await self._feed(record.run_id).replay(client, subscription)
        now = await asyncio.to_thread(self.store.get, record.run_id) or record
        return {"run_id": record.run_id, "seq": subscription.last, "replayed": replayed, "state": now.state}

    async def _unsubscribe(self, sid: str, data: Any = None, *_: Any) -> dict[str, Any] | None:
        client = self._counted(sid)
        if client is None:
            return None
        try:
            run_id, _after, _predecessor = _asked(data)
            record = await asyncio.to_thread(self.store.need, run_id)
        except LessenError as error:
            return self._refused(sid, error)
        client.subscriptions.pop(record.run_id, None)
        return {"run_id": record.run_id}

    async def _client_connected(self, sid: str, *_: Any) -> None:
        if self._counted(sid):
            self._say(sid, "connection_acknowledged", message="Connection acknowledged")

    async def _ping(self, sid: str, *_: Any) -> None:
        if self._counted(sid):
            self._say(sid, "pong", server_status="running")

    async def _health(self, sid: str, *_: Any) -> None:
        if self._counted(sid):
            self._say(sid, "health_status", status="healthy", server_uptime=round(time.monotonic() - self.started, 3))

    async def _unknown(self, event: str, sid: str, *_: Any) -> None:
        if self._counted(sid):
            self._refused(sid, RecipeError(f"there is no event {clean(str(event))[:60]!r}", "see docs/server.md"))

    def _counted(self, sid: str) -> Client | None:
        """Return the client behind a message, None where it says too much and has to go."""
        client = self.clients.get(sid)
        if client is None:
            return None
        if self._buckets.take(sid, "messages", 60 * self.settings.messages_per_second):
            self._refused(sid, RateError("too many messages", "this connection is closed; come back later"))
            self._spawn(self._close(client.eio_sid, "too many messages"))
            return None
        return client

    def _refused(self, sid: str, error: LessenError) -> dict[str, Any]:
        self._say(sid, "server_error", error=error.message, hint=error.hint)
        return {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}

    def _say(self, sid: str, event: str, **payload: Any) -> None:
        client = self.clients.get(sid)
        if client is not None:
            client.outbox.push(Message(event, {**payload, "timestamp": _now()}))

    # what runs say

    def _hear(self, notice: Notice) -> None:
        """Take a notice from the supervisor's thread into the event loop."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._take, notice)

    def _take(self, notice: Notice) -> None:
        if isinstance(notice, Events):
            self._feed(notice.run_id).push(notice.events)
            self.lag_s = max(0.0, time.time() - float(notice.events[-1]["ts"]))
            self._moved.add(notice.run_id)
        elif isinstance(notice, State):
            self._states.put_nowait(notice.record)
        elif isinstance(notice, Resources):
            sample = {name: getattr(notice, name) for name in ("run_id", "ts", "cpu_percent", "rss_bytes", "gpu_bytes")}
            message = Message("run_resources", {**sample, "children": notice.children}, keep=False)
            for client in self.clients.values():
                if notice.run_id in client.subscriptions:
                    client.outbox.push(message)

    def _feed(self, run_id: str) -> Feed:
        feed = self._feeds.get(run_id)
        if feed is None:
            for idle in [key for key, known in self._feeds.items() if known.idle][: max(0, len(self._feeds) - FEEDS)]:
                del self._feeds[idle]
            feed = self._feeds[run_id] = Feed(run_id, self.store, self.clients, self._spawn)
        return feed

    async def _tell_states(self) -> None:
        """Send run_state to everybody: each change of state, and now and then the progress in between."""
        while True:
            told = await self._states.get()
            if not self.clients:
                continue
            record = told if isinstance(told, RunRecord) else await asyncio.to_thread(self.store.get, told)
            if record is None:
                continue
            try:
                run = await asyncio.to_thread(self._shown, record)
            except Exception:
                log.exception("a run cannot be shown")
                continue
            message = Message("run_state", {"run": run}, keep=isinstance(told, RunRecord))
            for client in list(self.clients.values()):
                client.outbox.push(message)

    def _shown(self, record: RunRecord) -> dict[str, Any]:
        return self.views.run(record).model_dump(mode="json")

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            moved, self._moved = self._moved, set()
            for run_id in moved:
                self._states.put_nowait(run_id)
            await self._sweep()

    async def _sweep(self) -> None:
        """Close connections that never showed a token, and those whose token is no longer valid."""
        known = {client.eio_sid for client in self.clients.values()}
        now = time.monotonic()
        there = set(self.server.eio.sockets)
        self._met = {eio: self._met.get(eio, now) for eio in there - known}
        for eio_sid in [eio for eio, since in self._met.items() if now - since > UNKNOWN_S]:
            await self._close(eio_sid, "no token in time")
        for client in [c for c in self.clients.values() if c.generation != self.auth.generation]:
            await self._close(client.eio_sid, "the token was rotated")


def _asked(data: Any) -> tuple[str | None, int, bool]:
    """Return run_id (None: the latest), after and predecessor of a message.

    Raises:
        RecipeError: one of them is of another type.
    """
    values = {} if data is None else data
    if not isinstance(values, dict):
        raise RecipeError("an object is expected", 'such as {"run_id": "latest", "after": 0}')
    run_id, after, predecessor = values.get("run_id"), values.get("after", 0), values.get("predecessor", False)
    if run_id is not None and not (isinstance(run_id, str) and 0 < len(run_id) <= 200):
        raise RecipeError("run_id is not a text of 1 to 200 characters", "leave it out for the latest run")
    if not isinstance(after, int) or isinstance(after, bool) or not 0 <= after < 1 << 53:
        raise RecipeError("after is not the seq of an event", "0 replays everything")
    if not isinstance(predecessor, bool):
        raise RecipeError("predecessor is neither true nor false")
    return None if run_id == "latest" else run_id, after, predecessor


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
