"""A worker process seen from the supervisor: started, listened to, told, and its last words."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lessen.errors import LessenError, TrainingError
from lessen.jobs import tree
from lessen.jobs.worker import LOG_NAME

LAST_WORDS_BYTES = 4096
LINE_BYTES = 1 << 20  # a longer line is no message
LISTING = "Extension modules:"  # a crash ends with the names of all of them, which say nothing
QUIET = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
KILLED_HINTS = {
    "SIGKILL": "the system ends the largest process when memory runs out: use a smaller batch, or look at its log",
    "SIGSEGV": "a library crashed; the last lines of the worker's log say where",
}


class Process:
    """A worker in a session of its own. No method waits.

    Args:
        command: what is started; the run's folder is added to it.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self._log = folder / LOG_NAME
        with self._log.open("ab") as log:
            self._began = log.seek(0, os.SEEK_END)
            self._process = subprocess.Popen(
                [*command, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **QUIET, tree.MARK: str(folder)},
                start_new_session=True,
            )
        self.pid = self._process.pid
        # a child of ours keeps its number until we wait for it
        self.identity = tree.identify(self.pid) or tree.Identity(self.pid, 0.0)
        self._rest = b""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def messages(self) -> list[dict[str, Any]]:
        """Return what the worker has said since the last call."""
        pipe = self._process.stdout
        if pipe is None or pipe.closed:
            return []
        while True:
            try:
                chunk = os.read(pipe.fileno(), 1 << 16)
            except OSError:  # nothing there right now
                break
            if not chunk:
                break
            self._rest = (self._rest + chunk)[-LINE_BYTES:]
        *lines, self._rest = self._rest.split(b"\n")
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                found += [message] if isinstance(message, dict) else []
        return found

    def tell(self, word: str) -> None:
        """Send a word down the control pipe; a worker that is gone hears nothing."""
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed:
            with contextlib.suppress(OSError):
                os.write(pipe.fileno(), word.encode() + b"\n")

    def hang_up(self) -> None:
        """Close the control pipe: the worker takes it as the end of the server."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def last_words(self, most: int = LAST_WORDS_BYTES) -> str:
        """Return the end of what this process wrote to its log."""
        try:
            with self._log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._began if size >= self._began else 0, size - 4 * most))
                lines = log.read(4 * most).decode(errors="replace").splitlines()
        except OSError:
            return ""
        said = "\n".join(line for line in lines if not line.startswith(LISTING)).strip().encode()
        return said[-most:].decode(errors="replace")

    def close(self) -> None:
        """Let go of the pipes of a process that ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def death(code: int, words: str) -> dict[str, Any]:
    """Return the error of a worker that ended by itself, without a word."""
    if code < 0:
        name = _signal_name(-code)
        error = TrainingError(f"the worker was killed by {name}", KILLED_HINTS.get(name, ""))
    else:
        error = TrainingError(f"the worker ended with code {code} and said nothing of it", "look at worker.log")
    return {**told(error), **({"signal": _signal_name(-code)} if code < 0 else {}), "stderr": words}


def told(error: LessenError) -> dict[str, Any]:
    """Return an error as records and events hold it."""
    return {"message": error.message, "hint": error.hint, "exit_code": error.exit_code}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
