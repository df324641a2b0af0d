"""The commands, and a parser whose mistakes are one line with a suggestion. Imports neither torch nor pydantic."""

from __future__ import annotations

import argparse
import difflib
import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import NoReturn

from lessen.errors import RecipeError

# command: (file of this folder, one line)
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "distil, prune, quantize and measure as a recipe or flags say"),
    "resume": ("run", "go on with an interrupted run"),
    "demo": ("run", "compress a model on embedded data: a minute (--quick) to five; no network"),
    "sar": ("sar", "distil a causal language model; of a mixture-of-experts teacher the routers learn too"),
    "plan-memory": ("sar", "estimate the memory of a distillation and propose settings that fit"),
    "cancel": ("remote", "cancel a run on a server"),
    "list": ("runs", "list the runs of a folder"),
    "show": ("runs", "show the result table of a run"),
    "compare": ("runs", "compare the final artifacts of runs"),
    "check": ("runs", "hold a run to bounds; exit 3 where one is not met"),
    "gc": ("gc", "remove runs in the trash, and finished ones that others of their name outdid"),
    "cache": ("cache", "build, verify or list what teachers said, kept on disk"),
    "predict": ("ship", "answer the rows of a file with an artifact"),
    "export": ("ship", "write an artifact in another format and compare its answers"),
    "serve": ("serve", "serve the dashboard and the API of a folder of runs"),
    "models": ("machine", "list the model presets and families"),
    "doctor": ("machine", "show what this machine offers"),
    "schema": ("machine", "print the JSON Schema of a recipe"),
    "completion": ("machine", "print a completion script for bash, zsh or fish"),
}

EXAMPLES = """\
  lessen demo --quick                           a teacher, a student, a report: about a minute, no network
  lessen run recipes/docstrings.yaml            run a recipe
  lessen run --data.path reviews.csv --pipeline kd_prune_quant --output_dir runs/reviews
  lessen run recipes/digits.yaml --dry-run      show the plan, touch nothing
  lessen predict runs/reviews/final --input new.csv > answers.jsonl
  lessen check runs/reviews --max-drop f1_macro=0.02 --min-speedup 4"""

SWITCHES = {
    "--json": "print exactly one JSON object on standard output",
    "--quiet": "no talk on standard error",
    "--verbose": "more talk (also -v)",
    "--no-color": "no colours (also NO_COLOR=1)",
    "--debug": "show the traceback of an error",
}


class Parser(argparse.ArgumentParser):
    """argparse that raises RecipeError and suggests the nearest flag."""

    every_flag = False  # whether help shows every setting of a recipe

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing a page of usage."""
        raise RecipeError(message, f"see `{self.prog} --help`")

    def canonical(self, argv: Sequence[str]) -> list[str]:
        """Return the arguments with every flag in its own spelling (dash = underscore).

        Raises:
            RecipeError: a flag does not exist; names the nearest one.
        """
        known = {name.replace("-", "_"): name for name in self._option_string_actions}
        out = []
        for token in argv:
            name, equals, value = token.partition("=")
            if not token.startswith("--") or token == "--":  # noqa: S105  a flag, no secret
                out.append(token)
            elif name.replace("-", "_") in known:
                out.append(known[name.replace("-", "_")] + equals + value)
            else:
                near = [known[n] for n in difflib.get_close_matches(name.replace("-", "_"), known, n=1)]
                raise RecipeError(f"{name} is not a flag of `{self.prog}`", suggestion(near, f"`{self.prog} --help`"))
        return out


def suggestion(near: Sequence[str], otherwise: str) -> str:
    """Return a hint: the nearest name, or where to look."""
    return f"did you mean {near[0]}?" if near else f"see {otherwise}"


def module(command: str) -> ModuleType:
    """Import the file of a command.

    Raises:
        RecipeError: there is no such command; names the nearest one.
    """
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        raise RecipeError(f"{command!r} is not a command", suggestion(near, "`lessen --help`"))
    return importlib.import_module(f"lessen.cli.{COMMANDS[command][0]}")


def parser_of(command: str, *, every_flag: bool = False) -> Parser:
    """Return the parser of one command; `every_flag`: help shows all settings of a recipe."""
    owner = module(command)
    parser = Parser(
        prog=f"lessen {command}", description=f"{COMMANDS[command][1][0].upper()}{COMMANDS[command][1][1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.every_flag = every_flag
    getattr(owner, f"add_{command.replace('-', '_')}")(parser)
    group = parser.add_argument_group("everywhere")
    group.add_argument("--json", action="store_true", help=SWITCHES["--json"])
    group.add_argument("--quiet", "-q", action="store_true", help=SWITCHES["--quiet"])
    group.add_argument("--verbose", "-v", action="count", default=0, help=SWITCHES["--verbose"])
    group.add_argument("--no-color", action="store_true", help=SWITCHES["--no-color"])
    group.add_argument("--debug", action="store_true", help=SWITCHES["--debug"])
    return parser


def tree() -> argparse.ArgumentParser:
    """Return one parser of all commands, for completion scripts."""
    root = argparse.ArgumentParser(prog="lessen", add_help=True)
    root.add_argument("--version", action="store_true", help="print the version")
    below = root.add_subparsers(metavar="command")
    for name, (_, line) in COMMANDS.items():
        below.add_parser(name, help=line, parents=[parser_of(name, every_flag=True)], add_help=False)
    return root


def overview() -> str:
    """Return the help of `lessen` itself: examples first."""
    width = max(map(len, COMMANDS)) + 2
    lines = ["Distil, prune and quantize a model, and prove what it cost.", "", "examples:", EXAMPLES, "", "commands:"]
    lines += _columns(((name, line) for name, (_, line) in COMMANDS.items()), width)
    lines += ["", "everywhere:", *_columns(SWITCHES.items(), 14), *_columns([("--version", "print the version")], 14)]
    lines += ["", "`lessen COMMAND --help` tells more; exit codes stand in docs/cli.md."]
    return "\n".join(lines)


def _columns(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    return [f"  {name:<{width}}{line}" for name, line in rows]
