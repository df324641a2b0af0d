"""A server in a process of its own, and runs that somebody else writes, for tests of the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from lessen.eventlog import EventLog
from lessen.events import Event, RunStateChanged
from lessen.folder import EVENTS, RunFolder, lock, new_id, prepare
from lessen.recipe import parse

BASE = "http://127.0.0.1:5001"  # the default port's; the Host of every TestClient
START_S = 60.0


@dataclass(frozen=True)
class Running:
    """A server in its own process."""

    url: str
    login_url: str
    token: str
    root: Path
    log: Path  # what it said on standard error
    process: subprocess.Popen[str]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def request(self, method: str, path: str, **more: Any) -> requests.Response:
        return requests.request(
            method, self.url + path, headers=self.headers | more.pop("headers", {}), timeout=60, **more
        )

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> requests.Response:
        return self.request("POST", path, **more)


@contextmanager
def serving(folder: Path, *flags: str, runs: Path | None = None, stop: bool = True) -> Iterator[Running]:
    """Run `lessen serve` on a free port until the end; its runs lie in `runs`, or folder/runs."""
    folder.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "LESSEN_TOKEN_FILE": str(folder / "token"), "OMP_NUM_THREADS": "1"}
    env.pop("LESSEN_TOKEN", None)
    command = [sys.executable, "-m", "lessen", "serve", "--json", "-v", "--port", "0", *flags]
    command += ["--runs", str(runs or folder / "runs")]
    log = folder / "server.log"
    with (
        log.open("a", encoding="utf-8") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=env, cwd=folder, start_new_session=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text(encoding="utf-8")
            told = json.loads(line)
            token = Path(told["token_file"]).read_text(encoding="ascii").strip() if told["auth"] else ""
            running = Running(told["url"], told["login_url"], token, Path(told["root"]), log, process)
            _until_answers(running)
            yield running
        finally:
            if stop and process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _until_answers(server: Running) -> None:
    end = time.monotonic() + START_S
    while True:
        try:
            requests.get(f"{server.url}/test", timeout=5)
        except requests.ConnectionError:
            assert server.process.poll() is None, server.log.read_text(encoding="utf-8")
            assert time.monotonic() < end
            time.sleep(0.05)
        else:
            return


class Outside:
    """A run that another process writes, as `lessen run` in a shell does: a claimed folder and its events."""

    def __init__(self, root: Path, name: str = "outside") -> None:
        self.run_id = new_id(name)
        self.path = root / self.run_id
        recipe = parse({"name": name})
        prepare(self.path, recipe, self.run_id, origin="cli")
        self._stack = ExitStack()
        self._stack.enter_context(lock(self.path))
        self._folder = RunFolder(self.path, self.run_id)
        self._folder.set_state("running", attempt=1, pid=os.getpid())
        self._log = self._stack.enter_context(EventLog(self.path / EVENTS, 1))
        self.write(RunStateChanged(state="running"))

    def write(self, *events: Event) -> int:
        """Write events; return the seq of the last."""
        for event in events:
            self._log.append(event)
        return self._log.seq

    def end(self) -> None:
        """Succeed and let go of the folder."""
        self._folder.set_state("succeeded")
        self.write(RunStateChanged(state="succeeded"))
        self.close()

    def close(self) -> None:
        """Let go of the folder."""
        self._stack.close()


def eventually(check: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return what a check returns once that is true; fail after some seconds."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)
