"""How long the supervisor waits for what, in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Intervals and limits.

    Attributes:
        tick: between two looks at everything.
        scan: between two looks for runs that others started.
        sample: between two samples of what the processes use.
        lease: without a heartbeat, after which an idle worker counts as dead.
        busy_leases: so many leases a worker without heartbeats has while it uses the CPU: a long call into a library
            may keep Python from beating.
        term: after a cancel, until the worker is sent SIGTERM.
        kill: after a cancel, until all its processes are sent SIGKILL; what follows must end within `final`.
        final: after a cancel, until the run is final.
        leave: what a worker may take to end after it said how its run ended.
        orphans: at the start, what workers of a dead server may take to save and leave.
        pause: a gap between two ticks beyond this is a sleep of the machine, and no worker's fault.
        retry: between two attempts to write what could not be written.
        trash: that deleted runs are kept.
    """

    tick: float = 0.05
    scan: float = 2.0
    sample: float = 2.0
    lease: float = 30.0
    busy_leases: float = 10.0
    term: float = 5.0
    kill: float = 12.0
    final: float = 15.0
    leave: float = 10.0
    orphans: float = 3.0
    pause: float = 5.0
    retry: float = 0.5
    trash: float = 7 * 86400.0
