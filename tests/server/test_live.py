"""Socket.IO against a running server: who may come in, nothing lost and nothing doubled, and nobody held up."""

from __future__ import annotations

import json
import queue
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import socketio

from lessen.events import Log, StageStarted
from lessen.server import translate
from served import Outside, Running, eventually
from wires import Listener, Wire, known, steps

Start = Callable[..., Outside]


# who may come in


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]])
def test_a_client_is_greeted_on_every_transport(listen: Callable[..., Listener], transports: list[str]) -> None:
    one = listen(transports=transports)
    ready = one.next("server_ready")
    assert set(ready) == {"message", "timestamp", "ml_available", "server_version", "schema_version"}
    assert ready["ml_available"] is True
    assert ready["schema_version"] == translate.SCHEMA_VERSION == "1.0"
    if len(transports) == 2:
        eventually(lambda: one.client.transport() == "websocket")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize(
    "given", [None, {}, {"token": "x"}, {"token": None}, {"token": ["x"]}, "x", ["x"], {"token": {"a": 1}}, 7]
)
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
    5, "x", [], ["run"], {"run_id": 5}, {"run_id": ""}, {"run_id": "x" * 300}, {"after": -1}, {"after": 1.5},
    {"after": "1"},
    {"after": True}, {"after": 2**60}, {"predecessor": 1}, {"run_id": "no such run"}, {"run_id": "../../etc"},
    {"run_id": "\0"},
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


def test_the_predecessors_events_go_to_whom_they_belong(
    server: Running, listen: Callable[..., Listener], outside: Start
) -> None:
    """To clients without a subscription for every run; to subscribers for theirs, if they ask."""
    first, second = outside(server.root, "first"), outside(server.root, "second")
    eventually(lambda: known(server, first) and known(server, second))
    old, own, plain = listen(), listen(), listen()
    own.subscribe(first.run_id, predecessor=True)
    plain.subscribe(first.run_id)
    for run in (first, second):
        run.write(
            StageStarted(stage="teacher", index=0, total=1), Log(stage="teacher", message=f"hello of {run.run_id}")
        )
    names = {"first": first.run_id, "second": second.run_id}
    assert {old.next("backend_log")["run_id"] for _ in range(2)} <= set(names.values())
    eventually(lambda: known(server, first, 3) and known(server, second, 3))
    time.sleep(0.3)
    about = {data["run_id"] for name, data in own.all() if name == "backend_log"}
    assert about == {first.run_id}
    assert not {name for name, _ in plain.all()} & {"backend_log", "training_status", "training_progress"}


def test_a_replay_translates_as_the_live_stream_did(
    server: Running, listen: Callable[..., Listener], outside: Start
) -> None:
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


@pytest.mark.slow
def test_no_event_is_lost_or_doubled_over_fifty_disconnects(
    server: Running, busy: tuple[Outside, Callable[[], int]]
) -> None:
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


@pytest.mark.slow
@pytest.mark.parametrize("predecessor", [False, True])
def test_subscribing_in_the_midst_of_a_flood(
    server: Running, busy: tuple[Outside, Callable[[], int]], predecessor: bool
) -> None:
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


@pytest.mark.slow
def test_a_polling_python_client_survives_a_long_replay(
    server: Running, listen: Callable[..., Listener], outside: Start
) -> None:
    """It refuses answers with more than 16 packets, of which a replay has thousands."""
    run = outside(server.root)
    run.write(*steps(0, 2000))
    eventually(lambda: known(server, run, 2001))
    one = listen(transports=["polling"])
    assert one.subscribe(run.run_id)["replayed"] == 2001
    assert [one.next("run_event")["seq"] for _ in range(2001)] == list(range(1, 2002))
    assert one.client.connected
