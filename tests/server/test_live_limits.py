"""Socket.IO against a running server: a client that is slow, loud, odd or a stranger harms nobody."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import websocket

from lessen.events import Log
from served import Outside, Running, eventually, serving
from wires import SMALL, Listener, Wire, closed, known, raw

Start = Callable[..., Outside]


@pytest.mark.slow
def test_a_client_that_does_not_read_holds_up_nobody(server: Running, outside: Start) -> None:
    run = outside(server.root)
    eventually(lambda: known(server, run))
    stalled, other = Wire(server, "websocket", sockopt=SMALL), Wire(server, "websocket")
    stalled.send("42" + json.dumps(["subscribe", {"run_id": run.run_id, "predecessor": True}]))
    stream = other.follow(run.run_id, 0)
    before, slowest = _memory(server), 0.0
    for _ in range(60):
        last = run.write(*[Log(stage="teacher", message="x" * 2000) for _ in range(200)])
        began = time.monotonic()
        while next(stream) < last:
            pass
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < 5
    assert _memory(server) - before < 60 << 20  # 24 MB were sent; the stalled client's share of it waits in the store
    stalled.cut()
    other.cut()


def _memory(server: Running) -> int:
    return int(server.get("/api/v1/system").json()["memory"]["server_rss_bytes"])


@pytest.mark.slow
def test_a_stalled_client_gets_everything_once_it_reads_again(server: Running, outside: Start) -> None:
    run = outside(server.root)
    eventually(lambda: known(server, run))
    wire = Wire(server, "websocket", sockopt=SMALL)
    stream = wire.follow(run.run_id, 0)
    seqs = [next(stream)]
    for _ in range(20):
        last = run.write(*[Log(stage="teacher", message="y" * 3000) for _ in range(100)])
        time.sleep(0.05)
    eventually(lambda: known(server, run, last))
    while seqs[-1] < last:
        seqs.append(next(stream))
    assert seqs == list(range(1, last + 1))
    wire.cut()


def test_who_says_too_much_is_sent_away(server: Running, listen: Callable[..., Listener]) -> None:
    wire, other = Wire(server, "websocket").socket, listen()
    with contextlib.suppress(websocket.WebSocketException, OSError):
        for _ in range(5000):
            wire.send('42["ping",{}]')
    assert closed(wire)
    other.client.emit("ping")
    assert other.next("pong", 5)


@pytest.mark.parametrize("size", [64 * 1024 + 100, 1 << 20])
def test_a_long_message_closes_the_socket(server: Running, listen: Callable[..., Listener], size: int) -> None:
    wire, other = Wire(server, "websocket").socket, listen()
    with contextlib.suppress(OSError):  # closed while it was sent
        wire.send('42["ping",{"x":"' + "x" * size + '"}]')
    assert closed(wire)
    other.client.emit("ping")
    assert other.next("pong", 5)


def test_a_long_message_by_polling_is_refused(server: Running) -> None:
    opened = requests.get(f"{server.url}/socket.io/?EIO=4&transport=polling", timeout=10).text
    sid = re.search(r'"sid":"([^"]+)"', opened)
    assert sid
    at = f"{server.url}/socket.io/?EIO=4&transport=polling&sid={sid[1]}"
    assert requests.post(at, data="4" * 70_000, timeout=10).status_code == 413


JUNK = [
    "",
    "9",
    "4",
    "40",
    "42",
    "42[",
    "42[]",
    '42["subscribe"',
    "42{}",
    "42[1]",
    "451-[]",
    "4999999999999-[]",
    "44",
    "2probe",
    "\x00",
    "4" + "[" * 5000,
]


def test_junk_harms_nobody(server: Running, listen: Callable[..., Listener]) -> None:
    other = listen()
    for junk in JUNK:
        wire = Wire(server, "websocket").socket
        wire.send(junk)
        wire.shutdown()
        before = raw(server)
        before.send(junk)
        before.shutdown()
    other.client.emit("ping")
    assert other.next("pong", 5)
    assert server.process.poll() is None


@pytest.mark.slow
def test_sockets_are_counted_and_strangers_time_out(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        wires = [raw(server) for _ in range(128)]
        with pytest.raises(websocket.WebSocketBadStatusException) as refused:
            raw(server)
        assert refused.value.status_code == 403
        polled = requests.get(f"{server.url}/socket.io/?EIO=4&transport=polling", timeout=10)
        assert (polled.status_code, polled.json()["type"]) == (429, "urn:lessen:rate")
        assert server.get("/test").status_code == 200
        # none of them showed a token: their places are free again soon
        began = time.monotonic()
        eventually(
            lambda: requests.get(f"{server.url}/socket.io/?EIO=4&transport=polling", timeout=10).status_code == 200, 25
        )
        assert time.monotonic() - began < 20
        assert all(closed(wire) for wire in wires)


@pytest.mark.slow
def test_rotating_the_token_ends_the_sockets(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        one = Listener(server)
        one.next("server_ready")
        assert server.post("/api/v1/token/rotate").status_code == 200
        eventually(lambda: not one.client.connected, 10)
        one.close()


@pytest.mark.slow
def test_clients_hear_of_the_end_at_once(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        many = [Listener(server, transports=[t]) for t in ("polling", "websocket")]
        began = time.monotonic()
        server.process.terminate()
        for one in many:
            eventually(lambda one=one: not one.client.connected, 10)
            one.close()
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < 6
