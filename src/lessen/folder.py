"""A run is a folder: the recipe, the state, the events, the stages and the report.

Layout::

    recipe.json     the resolved recipe
    run.json        id, state (running, interrupted, failed, succeeded), version, times
    events.jsonl    one event a line
    stages/NN-name/ an artifact each
    report.json, report.html, results_*.csv
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from lessen import __version__
from lessen.artifact import Artifact
from lessen.context import digest, write_atomic
from lessen.errors import ArtifactError, ConflictError
from lessen.events import Event
from lessen.recipe import Recipe, parse

NOT_THE_RUN = {"output_dir", "cache_dir", "device"}  # where it runs, not what it computes


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, claimed for one process."""

    path: Path
    run_id: str

    def stage(self, index: int, name: str) -> Path:
        """Return the folder of a stage's artifact."""
        return self.path / "stages" / f"{index:02d}-{name}"

    def set_state(self, state: str, **more: Any) -> None:
        """Record the state of the run, atomically."""
        body = {**read_state(self.path), "state": state, **more, "updated": now()}
        write_atomic(self.path / "run.json", json.dumps(body, indent=2) + "\n")

    @contextmanager
    def log(self, also: Callable[[Event], None] | None) -> Iterator[Callable[[Event], None]]:
        """Yield an `emit` that appends to events.jsonl and passes the event on; a failing watcher never stops a run."""
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as stream:

            def emit(event: Event) -> None:
                _append(stream, event)
                if also is not None:
                    also(event)

            yield emit


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
    run_id = state.get("run_id") or f"{recipe.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    folder = RunFolder(path, run_id)
    if not state:
        write_atomic(path / "recipe.json", recipe.model_dump_json(indent=2) + "\n")
    folder.set_state(
        "running", run_id=run_id, recipe_digest=want, version=__version__, pid=os.getpid(),
        started=state.get("started") or now(), name=recipe.name, pipeline=recipe.pipeline, error=None,
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
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another process is running in {path}", "wait for it, or stop it first") from None
        yield


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


def _append(stream: TextIO, event: Event) -> None:
    stream.write(json.dumps({"time": now(), **event.as_dict()}, ensure_ascii=False, default=str) + "\n")
    stream.flush()


def _clear(path: Path) -> None:
    import shutil

    for name in ("stages", "recipe.json", "run.json", "events.jsonl", "report.json", "report.html"):
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
