"""Socket.IO clients for tests: the library's, and bare wires, on which everything can be said and in order heard."""

from __future__ import annotations

import json
import queue
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import requests
import socketio
import websocket

from lessen.events import Progress
from served import Outside, Running

SILENCE_S = 20.0
SMALL = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]  # of a client that is slow to read


class Listener:
    """A client that keeps all it hears."""

    def __init__(self, server: Running, *, transports: list[str] | None = None, connect: bool = True) -> None:
        self.server = server
        self.heard: queue.Queue[tuple[str, Any]] = queue.Queue()
        self.polls = requests.Session()
        self.client = socketio.Client(reconnection=False, http_session=self.polls)
        self.client.on("*", self._hear)
        if connect:
            self.client.connect(server.url, auth={"token": server.token}, transports=transports)

    def _hear(self, name: str, data: Any = None) -> None:
        self.heard.put((name, data))

    def next(self, name: str, seconds: float = 20.0) -> Any:
        """Return the next event of a name; others are passed over."""
        end = time.monotonic() + seconds
        while True:
            heard, data = self.heard.get(timeout=max(0.01, end - time.monotonic()))
            if heard == name:
                return data

    def all(self) -> list[tuple[str, Any]]:
        out = []
        while not self.heard.empty():
            out.append(self.heard.get())
        return out

    def subscribe(self, run_id: str, after: int = 0, **more: Any) -> dict[str, Any]:
        return dict(self.client.call("subscribe", {"run_id": run_id, "after": after, **more}, timeout=30))

    def close(self) -> None:
        if self.client.connected:
            time.sleep(0.1)  # the library's polling client, when it leaves right after it came, says nothing and waits
            self.client.disconnect()
        self.polls.close()
        if self.client.eio.ws is not None:  # the library leaves it to the garbage collector
            self.client.eio.ws.shutdown()


class Wire:
    """A bare connection that is in already."""

    def __init__(self, server: Running, transport: str, **more: Any) -> None:
        self.polls = requests.Session() if transport == "polling" else None
        if self.polls is not None:
            self.at = f"{server.url}/socket.io/?EIO=4&transport=polling"
            sid = json.loads(self.polls.get(self.at, timeout=30).text[1:])["sid"]
            self.at += f"&sid={sid}"
        else:
            self.socket = raw(server, **more)
        self.send("40" + json.dumps({"token": server.token}))
        assert next(self.frames()).startswith("40{")

    def send(self, text: str) -> None:
        if self.polls is not None:
            assert self.polls.post(self.at, data=text, timeout=30).text == "OK"
        else:
            self.socket.send(text)

    def frames(self) -> Iterator[str]:
        """Yield what comes; pings are answered."""
        while True:
            if self.polls is not None:
                answer = self.polls.get(self.at, timeout=30)
                assert answer.status_code == 200
                some = answer.text.split("\x1e")
                assert len(some) <= 16
            else:
                some = [self.socket.recv()]
            for frame in some:
                if frame == "2":
                    self.send("3")
                elif frame:
                    yield frame

    def follow(self, run_id: str, after: int, **more: Any) -> Iterator[int]:
        """Subscribe and yield seqs. Fail when everything but the run's events comes."""
        self.send("42" + json.dumps(["subscribe", {"run_id": run_id, "after": after, **more}]))
        heard = time.monotonic()
        for frame in self.frames():
            if frame.startswith('42["run_event"'):
                yield json.loads(frame[2:])[1]["seq"]
                heard = time.monotonic()
            assert time.monotonic() - heard < SILENCE_S, "no event of the run came"

    def cut(self) -> None:
        """Break the connection without a word."""
        if self.polls is not None:
            self.polls.close()
        else:
            self.socket.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.sock.close()


def raw(server: Running, **more: Any) -> websocket.WebSocket:
    """Return a WebSocket that showed no token yet."""
    wire = websocket.create_connection(
        f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket", timeout=30, suppress_origin=True, **more
    )
    assert wire.recv().startswith("0{")
    return wire


def known(server: Running, run: Outside, seq: int = 1) -> bool:
    """Whether the server has the events of a run up to a seq."""
    answer = server.get(f"/api/v1/runs/{run.run_id}")
    return answer.status_code == 200 and bool(answer.json()["seq"] >= seq)


def steps(first: int, count: int, total: int = 100_000) -> list[Progress]:
    return [
        Progress(stage="teacher", step=i, total_steps=total, loss=1.0 / (i + 1)) for i in range(first, first + count)
    ]


def closed(wire: websocket.WebSocket) -> bool:
    """Read until the server closes, and close too."""
    try:
        while wire.recv():
            pass
    except (websocket.WebSocketException, OSError) as error:
        return not isinstance(error, websocket.WebSocketTimeoutException)
    finally:
        wire.shutdown()
    return True  # an empty frame: closed
