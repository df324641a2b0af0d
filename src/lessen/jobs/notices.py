"""What a supervisor tells its listeners, and the list of them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lessen.store import RunRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Events:
    """New lines of a run's events.jsonl, in order; they are in the store already."""

    run_id: str
    events: list[dict[str, Any]]


@dataclass(frozen=True)
class State:
    """A run went into another state or has another place in the queue; `position` as of Supervisor.position."""

    record: RunRecord
    position: int | None


@dataclass(frozen=True)
class Resources:
    """What the processes of a run use: one sample.

    Attributes:
        ts: seconds since 1970.
        cpu_percent: of one core; 200 are two busy cores. None in the first sample, which has nothing to compare with.
        rss_bytes: resident memory, summed over the processes; pages that they share are counted in each.
        gpu_bytes: what torch holds on the GPU; None where it uses none.
        children: processes besides the worker itself.
    """

    run_id: str
    ts: float
    cpu_percent: float | None
    rss_bytes: int
    gpu_bytes: int | None
    children: int


Notice = Events | State | Resources
Callback = Callable[[Notice], None]


class Listeners:
    """Callbacks and the notices that wait for them. One that raises is reported and stops nothing."""

    def __init__(self) -> None:
        self._callbacks: list[Callback] = []
        self._waiting: deque[Notice] = deque()
        self._lock = threading.Lock()

    def add(self, callback: Callback) -> Callable[[], None]:
        """Add a callback and return the function that takes it off again."""
        with self._lock:
            self._callbacks = [*self._callbacks, callback]

        def remove() -> None:
            with self._lock:
                self._callbacks = [c for c in self._callbacks if c is not callback]

        return remove

    def post(self, notice: Notice) -> None:
        """Put a notice in line; any thread may."""
        self._waiting.append(notice)

    def deliver(self) -> None:
        """Hand every waiting notice to every callback, in order."""
        while self._waiting:
            notice = self._waiting.popleft()
            for callback in self._callbacks:
                try:
                    callback(notice)
                except Exception:
                    log.exception("a listener failed on %s", type(notice).__name__)
