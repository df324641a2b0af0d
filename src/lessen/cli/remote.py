"""The same commands on a server: --server on run, resume, list and show; lessen cancel."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.cli.parser import Parser
from lessen.cli.terminal import Terminal
from lessen.client import URL, Client, RemoteRun
from lessen.errors import Cancelled, LessenError, TrainingError

if TYPE_CHECKING:
    from lessen.recipe import Recipe

LISTED = ("run_id", "state", "progress", "pipeline", "created", "score", "smaller", "faster", "disk")


class FailedRun(LessenError):
    """A run that failed on a server, with the exit code it failed with."""

    def __init__(self, run: RemoteRun) -> None:
        told = run.info.get("error") or {}
        super().__init__(
            f"{run.run_id} {run.state}: {told.get('message') or 'no reason is given'}", told.get("hint") or ""
        )
        self.exit_code = int(told.get("exit_code") or TrainingError.exit_code)


def add_server(parser: Parser) -> None:
    """Add --server, which sends the command to a server."""
    parser.add_argument(
        "--server", nargs="?", const=URL, metavar="URL", help=f"on a running `lessen serve` (default {URL})"
    )


def add_cancel(parser: Parser) -> None:
    """Add the arguments of `lessen cancel`."""
    parser.add_argument("run", nargs="?", default="latest", metavar="RUN", help="the id of a run (default latest)")
    parser.add_argument("--server", default=URL, metavar="URL", help=f"the server (default {URL})")


def do_cancel(args: argparse.Namespace, terminal: Terminal) -> int:
    """Cancel a run on a server."""
    run = Client(args.server).cancel(args.run)
    terminal.answer(run.info)
    terminal.text(f"{run.run_id}: {run.state}")
    return 0


def start(url: str, recipe: Recipe, terminal: Terminal, *, detach: bool) -> int:
    """Queue a recipe on a server and watch it, unless told not to."""
    values = recipe.model_dump(mode="json", exclude={"output_dir", "cache_dir"})
    for part in (values["data"], values["teacher"], values["student"]):
        _here(part)  # the server stands in another folder
    client = Client(url)
    run = client.start(recipe=values, name=recipe.name)
    terminal.say(f"{run.run_id} is {run.state} on {client.url}; `lessen cancel {run.run_id} --server {url}` stops it")
    if detach:
        terminal.answer(run.info)
        terminal.text(run.run_id)
        return 0
    return follow(client, run, terminal)


def resume(url: str, run_id: str, terminal: Terminal) -> int:
    """Queue a run again and watch it."""
    client = Client(url)
    before = client.run(run_id)
    return follow(client, client.resume(before), terminal, after=int(before.info.get("seq") or 0))


def follow(client: Client, run: RemoteRun, terminal: Terminal, *, after: int = 0) -> int:
    """Show the events of a run as they come, then its result; Ctrl-C leaves it running."""
    from lessen.cli.events import line as print_line
    from lessen.events import from_dict
    from lessen.progress import watcher

    try:
        with watcher(live=terminal.live, quiet=terminal.quiet, verbose=terminal.verbose, plain=terminal.plain) as emit:
            for line in client.watch(run, after=after):
                if terminal.lines:
                    print_line(line)
                event = from_dict(line)
                if event is not None:
                    emit(event)
    except KeyboardInterrupt:
        raise Cancelled(f"{run.run_id} goes on on the server", f"`lessen show {run.run_id} --server`") from None
    ended = client.run(run)
    if ended.state != "succeeded":
        raise FailedRun(ended)
    return show(client.url, ended.run_id, terminal)


def show(url: str, run_id: str, terminal: Terminal) -> int:
    """Print the table of a run's report; return 0 where it is complete, else 1."""
    from lessen import report as reports
    from lessen.cli.runs import disk

    client = Client(url)
    run = client.run(run_id)
    found = client.report(run)
    terminal.answer(found.model_dump(mode="json"))
    terminal.draw(reports.table(found))
    if (size := disk(run.info)) is not None:
        terminal.say(f"on disk: {size}")
    terminal.say(f"report: {client.url}/#/result/{run.run_id}")
    if not found.complete:
        terminal.say(f"the run is not complete: it is {run.state}")
    return 0 if found.complete else 1


def list_runs(url: str, terminal: Terminal) -> int:
    """List the runs of a server, newest first."""
    from lessen.cli.runs import cell

    runs = Client(url).runs()
    terminal.answer({"runs": [run.info for run in runs]})
    if not runs:
        terminal.say(f"no runs on {url}; `lessen run RECIPE --server` starts one")
        return 0
    terminal.table(LISTED, [[cell(_listed(run)[name]) for name in LISTED] for run in runs])
    return 0


def _listed(run: RemoteRun) -> dict[str, Any]:
    from lessen.cli.runs import disk

    summary = run.info.get("summary") or {}
    score = summary.get("score")
    return {
        **{name: run.info.get(name) for name in ("run_id", "state", "pipeline", "created")},
        "progress": None if run.percent is None else f"{run.percent:.0f} %",
        "score": None if score is None else f"{summary.get('score_name')} {score:.4g}",
        "smaller": summary.get("smaller"),
        "faster": summary.get("faster"),
        "disk": disk(run.info),
    }


def _here(part: dict[str, Any]) -> None:
    """Make the paths of local files absolute, in place."""
    for name in ("path", "validation_path", "test_path", "model"):
        value = part.get(name)
        if isinstance(value, str) and Path(value).exists():
            part[name] = str(Path(value).absolute())
