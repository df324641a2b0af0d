"""Where a run's numbers go beside its own folder: one file each, opened by its name. A logger never ends a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from lessen import plugins
from lessen.events import Event
from lessen.sink import Sink, warn

__all__ = ["Logger", "opened", "require"]


class Logger(Protocol):
    """What a file of this folder opens: `open(folder) -> Logger`."""

    def __call__(self, event: Event) -> None:
        """Write what an event tells."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def require(names: Sequence[str]) -> None:
    """Refuse loggers that do not exist, or whose library is not installed.

    Raises:
        UnknownNameError: there is none of this name; the message lists those there are.
        UnavailableError: its library is not installed; names the extra that brings it.
    """
    for name in names:
        plugins.find("loggers", name).require()


@contextmanager
def opened(
    names: Sequence[str], folder: Path, emit: Callable[[Event], None] | None = None
) -> Iterator[Callable[[Event], None]]:
    """Yield an `emit` that passes events on to loggers, then to another `emit`.

    A logger that fails is left out from then on with a warning; what `emit` raises is passed on.

    Args:
        names: of loggers, each once.
        folder: of the run; a logger writes below it.

    Raises:
        UnknownNameError, UnavailableError: as for `require`.
    """
    require(names)
    names = names if os.environ.get("RANK", "0") == "0" else ()  # of the processes of a `torchrun`, one writes
    loggers: list[Logger] = [plugins.find("loggers", name).open(folder) for name in dict.fromkeys(names)]

    def told(name: str) -> Callable[[str], None]:
        return lambda text: warn(f"{name}: {text}")

    sinks = [Sink(logger, told(name)) for name, logger in zip(dict.fromkeys(names), loggers, strict=True)]

    def pass_on(event: Event) -> None:
        for sink in sinks:
            sink(event)
        if emit is not None:
            emit(event)

    with ExitStack() as stack:
        for logger in loggers:
            stack.callback(_close, logger)
        yield pass_on


def _close(logger: Logger) -> None:
    try:
        logger.close()
    except Exception as error:  # as everywhere here: the run goes on
        warn(f"a logger could not be closed ({type(error).__name__}: {error})")
