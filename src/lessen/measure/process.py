"""A worker process seen from its parent: start it, ask it, stop it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from lessen.errors import LessenError


class WorkerError(LessenError):
    """A measuring process that failed; the message says how."""

    exit_code = 1


class WorkerProcess:
    """One fresh Python process that holds one artifact.

    Args:
        threads: what OMP_NUM_THREADS and its like are set to before the process starts.
        timeout: seconds a request may take.
    """

    def __init__(self, threads: int, timeout: float = 600.0) -> None:
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (closed in close)
        count = str(threads)
        limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lessen.measure.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **limits, "TOKENIZERS_PARALLELISM": "false"},
            cwd=Path.cwd(),
            start_new_session=True,  # Ctrl-C is for the run, which closes its workers; they end when their input ends
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send one request and return its reply.

        Raises:
            WorkerError: the worker died, took too long, or says that it failed.
        """
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise WorkerError("the worker has no pipes")
        try:
            process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise WorkerError(self._last_words(do)) from None
        ready, _, _ = select.select([process.stdout], [], [], self._timeout)
        if not ready:
            process.kill()
            raise WorkerError(f"{do} took longer than {self._timeout:g} s")
        line = process.stdout.readline()
        if not line:
            raise WorkerError(self._last_words(do))
        reply: dict[str, Any] = json.loads(line)
        if not reply.pop("ok"):
            raise WorkerError(f"{do} failed: {reply['error']}")
        return reply

    def close(self) -> None:
        """Stop the process; it is gone when this returns."""
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # it died with a request unread
                    pipe.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._errors.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _last_words(self, do: str) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._errors.seek(0)
        lines = [line for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        said = f": {lines[-1][:300]}" if lines else ""
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return f"the worker was {how} during {do}{said}" if code < 0 else f"the worker {how} during {do}{said}"
