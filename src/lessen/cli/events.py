"""--jsonl and --log-to: the events of a run as JSON lines on standard output, and to loggers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lessen.cli.parser import Parser
from lessen.cli.terminal import Terminal
from lessen.errors import RecipeError, UnknownNameError
from lessen.eventlog import finite
from lessen.events import Event
from lessen.sink import Sink

Emit = Callable[[Event], None]


def add(parser: Parser) -> None:
    """Add --jsonl and --log-to."""
    parser.add_argument(
        "--jsonl", action="store_true", help="print the run's events on standard output, one JSON object a line"
    )
    parser.add_argument(
        "--log-to", action="append", default=[], metavar="NAME",
        help="also write the run's numbers to tensorboard (in RUN/tensorboard); needs lessen[loggers]",
    )  # fmt: skip


def checked(args: argparse.Namespace, terminal: Terminal) -> Terminal:
    """Refuse what does not go together before anything starts; return the terminal of a run.

    Raises:
        RecipeError: --jsonl beside --json or --dry-run, or --log-to with --server.
        UnknownNameError, UnavailableError: a logger that there is not.
    """
    from lessen import loggers

    if args.jsonl and terminal.json:
        raise RecipeError("--json and --jsonl are both given", "give one: standard output is one object, or lines")
    if args.jsonl and getattr(args, "dry_run", False):
        raise RecipeError("--jsonl is given with --dry-run, where nothing happens", "--json prints the plan")
    if args.log_to and getattr(args, "server", None):
        raise RecipeError("--log-to is given with --server", "loggers write where the run is: run it in a shell")
    try:
        loggers.require(args.log_to)
    except UnknownNameError as error:
        raise RecipeError(f"--log-to: {error.message}", error.hint) from None
    return replace(terminal, lines=args.jsonl)


def both(emit: Emit, terminal: Terminal) -> Emit:
    """Return an `emit` that prints a JSON line too, where they are asked for; who reads them never ends the run."""
    if not terminal.lines:
        return emit
    lines = Sink(lambda event: line(event.as_dict()))

    def pass_on(event: Event) -> None:
        lines(event)
        emit(event)

    return pass_on


def line(values: Mapping[str, Any]) -> None:
    """Print one JSON line at once."""
    print(json.dumps(finite(values), ensure_ascii=False, default=str, allow_nan=False), file=sys.stdout, flush=True)
