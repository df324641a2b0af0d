"""python -m lessen.measure.worker: one artifact in one fresh process, answering JSON lines.

Requests on stdin, one reply each on stdout: open, warm, time, memory. The process does nothing between requests, so
that a parent which asks one worker at a time has only one runtime working. What libraries print goes to stderr.
Imports no torch; opening a torch artifact does.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lessen.measure import memory

# what each runtime is made of, imported before the memory of an import-only process is read
LIBRARIES = {"onnx": ("onnxruntime",)}
_TORCH = ("torch",)


class Worker:
    """The state of one worker: its session and its inputs."""

    def __init__(self) -> None:
        self.session: Any = None
        self.batches: dict[int, list[dict[str, Any]]] = {}
        self.device = "cpu"

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Import the runtime, note the memory, open the saved artifact and read the inputs."""
        from lessen.artifact import Artifact
        from lessen.measure.inputs import load

        artifact = Artifact(Path(request["artifact"]))
        for name in LIBRARIES.get(artifact.manifest.runtime, _TORCH):
            importlib.import_module(name)
        importlib.import_module(f"lessen.runtimes.{artifact.manifest.runtime}")
        import_only = memory.rss_bytes()
        start = time.perf_counter()
        self.device = str(request["device"])
        self.session = artifact.open(self.device, request["threads"])
        seconds = time.perf_counter() - start
        self.batches = load(Path(request["inputs"]))
        return {"import_rss_bytes": import_only, "open_seconds": seconds}

    def warm(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a few batches of one shape, untimed but for the first."""
        batches = self.batches[request["batch_size"]]
        answer = self._answer(request, [])
        start = time.perf_counter()
        answer(batches[0])
        first = time.perf_counter() - start
        for i in range(1, request["calls"]):
            answer(batches[i % len(batches)])
        return {"first_call_ms": first * 1e3}

    def time(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer batches of one shape for some seconds; return the wall time of each call and the CPU time of all.

        Models that generate: also the times of each call's tokens, the first (from the prompt on) and the further ones.
        """
        batches = self.batches[request["batch_size"]]
        token_ns: list[list[int]] = []
        answer = self._answer(request, token_ns)
        wall_ns: list[int] = []
        cpu = time.process_time_ns()
        end = time.perf_counter_ns() + int(request["seconds"] * 1e9)
        while len(wall_ns) < request["min_calls"] or time.perf_counter_ns() < end:
            batch = batches[len(wall_ns) % len(batches)]
            start = time.perf_counter_ns()
            answer(batch)
            wall_ns.append(time.perf_counter_ns() - start)
        return {"wall_ns": wall_ns, "cpu_ns": time.process_time_ns() - cpu, "token_ns": token_ns}

    def _answer(self, request: dict[str, Any], token_ns: list[list[int]]) -> Callable[[dict[str, Any]], Any]:
        """Return what answers a batch: logits, or `tokens` new tokens whatever they are, each one's time noted."""
        if not request.get("tokens"):
            answer: Callable[[dict[str, Any]], Any] = self.session.logits
            return answer

        def generate(batch: dict[str, Any]) -> None:
            times = []
            start = time.perf_counter_ns()
            logits, state = self.session.start(batch)
            ids = logits.argmax(axis=1)
            times.append(time.perf_counter_ns() - start)
            for _ in range(request["tokens"] - 1):
                start = time.perf_counter_ns()
                logits, state = self.session.step(state, ids)
                ids = logits.argmax(axis=1)
                times.append(time.perf_counter_ns() - start)
            token_ns.append(times)

        return generate

    def memory(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the peak resident memory so far, and on a GPU the peak of its allocator."""
        reply: dict[str, Any] = {"peak_rss_bytes": memory.peak_rss_bytes(), "torch_imported": "torch" in sys.modules}
        if self.device.startswith("cuda") and "torch" in sys.modules:
            reply["peak_vram_bytes"] = int(sys.modules["torch"].cuda.max_memory_allocated())
        return reply


OPERATIONS = ("open", "warm", "time", "memory")


def main() -> int:
    """Serve requests until stdin ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not break the line protocol
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        operation = request["do"]
        try:
            if operation not in OPERATIONS:
                raise ValueError(f"unknown request {operation!r}")
            reply = {"ok": True, **getattr(worker, operation)(request)}
        except Exception as error:
            reply = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
