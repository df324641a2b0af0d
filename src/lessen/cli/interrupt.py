"""The first Ctrl-C asks a run to stop after a checkpoint, the second kills it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from lessen.errors import Cancelled

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ASKED = b"\nstopping after a checkpoint; press Ctrl-C again to stop at once\n"


@contextmanager
def stoppable(hint: str, *, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Yield `check` for a Context: it raises Cancelled once the user or the system asked to stop.

    A second signal raises KeyboardInterrupt, a third ends the process at once. Outside the main thread, where
    Python handles no signals, `check` never raises.
    """
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) == 2:
            raise KeyboardInterrupt
        if len(asked) > 2:
            os._exit(130)
        if not quiet:
            with suppress(OSError):  # nobody reads it any more
                os.write(2, _ASKED)

    def check() -> None:
        if asked:
            raise Cancelled("stopped as asked; what was done is kept", hint)

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
