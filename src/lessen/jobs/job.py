"""One run that has a worker: its lease, its cancel, its end."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lessen.events import RunState
from lessen.folder import read_state
from lessen.jobs import tree
from lessen.jobs.process import Process, death
from lessen.jobs.timing import Timing
from lessen.jobs.usage import Meter, cpu_seconds

Why = Literal["cancelled", "the server stopped"]
TERM_EVERY_SECONDS = 2.0
KILL_EVERY_SECONDS = 0.5  # looking for all its processes takes some milliseconds
BUSY_SHARE = 0.02  # of a core: little, for the machine may be crowded; one that hangs uses less
ABORT_SECONDS = 1.0  # a worker whose lease ran out may write where it hangs


@dataclass(frozen=True)
class Ending:
    """How a run ended; `error` holds message, hint and exit_code, of a dead worker also signal and stderr."""

    state: RunState
    reason: str = ""
    error: dict[str, Any] | None = None


class Job:
    """A run with a worker. `step` is called at every tick and never waits.

    Args:
        now: seconds of the supervisor's clock.

    Raises:
        OSError: the worker cannot be started.
    """

    def __init__(self, run_id: str, folder: Path, command: Sequence[str], timing: Timing, now: float) -> None:
        self.run_id, self.folder, self._timing = run_id, folder, timing
        self.process = Process(command, folder)
        self.meter = Meter(run_id, self.process.identity)
        self.gpu_bytes: int | None = None
        self.heard_at = now
        self.why: Why | None = None  # it was asked to stop
        self.asked_at = 0.0
        self._lost = ""  # why it was given up
        self._cpu = 0.0  # seconds that the worker had used at its last heartbeat
        self._seen_at = now
        self._termed_at = 0.0
        self._killed = False
        self._killed_at = 0.0
        self._kill_at: float | None = None
        self._said: dict[str, Any] | None = None
        self._gone_at: float | None = None

    @property
    def who(self) -> tree.Identity:
        """The worker."""
        return self.process.identity

    def cancel(self, now: float) -> None:
        """Ask the worker to stop for good; again: nothing new."""
        if self.why != "cancelled":
            self.why, self.asked_at = "cancelled", now
            self.process.tell("cancel")

    def interrupt(self, now: float) -> None:
        """Ask the worker to save and leave, since the server stops."""
        if self.why is None:
            self.why, self.asked_at = "the server stopped", now
        self.process.hang_up()

    def kill(self, now: float) -> None:
        """End the worker and everything that it started, also what left its session or lost its parent."""
        if not self._killed or now - self._killed_at >= KILL_EVERY_SECONDS:
            self._killed, self._killed_at = True, now
            tree.send(self._everyone(), signal.SIGKILL)

    def step(self, now: float) -> Ending | None:
        """Hear, judge and push; return how the run ended once no process of it is left."""
        self._listen(now)
        code = self.process.poll()
        if code is None:
            self._push(now)
            self._seen_at = now
            return None
        if self._gone_at is None:
            self._gone_at = now
            self._listen(now)
        left = self._everyone()
        if left and now - self._gone_at < self._timing.final - self._timing.kill:
            tree.send(left, signal.SIGKILL)
            return None
        self.process.close()
        return self._ending(code)

    def _listen(self, now: float) -> None:
        if now - self._seen_at > self._timing.pause:  # the machine slept: nobody could be heard
            self.heard_at += now - self._seen_at
        for message in self.process.messages():
            self.heard_at = now
            self._cpu = cpu_seconds(self.who)
            if message.get("kind") == "heartbeat":
                self.gpu_bytes = message.get("gpu_bytes")
            elif message.get("kind") == "end":
                self._said = message
                self._kill_at = now + self._timing.leave

    def _push(self, now: float) -> None:
        """See to it that a worker ends which shall end."""
        timing = self._timing
        if self.why is not None:
            since = now - self.asked_at
            if since >= timing.kill:
                self.kill(now)
            elif since >= timing.term and now - self._termed_at >= TERM_EVERY_SECONDS:
                self._termed_at = now
                tree.send([self.who], signal.SIGTERM)
        if self._kill_at is not None and now >= self._kill_at:
            self.kill(now)
        elif not self._lost and self._said is None and now - self.heard_at > timing.lease and not self._busy(now):
            self._lost = f"the worker gave no sign of life for {now - self.heard_at:.0f} s and was ended"
            self._kill_at = now + ABORT_SECONDS
            tree.send([self.who], signal.SIGABRT)  # leaves its Python stack in the log
            tree.send([self.who], signal.SIGCONT)

    def _busy(self, now: float) -> bool:
        """Whether a worker without heartbeats computes: Python may be kept out by a library for long."""
        silent = now - self.heard_at
        worked = cpu_seconds(self.who) - self._cpu
        return silent < self._timing.lease * self._timing.busy_leases and worked > BUSY_SHARE * silent

    def _everyone(self) -> set[tree.Identity]:
        known = {*self.meter.members, *tree.family(self.who), *tree.marked(self.folder)}
        for who in list(known):
            known |= tree.family(who)
        return tree.living(known)

    def _ending(self, code: int) -> Ending:
        said = self._said or {}
        if said.get("state") == "succeeded" or read_state(self.folder).get("state") == "succeeded":
            return Ending("succeeded")
        error: dict[str, Any] = dict(said.get("error") or {})
        words = self.process.last_words()
        if self.why == "cancelled":
            how = "the run was cancelled" + ("; its processes had to be killed" if self._killed else "")
            return Ending("cancelled", how, {"message": how, "hint": "resume it to go on", "exit_code": 75})
        if self._lost:
            return Ending("failed", self._lost, {**death(code, words), "message": self._lost, "hint": "see worker.log"})
        if self.why is not None or said.get("state") == "interrupted":
            reason = self.why or str(error.get("message", "the worker was asked to end"))
            return Ending("interrupted", reason, {"message": reason, "hint": "resume it to go on", "exit_code": 75})
        if code == 75 and not said:  # it was asked to end by a signal, and what ran there never returned to Python
            reason = "the worker was asked to end by a signal"
            return Ending("interrupted", reason, {"message": reason, "hint": "resume it to go on", "exit_code": 75})
        if said:
            return Ending("failed", str(error.get("message", "")), {**error, "stderr": words})
        error = death(code, words)
        return Ending("failed", error["message"], error)
