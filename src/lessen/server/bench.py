"""The server's helper process seen from the server: whatever needs torch, onnxruntime or weights is asked of it.

One process at most (`python -m lessen.bench`), one request at a time, JSON lines. It starts with the first request, is
started anew when it died, and ends after minutes without one. A request that takes too long, or a process that needs
too much memory, is ended and said so; the server goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from lessen import errors
from lessen.artifact import Artifact
from lessen.context import digest, write_atomic
from lessen.errors import LessenError, RateError, ResourceError

LAYERS_VERSION = 1  # of what is kept on disk
LOOK_S = 0.25  # between looks at the memory of a process at work
Reply = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What the helper process may take."""

    threads: int = 1  # of each runtime, as reports measure by default
    models: int = 8  # open at a time; the one used longest ago goes first
    memory_bytes: int = field(default_factory=lambda: psutil.virtual_memory().total // 2)
    timeout_s: float = 120.0  # of a request
    idle_s: float = 300.0  # without a request, then the process ends
    waiting: int = 16  # requests, the one at work among them


class BenchError(LessenError):
    """The helper process failed; the message says how."""

    exit_code = 1


class Bench:
    """The helper process.

    Args:
        cache: folder in which the trees of layers are kept, by digest; none: nowhere.
        limits: of the process.
    """

    def __init__(self, cache: Path | None = None, limits: Limits | None = None) -> None:
        self._cache, self._limits = cache, limits or Limits()
        self._turn = threading.Lock()  # whoever holds it talks to the process
        self._waiting = threading.BoundedSemaphore(self._limits.waiting)
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    def predict(
        self,
        stages: Mapping[str, Path],
        *,
        inputs: Sequence[str] | None = None,
        images: Sequence[str] | None = None,
    ) -> Reply:
        """Answer texts or images (base64 PNG or JPEG) with model folders, by stage.

        Returns:
            threads; stages: [{stage, runtime, answers: [{label, text, probabilities, latency_ms}], latency_ms, error}].
        """
        return self.ask("predict", stages={k: str(v) for k, v in stages.items()}, inputs=inputs, images=images)

    def test_model(self, model: str, task: str, config: Mapping[str, Any] | None = None) -> Reply:
        """Build an architecture with random weights and run one forward pass.

        Args:
            model: scratch:<preset>.

        Returns:
            model, architecture, parameters, bytes, build_ms, forward_ms, input, output: shapes; finite: whether the
            output is.
        """
        return self.ask("test_model", model=model, task=task, config=dict(config or {}))

    def layers(self, folder: Path, *, source: Path | None = None, lengths: Sequence[int] = ()) -> Reply:
        """Return the module tree of an artifact with its numbers; kept by the digest of the artifact.

        Args:
            source: folder of the torch model it was made from, which gives exported weights their modules.
            lengths: of the input that FLOPs and times are taken of: tokens or pixels a side, and tokens of the target;
                the longest when empty.
        """
        file = self._kept(folder, source, lengths)
        if file is not None:
            with contextlib.suppress(FileNotFoundError, ValueError):
                known: Reply = json.loads(file.read_text(encoding="utf-8"))
                return known
        found = self.ask("layers", folder=str(folder), source=str(source) if source else None, lengths=list(lengths))
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, json.dumps(found, allow_nan=False))
        return found

    def histogram(
        self,
        folder: Path,
        layer: str,
        *,
        bins: int = 60,
        source: Path | None = None,
        against: Path | None = None,
        against_source: Path | None = None,
    ) -> Reply:
        """Return how the weights of one layer are spread; see HistogramOut."""
        return self.ask(
            "histogram",
            folder=str(folder),
            layer=layer,
            bins=bins,
            against=str(against) if against else None,
            source=str(source) if source else None,
            against_source=str(against_source) if against_source else None,
        )

    def plan(self, recipe: Mapping[str, Any]) -> Reply:
        """Return what a recipe would do (lessen.plan)."""
        return self.ask("plan", recipe=dict(recipe))

    def rss_bytes(self) -> int | None:
        """Return the memory of the process, None where there is none."""
        process = self._process
        if process is None or process.poll() is not None:
            return None
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(process.pid).memory_info().rss)
        return None

    @property
    def pid(self) -> int | None:
        """The process, None where there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def ask(self, do: str, *, timeout: float | None = None, **request: Any) -> Reply:
        """Send one request and return its reply.

        Raises:
            RateError: too many requests wait already.
            ResourceError: the process needed more memory than it may have.
            BenchError: it died or took too long.
            LessenError: it says that what was asked cannot be done.
        """
        if not self._waiting.acquire(blocking=False):
            raise RateError("the helper process has too many requests before it", "try again in a moment")
        try:
            with self._turn:
                return self._ask(do, timeout or self._limits.timeout_s, request)
        finally:
            self._waiting.release()

    def close(self) -> None:
        """End the process, at work or not; further requests are refused."""
        self._closed = True
        process = self._process
        if process is not None:
            _kill(process)
        with self._turn:
            self._end()

    def _ask(self, do: str, timeout: float, request: Reply) -> Reply:
        if self._closed:
            raise BenchError("the server is going down", "ask again later")
        line = json.dumps({"do": do, **request}).encode() + b"\n"
        process = self._started()
        try:
            if process.stdin is None:
                raise BrokenPipeError
            process.stdin.write(line)
            process.stdin.flush()
            reply = self._reply(process, do, timeout)
        except (BrokenPipeError, ConnectionResetError):
            raise BenchError(self._last_words(do)) from None
        finally:
            self._idle()
        if not reply.pop("ok"):
            raise _error(reply["error"])
        return reply

    def _reply(self, process: subprocess.Popen[bytes], do: str, timeout: float) -> Reply:
        if process.stdout is None:
            raise BrokenPipeError
        pipe, end, raw = process.stdout.fileno(), time.monotonic() + timeout, b""
        while not raw.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0:
                self._end()
                raise BenchError(f"{do} took longer than {timeout:g} s and was ended", "try a smaller model or input")
            self._watch(do)
            ready, _, _ = select.select([pipe], [], [], min(left, LOOK_S))
            if ready:
                part = os.read(pipe, 1 << 20)
                if not part:
                    raise BenchError(self._last_words(do), "see the server's log; the next request starts it anew")
                raw += part
        reply: Reply = json.loads(raw)
        return reply

    def _watch(self, do: str) -> None:
        used = self.rss_bytes() or 0
        if used > self._limits.memory_bytes:
            self._end()
            raise ResourceError(
                f"{do} needed {used / 1e9:.1f} GB, the helper process may have "
                f"{self._limits.memory_bytes / 1e9:.1f} GB",
                "ask for fewer stages or a smaller model",
            )

    def _started(self) -> subprocess.Popen[bytes]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        count = str(self._limits.threads)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)
        self._errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 (closed in _end)
        command = [sys.executable, "-m", "lessen.bench", str(self._limits.models), count]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **threads, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
            start_new_session=True,  # Ctrl-C is for the server; the process ends when its input ends
        )
        return self._process

    def _idle(self) -> None:
        if self._process is None or self._closed:
            return
        self._timer = threading.Timer(self._limits.idle_s, self._rest)
        self._timer.daemon = True
        self._timer.start()

    def _rest(self) -> None:
        if self._turn.acquire(blocking=False):  # else it is at work, and the request sets the timer anew
            try:
                self._end()
            finally:
                self._turn.release()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        process, self._process = self._process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # it died with a request unread
                        pipe.close()
            _kill(process)
            process.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def _last_words(self, do: str) -> str:
        process, log = self._process, self._errors
        if process is None or log is None:
            return f"the helper process is gone during {do}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        code = process.poll()
        log.seek(0)
        lines = [text for text in log.read().decode(errors="replace").splitlines() if text.strip()]
        said = f": {lines[-1][:300]}" if lines else ""
        how = "went silent" if code is None else f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        self._end()
        return f"the helper process {how} during {do}{said}"

    def _kept(self, folder: Path, source: Path | None, lengths: Sequence[int]) -> Path | None:
        if self._cache is None:
            return None
        parts = {
            "version": LAYERS_VERSION,
            "artifact": Artifact(folder).digest,
            "source": source and Artifact(source).digest,
            "lengths": list(lengths),
        }
        return self._cache / f"{digest(parts)}.json"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _error(told: Reply) -> LessenError:
    """Return the error that the process tells of, of its own kind."""
    kind = getattr(errors, str(told.get("kind")), None)
    if isinstance(kind, type) and issubclass(kind, LessenError):
        return kind(told["message"], told.get("hint", ""))
    return BenchError(told["message"], told.get("hint", ""))
