"""Processes told apart for good: a number and when it started, so that a reused number is never mistaken."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from lessen.birth import birth

MARK = "LESSEN_WORKER"  # in the environment of a worker and of all that it starts: the run's folder
SAME_SECONDS = 1.0  # dates of a start move a little when the system's clock is set
GONE = (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied)


@dataclass(frozen=True)
class Identity:
    """A process, and when it started: as `lessen.birth` tells it.

    Where the system cannot tell that, and in records of older versions, it is the date in seconds since 1970.
    """

    pid: int
    started: str | float


def identify(pid: int) -> Identity | None:
    """Return who has a number right now; None where nobody has."""
    try:
        return Identity(pid, birth(pid) or psutil.Process(pid).create_time())
    except GONE:
        return None


def began(pid: int) -> float | None:
    """Return when a process started, in seconds since 1970 by the clock of now; None where it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except GONE:
        return None


def find(who: Identity) -> psutil.Process | None:
    """Return a process that still runs; None where it is gone, a zombie, or its number is another's by now."""
    try:
        process = psutil.Process(who.pid)
        return process if _same(process, who) and process.status() != psutil.STATUS_ZOMBIE else None
    except GONE:
        return None


def _same(process: psutil.Process, who: Identity) -> bool:
    if isinstance(who.started, str):
        return birth(process.pid) == who.started
    return bool(abs(process.create_time() - who.started) < SAME_SECONDS)


def living(some: Iterable[Identity]) -> set[Identity]:
    """Return those that still run."""
    return {who for who in some if find(who) is not None}


def family(who: Identity) -> set[Identity]:
    """Return a process and all below it, whatever sessions they made for themselves."""
    process = find(who)
    found = {who} if process is not None else set()
    if process is not None:
        with contextlib.suppress(*GONE):
            found |= {i for child in process.children(recursive=True) if (i := identify(child.pid)) is not None}
    return found


def marked(folder: Path) -> set[Identity]:
    """Return the processes that work for a run's folder, found by their environment, even without a parent."""
    want = str(folder)
    mine = {os.getpid(), *_ancestors()}
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(*GONE):
            if process.pid not in mine and process.environ().get(MARK) == want:
                found |= {who for who in [identify(process.pid)] if who is not None}
    return living(found)


def send(some: Iterable[Identity], number: signal.Signals) -> None:
    """Send a signal to those that still run."""
    for who in some:
        process = find(who)
        if process is not None:
            with contextlib.suppress(*GONE):
                process.send_signal(number)


def _ancestors() -> Iterator[int]:
    with contextlib.suppress(*GONE):
        for parent in psutil.Process().parents():
            yield parent.pid
