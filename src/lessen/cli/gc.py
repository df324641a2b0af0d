"""lessen gc: remove runs that are in the trash, and those that were outdone by others of the same name."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.cli.parser import Parser
from lessen.cli.terminal import Terminal
from lessen.errors import ArtifactError, LessenError, RecipeError
from lessen.folder import disk_bytes, is_locked, live_state, read_state

if TYPE_CHECKING:
    from lessen.store import Store

DAY_SECONDS = 86400
LISTED = ("folder", "name", "why", "disk")


@dataclass(frozen=True)
class Leaving:
    """A run that may go."""

    folder: str
    run_id: str
    name: str
    why: str
    disk_bytes: int


def add_gc(parser: Parser) -> None:
    """Add the arguments of `lessen gc`."""
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs"), help="where the runs lie (default runs)")
    parser.add_argument(
        "--keep-best", type=int, metavar="N",
        help="also remove finished runs, except the N best of each name by the metric that heads the report",
    )  # fmt: skip
    parser.add_argument(
        "--older-than", type=float, default=0.0, metavar="DAYS", help="only what was deleted or finished so long ago"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would go, touch nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def do_gc(args: argparse.Namespace, terminal: Terminal) -> int:
    """Say what would go and how much that is, ask, and remove it; a run that is live never goes."""
    root: Path = args.folder.absolute()
    if not root.is_dir():
        raise ArtifactError(f"there is no folder {args.folder}", "name the folder of your runs")
    if args.keep_best is not None and args.keep_best < 1:
        raise RecipeError(f"--keep-best is {args.keep_best}", "keep 1 or more of each name")
    if not 0 <= args.older_than < float("inf"):
        raise RecipeError(f"--older-than is {args.older_than}", "give days, 0 or more")
    with _opened(root, look_only=args.dry_run) as store:
        leaving = sorted(_leaving(root, store, args.keep_best, args.older_than), key=lambda run: run.folder)
        _show(leaving, terminal)
        go = bool(leaving) and not args.dry_run and (args.yes or _agreed(terminal))
        removed = [run for run in leaving if go and _removed(root, store, run)]
    total = sum(run.disk_bytes for run in leaving)
    terminal.answer(
        {"runs": [asdict(run) for run in leaving], "disk_bytes": total, "removed": [run.run_id for run in removed]}
    )
    if go:
        terminal.say(f"removed {len(removed)} of {len(leaving)} runs")
    return 0


@contextmanager
def _opened(root: Path, *, look_only: bool) -> Iterator[Store | None]:
    """Yield the store of a root, None where no server was ever here; no server starts meanwhile.

    Raises:
        ConflictError: a server uses the root.
    """
    from lessen.jobs.place import RootLock
    from lessen.store import FILE, FOLDER, Store

    there, held = (root / FOLDER / FILE).is_file(), RootLock(root)
    if there or not look_only:
        held.take()
    try:
        if not there:
            yield None
            return
        with closing(Store(root)) as store:
            yield store
    finally:
        held.give_back()


def _leaving(root: Path, store: Store | None, keep_best: int | None, days: float) -> Iterator[Leaving]:
    from lessen.jobs.outsiders import folders

    before, finished = time.time() - days * DAY_SECONDS, []
    for folder in folders(root):
        try:
            body = read_state(folder)
        except ValueError:
            continue  # damaged by hand: not for us to judge
        run_id = str(body.get("run_id") or "")
        if not run_id or is_locked(folder) or live_state(folder) in ("queued", ""):
            continue
        known = store.get(run_id) if store else None
        if known is not None and known.folder != folder:
            continue  # a copy
        if known is not None and known.deleted_at is not None:
            if known.deleted_at <= before:
                yield Leaving(str(folder), run_id, known.name, "in the trash", disk_bytes(folder))
        elif body.get("state") == "succeeded":
            finished.append((folder, body))
    if keep_best is not None:
        yield from _outdone(finished, keep_best, before)


def _outdone(finished: list[tuple[Path, dict[str, Any]]], keep: int, before: float) -> Iterator[Leaving]:
    from lessen import report as reports
    from lessen.report.headline import headline

    groups: dict[tuple[str, str], list[tuple[float, float, Path, dict[str, Any]]]] = {}
    for folder, body in finished:
        try:
            report = reports.read(folder)
        except LessenError:
            continue  # without a readable score nobody can say that it is worse
        head = headline(report)
        value = report.final.value(head.metric) if report.final else None
        if report.complete and value is not None:
            rank = value if head.lower_is_better else -value
            groups.setdefault((report.name, head.metric), []).append((rank, value, folder, body))
    for (name, metric), runs in groups.items():
        for _, value, folder, body in sorted(runs, key=lambda run: run[0])[keep:]:
            if datetime.fromisoformat(body.get("finished") or body["updated"]).timestamp() <= before:
                why = f"{metric} {value:.4g}, not among the best {keep}"
                yield Leaving(str(folder), str(body["run_id"]), name, why, disk_bytes(folder))


def _show(leaving: list[Leaving], terminal: Terminal) -> None:
    from lessen.cli.runs import disk

    if not leaving:
        terminal.say("nothing to remove")
        return
    rows = [asdict(run) | {"disk": disk(asdict(run))} for run in leaving]
    terminal.table(LISTED, [[str(row[name]) for name in LISTED] for row in rows])
    total = disk({"disk_bytes": sum(run.disk_bytes for run in leaving)})
    terminal.say(f"{len(leaving)} runs, {total}")


def _agreed(terminal: Terminal) -> bool:
    if terminal.json or not sys.stdin.isatty():
        raise RecipeError("nothing was removed: there is nobody to ask", "give --yes, or --dry-run to look only")
    print("remove them? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _removed(root: Path, store: Store | None, run: Leaving) -> bool:
    from lessen.store import FOLDER

    folder, trash = Path(run.folder), root / FOLDER / "trash" / run.run_id
    if is_locked(folder) or read_state(folder).get("run_id") != run.run_id:
        return False  # somebody took it up while we asked
    trash.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(trash)  # half a removal is never seen as a run
    if store is not None:
        store.forget(run.run_id)
    shutil.rmtree(trash.parent)  # and what a removal before this one left
    return True
