"""A run is a folder: the recipe, the state, the events, the stages and the report.

Layout::

    recipe.json     the resolved recipe
    run.json        id, state (lessen.events.RunState), attempt, version, times, process (pid, lessen.birth)
    events.jsonl    one event a line (lessen.eventlog)
    predictions.json, images/   what each stage answered to each test sample
    stages/NN-name/ an artifact each
    report.json, report.html, results_*.csv
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lessen import __version__
from lessen.artifact import Artifact
from lessen.birth import birth
from lessen.context import digest, write_atomic
from lessen.errors import ArtifactError, Cancelled, ConflictError, ResourceError, as_lessen
from lessen.eventlog import EventLog
from lessen.events import ACTIVE, Event, Log, RunState, RunStateChanged
from lessen.recipe import Recipe, parse
from lessen.sink import Sink, warn

EVENTS = "events.jsonl"
LOOK_SECONDS = 0.3  # who only looks whether a folder is locked holds it for a moment (is_locked)
NOT_THE_RUN = {"output_dir", "cache_dir", "device", "note"}  # where it runs, not what it computes


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, claimed for one process."""

    path: Path
    run_id: str

    def stage(self, index: int, name: str) -> Path:
        """Return the folder of a stage's artifact."""
        return self.path / "stages" / f"{index:02d}-{name}"

    def set_state(self, state: RunState, **more: Any) -> None:
        """Record the state of the run, atomically."""
        body = {**read_state(self.path), "state": state, **more, "updated": now()}
        write_atomic(self.path / "run.json", json.dumps(body, indent=2) + "\n")

    @contextmanager
    def recording(self, also: Callable[[Event], None] | None) -> Iterator[Callable[[Event], None]]:
        """Yield an `emit` that appends to events.jsonl and passes the event on; record how the run ends.

        The state goes into run.json first and is then told, so that who hears of it can read it. An `also` that raises
        is left out from then on and a warning stands in events.jsonl; an event that cannot be written ends the run.
        """
        with EventLog(self.path / EVENTS, read_state(self.path).get("attempt")) as lines:

            def report(text: str) -> None:
                warn(text)
                lines.append(Log(stage="run", message=text, level="warning"))

            sink = None if also is None else Sink(also, report)

            def emit(event: Event) -> None:
                lines.append(event)
                if sink is not None:
                    sink(event)

            emit(RunStateChanged(state="running"))
            try:
                yield emit
            except BaseException as error:
                with suppress(OSError):  # a full disk: the error itself says more
                    self._ended(error, emit)
                raise
            self.set_state("succeeded", finished=now())
            emit(RunStateChanged(state="succeeded"))

    def _ended(self, error: BaseException, emit: Callable[[Event], None]) -> None:
        state, told = ending(error)
        self.set_state(state, error=told, finished=now())
        emit(RunStateChanged(state=state, reason=told["message"], error=told))


def ending(error: BaseException) -> tuple[RunState, dict[str, Any]]:
    """Return the state that an exception leaves a run in, and the error as run.json holds it."""
    state: RunState = "failed"
    if isinstance(error, Cancelled):
        state = "cancelled" if error.for_good else "interrupted"
    elif isinstance(error, KeyboardInterrupt):
        state = "interrupted"
    known = as_lessen(error) if isinstance(error, Exception) else None
    told: dict[str, Any] = {
        "message": known.message if known else type(error).__name__,
        "hint": known.hint if known else "",
        "exit_code": known.exit_code if known else 1,
    }
    if isinstance(known, ResourceError) and known.kind:
        told["kind"] = known.kind
    return state, told


def prepare(path: Path, recipe: Recipe, run_id: str, **more: Any) -> RunFolder:
    """Make the folder of a run that waits for its turn: `claim` goes on with it.

    Args:
        more: further values of run.json, such as origin and model_name.

    Raises:
        ConflictError: there is something at that place.
    """
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise ConflictError(f"{path} exists already", "choose another name") from None
    write_atomic(path / "recipe.json", recipe.model_dump_json(indent=2) + "\n")
    folder = RunFolder(path, run_id)
    folder.set_state(
        "queued", run_id=run_id, recipe_digest=recipe_digest(recipe), version=__version__, pid=None, started=None,
        name=recipe.name, pipeline=recipe.pipeline, error=None, attempt=0, **more,
    )  # fmt: skip
    return folder


def new_id(name: str) -> str:
    """Return an id for a run: its name, the time and a few random digits."""
    return f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"


def claim(path: Path, recipe: Recipe, *, force: bool = False) -> RunFolder:
    """Make or reopen the folder of a run.

    The same recipe in the same folder continues it; another recipe is refused unless `force`, which starts anew.

    Raises:
        ConflictError: the folder belongs to another run or to a running process, or holds other files.
    """
    want = recipe_digest(recipe)
    state = read_state(path)
    if state and state.get("recipe_digest") != want:
        if not force:
            raise ConflictError(
                f"{path} holds another run ({state.get('run_id')}, {state.get('state')})",
                "choose another --output_dir, or --force to replace it",
            )
        _clear(path)
        state = {}
    elif not state and path.is_dir() and any(f.name != ".lock" for f in path.iterdir()) and not force:
        raise ConflictError(f"{path} is not empty and not a run", "choose another --output_dir, or --force to use it")
    path.mkdir(parents=True, exist_ok=True)
    run_id = state.get("run_id") or new_id(recipe.name)
    folder = RunFolder(path, run_id)
    if not state:
        write_atomic(path / "recipe.json", recipe.model_dump_json(indent=2) + "\n")
    folder.set_state(
        "running", run_id=run_id, recipe_digest=want, version=__version__, pid=os.getpid(), born=birth(os.getpid()),
        started=state.get("started") or now(), name=recipe.name, pipeline=recipe.pipeline, error=None,
        attempt=int(state.get("attempt") or 0) + 1,
    )  # fmt: skip
    return folder


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a run's folder for this process; the system lets go of it when the process dies, however it dies.

    Raises:
        ConflictError: another process is running there.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / ".lock").open("w", encoding="ascii") as stream:
        until = time.monotonic() + LOOK_SECONDS
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ConflictError(
                        f"another process is running in {path}", "wait for it, or stop it first"
                    ) from None
                time.sleep(0.01)
        yield


def is_locked(path: Path) -> bool:
    """Whether a process holds the run's folder right now."""
    try:
        with (path / ".lock").open("r", encoding="ascii") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def live_state(path: Path) -> str:
    """Return the state in run.json; a run that says it is running while nobody holds its folder was interrupted."""
    state = str(read_state(path).get("state") or "")
    return "interrupted" if state in ACTIVE and not is_locked(path) else state


def disk_bytes(path: Path) -> int:
    """Return the bytes of the files below a folder; links are not followed, a file with two names counts once."""
    sizes: dict[tuple[int, int], int] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):  # gone meanwhile
                found = os.lstat(os.path.join(folder, name))
                if stat.S_ISREG(found.st_mode):
                    sizes[found.st_dev, found.st_ino] = found.st_size
    return sum(sizes.values())


def read_recipe(path: Path) -> Recipe:
    """Return the recipe of a run's folder.

    Raises:
        ArtifactError: there is no run.
    """
    file = path / "recipe.json"
    if not file.is_file():
        raise ArtifactError(f"{path} is not a run (no recipe.json)", "give the folder of a run; see `lessen list`")
    return parse(json.loads(file.read_text(encoding="utf-8")))


def read_state(path: Path) -> dict[str, Any]:
    """Return run.json, or an empty mapping where there is none."""
    file = path / "run.json"
    if not file.is_file():
        return {}
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values


def recipe_digest(recipe: Recipe) -> str:
    """Return the digest of what a recipe computes."""
    return digest({k: v for k, v in recipe.model_dump(mode="json").items() if k not in NOT_THE_RUN})


def finished(path: Path, key: str) -> Artifact | None:
    """Return the artifact of a stage that was finished under the same key and is undamaged, else None."""
    try:
        artifact = Artifact(path)
        if artifact.manifest.key != key:
            return None
        artifact.verify()
    except ArtifactError:
        return None
    return artifact


def now() -> str:
    """Return the time, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _clear(path: Path) -> None:
    import shutil

    for name in (
        "stages",
        "recipe.json",
        "run.json",
        EVENTS,
        "report.json",
        "report.html",
        "predictions.json",
        "images",
        "worker.log",
    ):
        target = path / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    for file in [*path.glob("results_*"), *path.glob("fold-*")]:
        if file.is_dir():
            shutil.rmtree(file)
        else:
            file.unlink()
