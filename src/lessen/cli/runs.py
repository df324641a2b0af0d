"""lessen list, show, compare, check."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.cli.latest import run_folder
from lessen.cli.parser import Parser
from lessen.cli.terminal import Terminal
from lessen.errors import ArtifactError, GateError, RecipeError
from lessen.events import LIVE
from lessen.folder import disk_bytes, live_state, read_state

if TYPE_CHECKING:
    from lessen.report import Report

LISTED = ("folder", "state", "pipeline", "started", "score", "smaller", "faster", "disk")


def add_list(parser: Parser) -> None:
    """Add the arguments of `lessen list`."""
    from lessen.cli import remote

    parser.add_argument("folder", nargs="?", type=Path, help="where the runs lie (default runs)")
    remote.add_server(parser)


def do_list(args: argparse.Namespace, terminal: Terminal) -> int:
    """List the runs of a folder, newest first."""
    if args.server:
        from lessen.cli import remote

        return remote.list_runs(args.server, terminal)
    root = args.folder or Path("runs")
    if args.folder and not root.is_dir():
        raise ArtifactError(f"there is no folder {root}", "name the folder of your runs")
    folders = {
        file.parent
        for file in root.rglob("run.json")
        if not any(p.startswith(".") for p in file.relative_to(root).parts)
    }
    found = [(folder, {**read_state(folder), "state": live_state(folder)}) for folder in folders]
    found.sort(key=lambda item: (str(item[1].get("started")), str(item[0])), reverse=True)
    rows = [_listed(folder, state) for folder, state in found]
    terminal.answer({"runs": rows})
    if not rows:
        terminal.say(f"no runs in {root}; `lessen demo` makes one")
        return 0
    terminal.table(
        LISTED, [[cell(row[name]) for name in LISTED] for row in [{**row, "disk": disk(row)} for row in rows]]
    )
    return 0


def add_show(parser: Parser) -> None:
    """Add the arguments of `lessen show`."""
    from lessen.cli import remote

    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of a run, or latest; with --server its id")
    remote.add_server(parser)


def do_show(args: argparse.Namespace, terminal: Terminal) -> int:
    """Show the result table of a run; with --json its report."""
    if args.server:
        from lessen.cli import remote

        return remote.show(args.server, str(args.folder), terminal)
    return show(run_folder(args.folder), terminal)


def add_compare(parser: Parser) -> None:
    """Add the arguments of `lessen compare`."""
    parser.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="folders of two or more runs, or latest")


def do_compare(args: argparse.Namespace, terminal: Terminal) -> int:
    """Compare the final artifacts of runs side by side."""
    if len(args.folders) < 2:
        raise RecipeError("one run is given; comparing takes two or more", "`lessen show` shows a single run")
    from lessen import report as reports

    found = reports.compare([read_report(run_folder(folder)) for folder in args.folders])
    terminal.answer(found)
    terminal.table(found["columns"], [[cell(row[name]) for name in found["columns"]] for row in found["rows"]])
    for remark in found["remarks"]:
        terminal.text(remark)
    return 0


def add_check(parser: Parser) -> None:
    """Add the arguments of `lessen check`."""
    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of a run, or latest")
    parser.add_argument(
        "--max-drop", action="append", default=[], metavar="METRIC=SHARE",
        help="largest fall below the teacher, as a share: f1_macro=0.02 is 2 points; may be repeated",
    )  # fmt: skip
    parser.add_argument("--min-speedup", metavar="X", help="teacher's p50 latency over the final artifact's")
    parser.add_argument("--min-compression", metavar="X", help="teacher's file bytes over the final artifact's")
    parser.add_argument(
        "--at-least", action="append", default=[], metavar="METRIC=X", help="least value; may be repeated"
    )
    parser.add_argument(
        "--at-most", action="append", default=[], metavar="METRIC=X", help="largest value; may be repeated"
    )
    parser.add_argument("--stage", help="the stage to check; the final artifact when absent")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="also write the gates as JUnit XML")


def do_check(args: argparse.Namespace, terminal: Terminal) -> int:
    """Hold a run to bounds: exit 0 where all are met, 3 where one is not."""
    from lessen import report as reports
    from lessen.context import write_atomic

    given = {
        "stage": args.stage, "min_speedup": args.min_speedup, "min_compression": args.min_compression,
        "max_drop": _pairs("--max-drop", args.max_drop),
        "at_least": _pairs("--at-least", args.at_least), "at_most": _pairs("--at-most", args.at_most),
    }  # fmt: skip
    bounds = {name: value for name, value in given.items() if value}
    if not set(bounds) - {"stage"}:
        raise RecipeError("no bound is given", "give --max-drop f1_macro=0.02, --min-speedup 4 or --min-compression 10")
    folder = run_folder(args.folder)
    gates = reports.check(read_report(folder), bounds)
    if args.junit:
        write_atomic(args.junit, reports.junit(gates, suite=f"lessen {folder}"))
    terminal.answer({"passed": all(g.passed for g in gates), "gates": [vars(g) for g in gates]})
    for gate in gates:
        terminal.text(f"{'met   ' if gate.passed else 'MISSED'} {gate.name}: {gate.text}")
    return 0 if all(g.passed for g in gates) else GateError.exit_code


def show(folder: Path, terminal: Terminal) -> int:
    """Print the table of a run's report (with --json the report); return 0 where the run is complete, else 1."""
    from lessen import report as reports

    found = read_report(folder)
    terminal.answer(found.model_dump(mode="json"))
    terminal.draw(reports.table(found))
    terminal.say(f"on disk: {disk({'disk_bytes': disk_bytes(folder)})}")
    if (folder / "report.html").is_file():
        terminal.say(f"report: {folder / 'report.html'}")
    if not found.complete:
        terminal.say(f"the run is not complete: `lessen resume {folder}` goes on")
    return 0 if found.complete else 1


def read_report(folder: Path) -> Report:
    """Return the report of a run.

    Raises:
        ArtifactError: there is none; says what state the run is in.
    """
    from lessen import report as reports

    state = live_state(folder) if folder.is_dir() else None
    if state and not (folder / "report.json").is_file():
        raise ArtifactError(f"{folder} has no report.json: the run is {state}", f"`lessen resume {folder}` goes on")
    return reports.read(folder)


def cell(value: Any) -> str:
    """Return a value for a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return str(value)


def disk(run: Mapping[str, Any]) -> str | None:
    """Return a run's `disk_bytes` for people; None where they are not known, as of a live run."""
    from lessen.report.numbers import number

    known = run.get("disk_bytes")
    return None if known is None else number(known, "bytes")


def _pairs(flag: str, given: list[str]) -> dict[str, float]:
    pairs = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            pairs[name.strip()] = float(value)
        except ValueError:
            raise RecipeError(f"{flag} is {text!r}", f"write {flag} METRIC=NUMBER, such as f1_macro=0.02") from None
    return pairs


def _listed(folder: Path, state: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: state.get(name) for name in ("run_id", "state", "pipeline", "started")}
    row |= {"folder": str(folder), "score": None, "f1_macro": None, "smaller": None, "faster": None}
    row["disk_bytes"] = None if state.get("state") in LIVE else disk_bytes(folder)
    if (folder / "report.json").is_file():
        from lessen import report as reports
        from lessen.report.headline import headline

        try:
            read = reports.read(folder)
            entry, name = reports.compare([read])["rows"][0], headline(read).metric
        except ArtifactError as error:
            return row | {"state": f"{row['state']} ({error.message})"}
        score = None if entry[name] is None else f"{name} {entry[name]:.4g}"
        row |= {"score": score, "f1_macro": entry["f1_macro"], "smaller": entry["smaller"], "faster": entry["faster"]}
    return row
