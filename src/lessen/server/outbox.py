"""What waits to be sent to one Socket.IO client: bounded, so that a client who does not read holds up nobody.

Engine.IO keeps a queue without end for every client. A message goes there only while that queue is short; else it
waits here, where there is a limit: progress is left out first, and a client for whom even news of state piles up is
disconnected. It comes back, says what it has, and gets the rest from the store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import cached_property
from typing import Any

import engineio
import socketio
from engineio.packet import MESSAGE
from engineio.packet import Packet as Frame
from socketio.packet import EVENT, Packet

LIMIT = 512  # messages; past it the client goes
CONGESTED = 256  # past it progress is left out
POLLED = 12  # frames in Engine.IO's queue of a polling client: Python's client refuses more than 16 in one answer
PUSHED = 64  # and of a WebSocket
STALLED_S = 60.0  # for a single frame


class Message:
    """An event for any number of clients, encoded once."""

    def __init__(self, name: str, payload: dict[str, Any], *, keep: bool = True) -> None:
        self.name, self.payload = name, payload
        self.keep = keep  # whether it says more than the next one of its name will

    @cached_property
    def frames(self) -> list[Frame]:
        """The frames of the wire."""
        encoded = Packet(EVENT, namespace="/", data=[self.name, self.payload]).encode()
        return [Frame(MESSAGE, part) for part in (encoded if isinstance(encoded, list) else [encoded])]


class Outbox:
    """The messages for one client, sent in order by a task that lives while there are any."""

    def __init__(self, server: socketio.AsyncServer, eio_sid: str, gone: Callable[[str], None]) -> None:
        self._server: engineio.AsyncServer = server.eio
        self._eio_sid = eio_sid
        self._gone = gone  # called once, with the reason, when this client cannot keep up
        self._waiting: deque[Message] = deque()
        self._pump: asyncio.Task[None] | None = None
        self._short = asyncio.Event()
        self._short.set()
        self.closed = False

    @property
    def congested(self) -> bool:
        """Whether progress is left out at present."""
        return len(self._waiting) >= CONGESTED

    def push(self, message: Message) -> bool:
        """Put a message in line; return whether it will be sent. Call in the event loop."""
        if self.closed or (self.congested and not message.keep):
            return False
        if len(self._waiting) >= LIMIT and not self._evict():
            self.close()
            self._gone("too slow: news piled up")
            return False
        self._waiting.append(message)
        if self.congested:
            self._short.clear()
        if self._pump is None:
            self._pump = asyncio.get_running_loop().create_task(self._send_all())
        return True

    async def short(self) -> bool:
        """Wait until less than half of the line is taken; return whether the client is still there."""
        await self._short.wait()
        return not self.closed

    def close(self) -> None:
        """Forget what waits."""
        self.closed = True
        self._waiting.clear()
        self._short.set()
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    def _evict(self) -> bool:
        for index, message in enumerate(self._waiting):
            if not message.keep:
                del self._waiting[index]
                return True
        return False

    async def _send_all(self) -> None:
        while self._waiting and not self.closed:
            if not await self._room():
                return
            message = self._waiting.popleft()
            for frame in message.frames:
                await self._server.send_packet(self._eio_sid, frame)
            if not self.congested:
                self._short.set()
        self._pump = None

    async def _room(self) -> bool:
        """Wait until Engine.IO's queue is short; False when the client is gone or reads nothing for a minute."""
        waited = 0.0
        while True:
            socket = self._server.sockets.get(self._eio_sid)
            if socket is None or socket.closed:
                self._pump = None
                return False
            if socket.queue.qsize() < (PUSHED if socket.upgraded else POLLED):
                return True
            if waited > STALLED_S:
                self._pump = None
                self.close()
                self._gone("reads nothing")
                return False
            pause = 0.005 if waited < 1 else 0.1
            await asyncio.sleep(pause)
            waited += pause
