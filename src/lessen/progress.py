"""Events -> the terminal: bars with rate and ETA where they can be drawn, else a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TextIO, cast

from lessen.events import Event, Log, Progress, RowMeasured, RunFinished, StageFinished, StageSkipped, StageStarted
from lessen.sink import Sink, Steady, talk

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

LINE_SECONDS = 10.0  # between two plain lines of one stage
SHOWN = ("val_f1_macro", "val_accuracy", "val_loss", "lr")
SCORES = ("f1_macro", "bleu", "perplexity", "bits_per_byte")  # of a measured row, where it has them


@contextmanager
def watcher(
    *, live: bool, quiet: bool = False, verbose: int = 0, plain: bool = False
) -> Iterator[Callable[[Event], None]]:
    """Yield an `emit` that shows a run's events on standard error, and falls silent where that breaks.

    Args:
        live: draw bars; else plain lines.
        quiet: show errors only.
        verbose: 1 shows each validation score as a line of its own too.
        plain: no colours.
    """
    if quiet:
        yield Sink(_errors_only)
    elif live:
        from rich.console import Console

        # rich would end the process where a pipe breaks
        with _bars(Console(file=cast("IO[str]", talk()), stderr=True, no_color=plain or None)) as bars:
            yield Sink(Drawn(bars, verbose))
    else:
        yield Sink(Lines(talk(), verbose))


def duration(seconds: float) -> str:
    """Return a span of time for people: 0.4s, 42s, 3m05s, 2h07m."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m"


class Lines:
    """One plain line per stage, warning and validation score, and one every LINE_SECONDS of progress."""

    def __init__(self, stream: TextIO | Steady, verbose: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream if isinstance(stream, Steady) else Steady(stream)
        self.verbose, self.clock = verbose, clock
        self.started = self.spoke = clock()
        self.first_step: int | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, StageStarted):
            self.started = self.spoke = self.clock()
            self.first_step = None
        if isinstance(event, Progress):
            self._progress(event)
        else:
            self._print(_line(event))

    def _progress(self, event: Progress) -> None:
        if self.first_step is None:
            self.first_step, self.started = event.step, self.clock()
        scored = "val_loss" in event.values
        due = self.clock() - self.spoke >= LINE_SECONDS
        if not due and not (scored and self.verbose):
            return
        self.spoke = self.clock()
        took, done = self.clock() - self.started, event.step - self.first_step
        rate = done / took if took > 0 and done > 0 else None
        parts = [f"{event.stage}: {event.step}/{event.total_steps} {event.unit}"]
        if rate is not None:
            parts += [f"{rate:.1f}/s", f"ETA {duration((event.total_steps - event.step) / rate)}"]
        self._print(", ".join([*parts, *_values(event)]))

    def _print(self, text: str) -> None:
        if text:
            self.stream.say(text)


class Drawn:
    """A bar per stage, with lines above it."""

    def __init__(self, bars: Bars, verbose: int = 0) -> None:
        self.bars, self.verbose = bars, verbose
        self.task: TaskID | None = None
        self.key: tuple[str, str] | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Progress):
            self._progress(event)
            return
        if not isinstance(event, Log):
            self._close()
        text = _line(event)
        if text:
            self.bars.console.print(text, markup=False, highlight=False)

    def _progress(self, event: Progress) -> None:
        if self.key != (event.stage, event.unit):
            self._close()
            self.key = (event.stage, event.unit)
            self.task = self.bars.add_task(event.stage, total=event.total_steps, start=True, unit=event.unit, note="")
        if self.task is not None:
            note = ", ".join(_values(event))
            self.bars.update(self.task, completed=event.step, total=event.total_steps, note=note)
        if self.verbose and "val_loss" in event.values:
            self.bars.console.print(f"  step {event.step}: {', '.join(_values(event))}", markup=False, highlight=False)

    def _close(self) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.key = None


def _bars(console: Console) -> Bars:
    from rich import progress
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        """Steps per second."""

        def render(self, task: progress.Task) -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(bar_width=28),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[unit]}"),
        Rate(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        console=console,
        transient=True,
    )


def _line(event: Event) -> str:
    match event:
        case StageStarted():
            return f"[{event.index + 1}/{event.total}] {event.stage}"
        case StageSkipped():
            return f"  {event.stage}: found finished in {event.artifact}"
        case StageFinished():
            return f"  {event.stage}: {event.artifact} in {duration(event.seconds)}"
        case Log():
            mark = "" if event.level == "info" else f"{event.level}: "
            return f"  {mark}{event.message}"
        case RowMeasured():
            return f"  {event.stage}: {', '.join(_measured(event))}" if _measured(event) else ""
        case RunFinished():
            return f"report: {event.report} ({duration(event.seconds)})"
    return ""


def _measured(event: RowMeasured) -> list[str]:
    shown = []
    others = (("file_bytes", 1e-6, " MB"), ("latency_p50_ms", 1.0, " ms"))
    for name, scale, unit in (*((score, 1.0, "") for score in SCORES), *others):
        value = event.metrics.get(name)
        if value is not None:
            digits = 4 if name in SCORES else 2
            shown.append(f"{name.removesuffix('_ms').replace('file_bytes', 'size')} {value * scale:.{digits}f}{unit}")
    return shown


def _values(event: Progress) -> list[str]:
    loss = [] if event.loss is None else [f"loss {event.loss:.4g}"]
    return loss + [f"{name} {event.values[name]:.4g}" for name in SHOWN if name in event.values]


def _errors_only(event: Event) -> None:
    if isinstance(event, Log) and event.level == "error":
        talk().say(f"error: {event.message}")
