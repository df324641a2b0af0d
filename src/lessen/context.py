"""What a stage may touch besides its inputs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lessen.events import Event, Level, Log


def _ignore(event: Event) -> None:
    return None


def _never() -> None:
    return None


def default_cache_dir() -> Path:
    """Return the folder for token and teacher-output caches: $XDG_CACHE_HOME/lessen or ~/.cache/lessen."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "lessen"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a stage may touch besides its inputs. No setting of a method lives here."""

    out_dir: Path  # this run's own folder
    cache_dir: Path = field(default_factory=default_cache_dir)
    device: str = "cpu"  # cpu, cuda, cuda:0 ...
    seed: int = 42
    stage: str = "run"  # the stage that is speaking
    emit: Callable[[Event], None] = _ignore  # news, to whoever is watching
    check: Callable[[], None] = _never  # raises Cancelled; call once per step

    def at(self, stage: str) -> Context:
        """Return this context speaking for `stage`."""
        return replace(self, stage=stage)

    def say(self, message: str, level: Level = "info") -> None:
        """Emit a line for people."""
        self.emit(Log(stage=self.stage, message=message, level=level))


def digest(value: Any) -> str:
    """Return the SHA-256 (64 hex digits) of a JSON-able value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a crash leaves the old one or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = data.encode() if isinstance(data, str) else data
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
