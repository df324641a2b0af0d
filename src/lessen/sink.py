"""Whoever watches a run hears of its events, and can never end it: a watcher that fails is left out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from lessen.errors import Cancelled
from lessen.eventlog import NotRecorded
from lessen.events import Event

log = logging.getLogger(__name__)


class Sink:
    """Passes events on; where that raises, it is reported once and the watcher is told no more.

    Cancelled, KeyboardInterrupt and SystemExit go through, and so does what concerns the run's own record.

    Args:
        to: is told of every event.
        report: is told in one line, once, why `to` is left out from then on.
    """

    def __init__(self, to: Callable[[Event], None], report: Callable[[str], None] | None = None) -> None:
        self._to: Callable[[Event], None] | None = to
        self._report = report or warn

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if self._to is None:
            return
        try:
            self._to(event)
        except (Cancelled, NotRecorded):
            raise
        except Exception as error:
            self._to = None
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            self._report(f"a watcher of the run failed and is told no more; the run goes on ({why})")


def warn(text: str) -> None:
    """Warn on standard error by `logging`, where it can be had."""
    with suppress(Exception):  # logging reports what it cannot write on standard error, which may be what broke
        log.warning("%s", text)


class Steady:
    """A text stream for people: where it breaks, it falls silent for good and never raises.

    It breaks where a pipe lost its reader (`lessen run 2>&1 | head`), a terminal was closed, or its disk is full. Its
    descriptor is pointed at nothing then, so that others who write to it are not stopped either.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream, self._broken = stream, stream is None

    def write(self, text: str) -> int:
        """Write a text, or not."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, if it can be."""
        self._try("flush")

    def say(self, line: str) -> None:
        """Write a line at once."""
        self.write(f"{line}\n")
        self.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, name: str, *given: str) -> None:
        if self._broken:
            return
        try:
            getattr(self._stream, name)(*given)
        except (OSError, ValueError):  # ValueError: it was closed
            self._broken = True
            with suppress(Exception):
                self._point_at_nothing()

    def _point_at_nothing(self) -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nothing, self.fileno())
        finally:
            os.close(nothing)


def talk() -> Steady:
    """Return standard error as it is right now, made steady."""
    return Steady(sys.stderr)
