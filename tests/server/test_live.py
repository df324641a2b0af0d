"""Socket.IO against a running server: who may come in, nothing lost and nothing doubled, and nobody held up."""

from __future__ import annotations

import contextlib
import json
import queue
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import socketio
import websocket
from served import Outside, Running, eventually, serving

from lessen.events import Log, Progress, StageStarted

Start = Callable[..., Outside]


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


@pytest.fixture
def listen(server: Running) -> Iterator[Callable[..., Listener]]:
    opened: list[Listener] = []

    def make(**more: Any) -> Listener:
        opened.append(Listener(server, **more))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def known(server: Running, run: Outside, seq: int = 1) -> bool:
    """Whether the server has the events of a run up to a seq."""
    answer = server.get(f"/api/v1/runs/{run.run_id}")
    return answer.status_code == 200 and bool(answer.json()["seq"] >= seq)


def steps(first: int, count: int, total: int = 100_000) -> list[Progress]:
    return [Progress(stage="teacher", step=i, total_steps=total, loss=1.0 / (i + 1)) for i in range(first, first + count)]


# who may come in


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]])
def test_a_client_is_greeted_on_every_transport(listen: Callable[..., Listener], transports: list[str]) -> None:
    one = listen(transports=transports)
    ready = one.next("server_ready")
    assert set(ready) == {"message", "timestamp", "ml_available", "server_version", "schema_version"}
    assert ready["ml_available"] is True
    if len(transports) == 2:
        eventually(lambda: one.client.transport() == "websocket")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("given", [None, {}, {"token": "x"}, {"token": None}, {"token": ["x"]}, "x", ["x"], {"token": {"a": 1}}, 7])
def test_without_the_token_nobody_comes_in(
    server: Running, listen: Callable[..., Listener], transport: str, given: Any
) -> None:
    one = listen(connect=False)
    refused: queue.Queue[Any] = queue.Queue()
    one.client.on("connect_error", refused.put)
    with pytest.raises(socketio.exceptions.ConnectionError):
        one.client.connect(server.url, auth=given, transports=[transport], wait_timeout=10)
    told = refused.get(timeout=10)
    assert told["message"] == "this needs the server's token"
    assert told["data"]["exit_code"] == 5
    assert one.all() == []


@pytest.mark.parametrize("way", ["auth", "header", "cookie"])
def test_three_ways_to_show_the_token(server: Running, listen: Callable[..., Listener], way: str) -> None:
    entered = requests.post(f"{server.url}/login", json={"token": server.token}, timeout=10)
    cookie = entered.headers["set-cookie"].partition(";")[0]
    one = listen(connect=False)
    headers = {"header": {"Authorization": f"Bearer {server.token}"}, "cookie": {"Cookie": cookie}}.get(way, {})
    one.client.connect(server.url, headers=headers, auth={"token": server.token} if way == "auth" else None)
    assert one.next("server_ready")


def test_other_namespaces_do_not_exist(server: Running, listen: Callable[..., Listener]) -> None:
    one = listen(connect=False)
    with pytest.raises(socketio.exceptions.ConnectionError):
        one.client.connect(server.url, auth={"token": server.token}, namespaces=["/admin"], wait_timeout=5)


# the predecessors' client events


def test_the_predecessors_client_events(listen: Callable[..., Listener]) -> None:
    one = listen()
    one.client.emit("client_connected", {"timestamp": 1})
    assert set(one.next("connection_acknowledged")) == {"message", "timestamp"}
    one.client.emit("ping", {"timestamp": 1})
    assert one.next("pong")["server_status"] == "running"
    one.client.emit("connection_health_check")
    health = one.next("health_status")
    assert health["status"] == "healthy"
    assert health["server_uptime"] > 0


BAD = [
    5, "x", [], ["run"], {"run_id": 5}, {"run_id": ""}, {"run_id": "x" * 300}, {"after": -1}, {"after": 1.5}, {"after": "1"},
    {"after": True}, {"after": 2**60}, {"predecessor": 1}, {"run_id": "no such run"}, {"run_id": "../../etc"}, {"run_id": "\0"},
]  # fmt: skip


def test_odd_subscriptions_are_refused_with_a_hint(listen: Callable[..., Listener]) -> None:
    one = listen()
    for odd in BAD:
        told = one.client.call("subscribe", odd, timeout=10)
        assert set(told) == {"error", "hint", "exit_code"}, odd
        assert one.next("server_error")["error"] == told["error"]
    one.client.emit("shutdown", {"now": True})
    assert "no event 'shutdown'" in one.next("server_error")["error"]
    one.client.emit("ping")
    assert one.next("pong")


# what runs say


def test_a_run_of_the_shell_is_followed_live(server: Running, listen: Callable[..., Listener], outside: Start) -> None:
    everybody, mine = listen(), listen(transports=["polling"])
    run = outside(server.root)
    run.write(StageStarted(stage="teacher", index=0, total=1))
    state = everybody.next("run_state")["run"]
    assert (state["run_id"], state["origin"]) == (run.run_id, "cli")
    eventually(lambda: known(server, run, 2))
    reply = mine.subscribe(run.run_id)
    assert reply == {"run_id": run.run_id, "seq": 2, "replayed": 2, "state": "running"}
    began = time.time()
    run.write(*steps(0, 3))
    lines = [mine.next("run_event") for _ in range(5)]
    assert time.time() - began < 3
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]
    assert {line["run_id"] for line in lines} == {run.run_id}
    assert lines[2]["loss"] == 1.0
    run.end()
    assert mine.next("run_event")["kind"] == "RunStateChanged"
    while everybody.next("run_state")["run"]["state"] != "succeeded":
        pass
    assert "run_event" not in {name for name, _ in everybody.all()}  # it asked for none


def test_latest_and_unsubscribe(server: Running, listen: Callable[..., Listener], outside: Start) -> None:
    run = outside(server.root)
    eventually(lambda: known(server, run))
    one = listen()
    assert one.client.call("subscribe")["run_id"] == run.run_id
    assert one.next("run_event")["seq"] == 1
    assert one.client.call("unsubscribe", {"run_id": "latest"}) == {"run_id": run.run_id}
    run.write(*steps(0, 5))
    eventually(lambda: known(server, run, 6))
    time.sleep(0.3)
    assert "run_event" not in {name for name, _ in one.all()}


def test_the_predecessors_events_go_to_whom_they_belong(server: Running, listen: Callable[..., Listener], outside: Start) -> None:
    """To clients without a subscription for every run; to subscribers for theirs, if they ask."""
    first, second = outside(server.root, "first"), outside(server.root, "second")
    eventually(lambda: known(server, first) and known(server, second))
    old, own, plain = listen(), listen(), listen()
    own.subscribe(first.run_id, predecessor=True)
    plain.subscribe(first.run_id)
    for run in (first, second):
        run.write(StageStarted(stage="teacher", index=0, total=1), Log(stage="teacher", message=f"hello of {run.run_id}"))
    names = {"first": first.run_id, "second": second.run_id}
    assert {old.next("backend_log")["run_id"] for _ in range(2)} <= set(names.values())
    eventually(lambda: known(server, first, 3) and known(server, second, 3))
    time.sleep(0.3)
    about = {data["run_id"] for name, data in own.all() if name == "backend_log"}
    assert about == {first.run_id}
    assert not {name for name, _ in plain.all()} & {"backend_log", "training_status", "training_progress"}


def test_a_replay_translates_as_the_live_stream_did(server: Running, listen: Callable[..., Listener], outside: Start) -> None:
    run = outside(server.root)
    eventually(lambda: known(server, run))
    live = listen()
    live.subscribe(run.run_id, predecessor=True)
    run.write(StageStarted(stage="teacher", index=0, total=1), *steps(0, 40, 40), Log(stage="teacher", message="done"))
    eventually(lambda: known(server, run, 43))
    time.sleep(0.5)
    late = listen()
    assert late.subscribe(run.run_id, predecessor=True)["replayed"] == 43
    time.sleep(0.5)

    def told(listener: Listener) -> list[tuple[str, str]]:
        skipped = ("run_state", "server_ready", "run_resources")
        return [(name, json.dumps(data, sort_keys=True)) for name, data in listener.all() if name not in skipped]

    there, here = told(live), told(late)
    assert there == here
    assert len(here) > 43


# nothing lost, nothing doubled; on bare wires, for Python's client hands events over in any order


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
        """Subscribe and yield seqs."""
        self.send("42" + json.dumps(["subscribe", {"run_id": run_id, "after": after, **more}]))
        for frame in self.frames():
            if frame.startswith('42["run_event"'):
                yield json.loads(frame[2:])[1]["seq"]

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


@pytest.fixture
def busy(server: Running, outside: Start, threads: Any) -> Iterator[tuple[Outside, Callable[[], int]]]:
    """A run that writes all the time, and what stops it and returns its last seq."""
    run, stop = outside(server.root), threading.Event()

    def write() -> None:
        step = 0
        while not stop.is_set():
            run.write(*steps(step, 5))
            step += 5
            time.sleep(0.02)

    writer = threads(write)

    def end() -> int:
        stop.set()
        writer.join()
        return run.write()

    eventually(lambda: known(server, run, 100))
    yield run, end
    stop.set()


def test_no_event_is_lost_or_doubled_over_fifty_disconnects(server: Running, busy: tuple[Outside, Callable[[], int]]) -> None:
    """The client is cut off in the middle of everything, and comes back with the last seq that it has."""
    run, end = busy
    rng, seen = random.Random(1), [0]
    for _ in range(50):
        wire = Wire(server, rng.choice(["websocket", "polling"]))
        stream = wire.follow(run.run_id, seen[-1])
        seen += [next(stream) for _ in range(rng.choice([0, 1, 3, 30, 150]))]
        wire.cut()
    last = end()
    wire = Wire(server, "websocket")
    stream = wire.follow(run.run_id, seen[-1])
    while seen[-1] < last:
        seen.append(next(stream))
    wire.cut()
    assert seen == list(range(last + 1))


@pytest.mark.parametrize("predecessor", [False, True])
def test_subscribing_in_the_midst_of_a_flood(server: Running, busy: tuple[Outside, Callable[[], int]], predecessor: bool) -> None:
    """Replay and live stream meet somewhere; at this seam nothing may be missing or twice."""
    run, end = busy
    wires, streams = [], []
    for transport in ["websocket", "polling"] * 4:
        wires.append(Wire(server, transport))
        streams.append(wires[-1].follow(run.run_id, 0, predecessor=predecessor))
    seen = [[next(stream) for _ in range(50)] for stream in streams]
    last = end()
    for seqs, stream in zip(seen, streams, strict=True):
        while seqs[-1] < last:
            seqs.append(next(stream))
        assert seqs == list(range(1, last + 1))
    for wire in wires:
        wire.cut()


def test_a_polling_python_client_survives_a_long_replay(server: Running, listen: Callable[..., Listener], outside: Start) -> None:
    """It refuses answers with more than 16 packets, of which a replay has thousands."""
    run = outside(server.root)
    run.write(*steps(0, 2000))
    eventually(lambda: known(server, run, 2001))
    one = listen(transports=["polling"])
    assert one.subscribe(run.run_id)["replayed"] == 2001
    assert [one.next("run_event")["seq"] for _ in range(2001)] == list(range(1, 2002))
    assert one.client.connected


# nobody is held up


SMALL = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]


def _closed(wire: websocket.WebSocket) -> bool:
    """Read until the server closes, and close too."""
    try:
        while wire.recv():
            pass
    except (websocket.WebSocketException, OSError) as error:
        return not isinstance(error, websocket.WebSocketTimeoutException)
    finally:
        wire.shutdown()
    return True  # an empty frame: closed


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
    assert _closed(wire)
    other.client.emit("ping")
    assert other.next("pong", 5)


@pytest.mark.parametrize("size", [64 * 1024 + 100, 1 << 20])
def test_a_long_message_closes_the_socket(server: Running, listen: Callable[..., Listener], size: int) -> None:
    wire, other = Wire(server, "websocket").socket, listen()
    with contextlib.suppress(OSError):  # closed while it was sent
        wire.send('42["ping",{"x":"' + "x" * size + '"}]')
    assert _closed(wire)
    other.client.emit("ping")
    assert other.next("pong", 5)


def test_a_long_message_by_polling_is_refused(server: Running) -> None:
    opened = requests.get(f"{server.url}/socket.io/?EIO=4&transport=polling", timeout=10).text
    sid = re.search(r'"sid":"([^"]+)"', opened)
    assert sid
    at = f"{server.url}/socket.io/?EIO=4&transport=polling&sid={sid[1]}"
    assert requests.post(at, data="4" * 70_000, timeout=10).status_code == 413


JUNK = ["", "9", "4", "40", "42", "42[", "42[]", '42["subscribe"', "42{}", "42[1]", "451-[]", "4999999999999-[]", "44", "2probe", "\x00", "4" + "[" * 5000]


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
def test_sockets_are_counted_and_strangers_time_out(tmp_path: Any) -> None:
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
        eventually(lambda: requests.get(f"{server.url}/socket.io/?EIO=4&transport=polling", timeout=10).status_code == 200, 25)
        assert time.monotonic() - began < 20
        assert all(_closed(wire) for wire in wires)


def test_rotating_the_token_ends_the_sockets(tmp_path: Any) -> None:
    with serving(tmp_path) as server:
        one = Listener(server)
        one.next("server_ready")
        assert server.post("/api/v1/token/rotate").status_code == 200
        eventually(lambda: not one.client.connected, 10)
        one.close()


def test_clients_hear_of_the_end_at_once(tmp_path: Any) -> None:
    with serving(tmp_path) as server:
        many = [Listener(server, transports=[t]) for t in ("polling", "websocket")]
        began = time.monotonic()
        server.process.terminate()
        for one in many:
            eventually(lambda one=one: not one.client.connected, 10)
            one.close()
        assert server.process.wait(20) == 0
        assert time.monotonic() - began < 6
