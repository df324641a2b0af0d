"""What a tree of processes uses of the machine."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable

from lessen.jobs import tree
from lessen.jobs.notices import Resources

KEPT = 1800  # samples: an hour at one every two seconds


class Meter:
    """Samples one process and all below it."""

    def __init__(self, run_id: str, who: tree.Identity, clock: Callable[[], float] = time.monotonic) -> None:
        self._run_id, self.who, self._clock = run_id, who, clock
        self._cpu: dict[tree.Identity, float] = {}  # seconds of each process at the last sample
        self._at: float | None = None
        self.members: set[tree.Identity] = {who}  # at the last sample
        self.samples: deque[Resources] = deque(maxlen=KEPT)

    def sample(self, gpu_bytes: int | None = None) -> Resources | None:
        """Take a sample; None where the process is gone."""
        self.members = tree.family(self.who)
        if self.who not in self.members:
            return None
        cpu, rss = {}, 0
        for member in self.members:
            process = tree.find(member)
            if process is not None:
                with contextlib.suppress(*tree.GONE):
                    times = process.cpu_times()
                    cpu[member] = times.user + times.system
                    rss += process.memory_info().rss
        now, percent = self._clock(), None
        if self._at is not None and now > self._at:
            spent = sum(max(0.0, seconds - self._cpu.get(member, 0.0)) for member, seconds in cpu.items())
            percent = round(100 * spent / (now - self._at), 1)
        self._cpu, self._at = cpu, now
        taken = Resources(self._run_id, round(time.time(), 3), percent, rss, gpu_bytes, len(cpu) - 1)
        self.samples.append(taken)
        return taken


def cpu_seconds(who: tree.Identity) -> float:
    """Return the CPU time of one process; 0 where it is gone."""
    process = tree.find(who)
    if process is None:
        return 0.0
    try:
        times = process.cpu_times()
    except tree.GONE:
        return 0.0
    return float(times.user + times.system)
