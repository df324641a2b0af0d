"""What a hundred dashboards cost a server that trains: delay of its events, of its answers, and its memory over time.

A real `lessen serve` on a temporary folder trains one run after the other. Clients (WebSocket, the Engine.IO protocol,
in a few processes of their own) subscribe to every run; each event carries the time at which the worker wrote it, and
all clocks are this machine's. `/test` is asked beside them, and the server's process is looked at every second:

    python benchmarks/serve_load.py                    # 100 clients, 10 minutes; writes benchmarks/serve_load.json
    python benchmarks/serve_load.py --minutes 1 --clients 20 --out try.json
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import requests
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lessen.measure import environment

PACKAGES = ("lessen", "fastapi", "uvicorn", "python-socketio", "python-engineio", "websockets", "SQLAlchemy")
FINAL = ("succeeded", "failed", "cancelled", "interrupted")
WARM_S = 60.0  # memory is held to be at rest after it, or after a quarter of a shorter time
PROMISES = {"event_to_client_p99_ms": 250.0, "test_p99_ms": 50.0, "rss_growth_percent": 10.0}


class Watcher:
    """One client: follows every run it hears of, and audits the order of what it is sent."""

    def __init__(self, url: str, token: str, delays: array[float]) -> None:
        self.url, self.token, self.delays = url, token, delays
        self.last: dict[str, int] = {}  # the newest seq of each run
        self.gaps = self.doubled = self.events = self.dropped = 0
        self._replies: dict[int, str] = {}
        self._held: dict[str, list[tuple[int, float]]] = {}  # seq and delay of what came before a subscription's answer
        self._next = 0

    async def watch(self, stop: Event) -> None:
        """Stay connected until told to stop; a lost connection is counted and made again."""
        while not stop.is_set():
            try:
                async with connect(self.url, max_size=1 << 20, ping_interval=None, open_timeout=60) as socket:
                    await self._session(socket, stop)
            except (ConnectionClosed, OSError, TimeoutError):
                self.dropped += not stop.is_set()
                await asyncio.sleep(1)

    async def _session(self, socket: ClientConnection, stop: Event) -> None:
        await socket.recv()  # Engine.IO's handshake
        await socket.send("40" + json.dumps({"token": self.token}))
        followed: set[str] = set()
        while not stop.is_set():
            try:
                raw = await asyncio.wait_for(socket.recv(), 1)
            except TimeoutError:
                continue
            arrived, text = time.time(), str(raw)
            if text == "2":
                await socket.send("3")
            elif text.startswith("44"):
                raise OSError(f"refused: {text}")
            elif text.startswith("43"):
                self._acknowledged(text)
            elif text.startswith("42"):
                name, body = json.loads(text[2:])[:2]
                if name == "run_event":
                    self._event(body, arrived)
                elif name == "run_state" and body["run"]["run_id"] not in followed:
                    followed.add(body["run"]["run_id"])
                    await self._subscribe(socket, body["run"]["run_id"])

    async def _subscribe(self, socket: ClientConnection, run_id: str) -> None:
        self._replies[self._next] = run_id
        self._held[run_id] = []
        body = json.dumps(["subscribe", {"run_id": run_id, "after": self.last.get(run_id, 0)}])
        await socket.send(f"42{self._next}{body}")
        self._next += 1

    def _acknowledged(self, text: str) -> None:
        number, _, _ = text[2:].partition("[")
        answer = json.loads(text[2 + len(number) :])
        run_id = self._replies.pop(int(number))
        if "run_id" not in answer[0]:
            raise OSError(f"no subscription to {run_id}: {answer}")
        # what was replayed had waited for the subscription, not for the server
        self.delays.extend(delay for seq, delay in self._held.pop(run_id) if seq > answer[0]["seq"])

    def _event(self, line: dict[str, Any], arrived: float) -> None:
        run_id, seq = line["run_id"], line["seq"]
        known = self.last.get(run_id, 0)
        self.events += 1
        self.doubled += seq <= known
        self.gaps += max(0, seq - known - 1)
        self.last[run_id] = max(seq, known)
        delay = (arrived - line["ts"]) * 1000
        if run_id in self._held:
            self._held[run_id].append((seq, delay))
        else:
            self.delays.append(delay)


def watch_many(url: str, token: str, count: int, stop: Event, out: Queue[dict[str, Any]]) -> None:
    """Run some clients in this process; put what they saw into the queue at the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    delays: array[float] = array("d")
    watchers = [Watcher(url, token, delays) for _ in range(count)]

    async def all_of_them() -> None:
        await asyncio.gather(*(watcher.watch(stop) for watcher in watchers))

    asyncio.run(all_of_them())
    found = {key: sum(getattr(w, key) for w in watchers) for key in ("gaps", "doubled", "events", "dropped")}
    out.put({**found, "delays": delays.tobytes(), "fewest": min(w.events for w in watchers)})


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Run a server on a free port; yield its process, address and token."""
    env = {**os.environ, "LESSEN_TOKEN_FILE": str(folder / "token"), "OMP_NUM_THREADS": "1"}
    env.pop("LESSEN_TOKEN", None)
    command = [sys.executable, "-m", "lessen", "serve", "--json", "--port", "0", "--runs", str(folder / "runs")]
    with (
        (folder / "server.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env) as process,
    ):
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            while True:
                try:
                    requests.get(f"{told['url']}/test", timeout=5)
                    break
                except requests.ConnectionError:
                    time.sleep(0.1)
            yield process, told["url"], Path(told["token_file"]).read_text().strip()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


class Training(threading.Thread):
    """Keeps one run going: the next is started when the one before has ended."""

    def __init__(self, url: str, token: str, model: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.url, self.headers, self.model, self.stop = url, {"Authorization": f"Bearer {token}"}, model, stop
        self.runs: dict[str, str] = {}
        self.error: Exception | None = None

    def run(self) -> None:
        """Start runs until told to stop, then cancel the one that runs."""
        try:
            while not self.stop.is_set():
                run_id = self._ask("POST", "/api/v1/runs", json={"model_name": self.model, "preset": "demo"})["run_id"]
                self.runs[run_id] = "running"
                while self.runs[run_id] not in FINAL and not self.stop.wait(2):
                    self.runs[run_id] = self._ask("GET", f"/api/v1/runs/{run_id}")["state"]
                if self.runs[run_id] == "failed":
                    raise RuntimeError(f"run {run_id} failed")
            self._ask("POST", f"/api/v1/runs/{run_id}/cancel")
        except Exception as error:
            self.error = error

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer = requests.request(method, self.url + path, headers=self.headers, timeout=60, **more)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


class Asking(threading.Thread):
    """Asks /test five times a second over one connection."""

    def __init__(self, url: str, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.host, self.stop = urlsplit(url).netloc, stop
        self.times_ms: list[float] = []
        self.failed = 0

    def run(self) -> None:
        """Ask until told to stop."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        while not self.stop.wait(0.2):
            begun = time.perf_counter()
            try:
                connection.request("GET", "/test")
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                self.failed += 1
                continue
            self.failed += answer.status != 200
            self.times_ms.append((time.perf_counter() - begun) * 1000)
        connection.close()


def look(process: psutil.Process, seconds: float, alive: Any) -> list[dict[str, float]]:
    """Return the server's memory, files, threads and processor time, once a second."""
    begun, out = time.monotonic(), []
    process.cpu_percent()
    while (now := time.monotonic() - begun) < seconds and alive():
        with process.oneshot():
            out.append(
                {
                    "s": round(now, 2), "rss_bytes": process.memory_info().rss, "fds": process.num_fds(),
                    "threads": process.num_threads(), "cpu_percent": process.cpu_percent(),
                    "machine_cpu_percent": psutil.cpu_percent(),
                }
            )  # fmt: skip
        time.sleep(max(0.0, len(out) - (time.monotonic() - begun)))
    return out


def spread(values: Any) -> dict[str, float]:
    """Return percentiles of times in ms."""
    found = np.asarray(values, dtype=float)
    if not len(found):
        raise SystemExit("nothing was measured: no event arrived")
    return {"n": len(found), **{f"p{p}_ms": float(np.percentile(found, p)) for p in (50, 95, 99)},
            "max_ms": float(found.max())}  # fmt: skip


def memory(samples: list[dict[str, float]], seconds: float) -> dict[str, Any]:
    """Return how the server's memory, files and threads went after it had warmed up."""
    warm = [s for s in samples if s["s"] >= min(WARM_S, seconds / 4)]
    tenth = max(1, len(warm) // 10)
    first, last = (float(np.median([s["rss_bytes"] for s in part])) for part in (warm[:tenth], warm[-tenth:]))
    names = ("rss_bytes", "fds", "threads", "cpu_percent")
    return {
        "rss_after_warm_up_bytes": first,
        "rss_at_the_end_bytes": last,
        "rss_growth_percent": (last / first - 1) * 100,
        **{f"{name}_min": min(s[name] for s in warm) for name in names},
        **{f"{name}_max": max(s[name] for s in warm) for name in names},
        "server_cpu_percent_mean": float(np.mean([s["cpu_percent"] for s in warm])),
        "machine_cpu_percent_mean": float(np.mean([s["machine_cpu_percent"] for s in warm])),
    }  # fmt: skip


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Serve, train, watch and ask; return the figures."""
    context = multiprocessing.get_context("spawn")
    ended, out, halt = context.Event(), context.Queue(), threading.Event()
    with serving(folder) as (process, url, token):
        socket = url.replace("http", "ws", 1) + "/socket.io/?EIO=4&transport=websocket"
        shares = [len(part) for part in np.array_split(range(args.clients), args.processes)]
        crowd = [context.Process(target=watch_many, args=(socket, token, n, ended, out)) for n in shares]
        for one in crowd:
            one.start()
        headers = {"Authorization": f"Bearer {token}"}
        system = requests.get(f"{url}/api/v1/system", headers=headers, timeout=60)
        while (connected := system.json()["sockets"]) < args.clients:
            time.sleep(1)
            system = requests.get(f"{url}/api/v1/system", headers=headers, timeout=60)
        training, asking = Training(url, token, args.model, halt), Asking(url, halt)
        training.start()
        asking.start()
        samples = look(psutil.Process(process.pid), args.minutes * 60, training.is_alive)
        ended.set()
        seen = [out.get(timeout=120) for _ in crowd]
        halt.set()
        training.join(60)
        asking.join(60)
        for one in crowd:
            one.join(60)
    if training.error is not None:
        raise training.error
    delays = np.concatenate([np.frombuffer(one["delays"]) for one in seen])
    return {
        "connected": connected,
        "runs": training.runs,
        "event_to_client": spread(delays),
        "events": {key: sum(one[key] for one in seen) for key in ("events", "gaps", "doubled", "dropped")}
        | {"fewest_of_a_client": min(one["fewest"] for one in seen)},
        "test": {**spread(asking.times_ms), "failed": asking.failed},
        "server": memory(samples, args.minutes * 60),
        "samples": samples[:: max(1, len(samples) // 120)],
    }


def judged(promises: dict[str, float], reached: dict[str, float]) -> dict[str, dict[str, float | bool]]:
    """Return each bound beside what was measured."""
    return {
        name: {"at_most": most, "measured": reached[name], "kept": reached[name] <= most}
        for name, most in promises.items()
    }


def main() -> None:
    """Measure and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--model", default="distillBert")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(args, Path(folder))
    reached = {
        "event_to_client_p99_ms": figures["event_to_client"]["p99_ms"],
        "test_p99_ms": figures["test"]["p99_ms"],
        "rss_growth_percent": figures["server"]["rss_growth_percent"],
    }
    about = environment()
    result = {
        "hardware": {key: about[key] for key in ("cpu", "cores", "memory_bytes", "system")},
        "versions": {"python": about["python"], **{name: version(name) for name in PACKAGES}},
        "settings": {key: getattr(args, key) for key in ("clients", "processes", "minutes", "model")},
        "promises": judged(PROMISES, reached),
        "figures": figures,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result[key] for key in ("promises",)} | {"events": figures["events"]}, indent=1))


if __name__ == "__main__":
    main()
