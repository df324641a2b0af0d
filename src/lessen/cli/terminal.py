"""Standard output carries data, standard error carries talk."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lessen.errors import LessenError
from lessen.sink import talk

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 400  # columns of a table that goes to a file or a pipe: nothing is cut


@dataclass(frozen=True)
class Terminal:
    """What a command speaks through; made from the flags that every command has."""

    json: bool = False  # exactly one JSON object on standard output
    quiet: bool = False
    verbose: int = 0
    no_color: bool = False
    debug: bool = False
    lines: bool = False  # events as JSON lines on standard output, and nothing else

    @property
    def plain(self) -> bool:
        """Whether colours are unwanted: --no-color, NO_COLOR or TERM=dumb; FORCE_COLOR wins over the last."""
        if self.no_color or os.environ.get("NO_COLOR"):
            return True
        return os.environ.get("TERM") == "dumb" and not os.environ.get("FORCE_COLOR")

    @property
    def live(self) -> bool:
        """Whether progress bars can be drawn on standard error."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not self.quiet

    def say(self, text: str) -> None:
        """Talk to people; --quiet silences it."""
        if not self.quiet:
            talk().say(text)

    def text(self, text: str) -> None:
        """Print data; left out with --json, where `answer` prints the object."""
        if not (self.json or self.lines):
            print(text)

    def answer(self, value: dict[str, Any]) -> None:
        """Print the one JSON object, with --json."""
        if self.json and not self.lines:
            print(json.dumps(value, ensure_ascii=False, default=str))

    def fail(self, error: LessenError) -> int:
        """Print one line (and the JSON object with --json) and return the exit code."""
        talk().say(f"error: {error}")
        replace(self, lines=False, json=self.json or self.lines).answer(
            {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
        )
        return error.exit_code

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows as a table; left out with --json."""
        if self.json or self.lines:
            return
        from rich.table import Table

        table = Table()
        for index, name in enumerate(columns):
            numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
            table.add_column(name, justify="right" if numeric else "left")
        for row in rows:
            table.add_row(*row)
        self.draw(table)

    def draw(self, table: Table) -> None:
        """Print a rich table: ruled on a terminal, bare columns in a pipe; left out with --json."""
        if self.json or self.lines:
            return
        from rich import box
        from rich.console import Console

        on_screen = sys.stdout.isatty()
        table.box = box.SIMPLE_HEAD if on_screen else None
        table.pad_edge = False
        console = Console(no_color=self.plain or None, width=None if on_screen else WIDE, highlight=False)
        if on_screen:
            console.print(table)
            return
        with console.capture() as caught:
            console.print(table)
        print("\n".join(line.rstrip() for line in caught.get().splitlines()))


def _is_number(cell: str) -> bool:
    return cell[:1].isdigit() or cell[:1] in ("-", "+", "±", "–", "")
