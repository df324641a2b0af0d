"""What a supervisor keeps beside the runs: the lock of the root, a reserve of disk, and the end of deleted runs."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from pathlib import Path
from typing import IO

from lessen.errors import ConflictError
from lessen.folder import is_locked, read_state
from lessen.store import FOLDER, RunRecord, Store

log = logging.getLogger(__name__)
RESERVE_BYTES = 512 << 10
PLENTY_BYTES = 4 << 20  # free disk beyond which the reserve is laid by again


class RootLock:
    """One server for one root: held while the process lives, however it ends."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / FOLDER / "lock"
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the lock.

        Raises:
            ConflictError: another process has it; names it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            file.close()
            raise ConflictError(
                f"another server (process {pid}) uses {self._root}", "stop it first, or choose another folder for runs"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def give_back(self) -> None:
        """Let go of the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Reserve:
    """A little disk laid by, so that a full one can still be written down."""

    def __init__(self, root: Path) -> None:
        self._path = root / FOLDER / "reserve"

    def fill(self) -> None:
        """Lay it by, where there is plenty."""
        try:
            if not self._path.exists() and shutil.disk_usage(self._path.parent).free > PLENTY_BYTES:
                self._path.write_bytes(os.urandom(RESERVE_BYTES))  # not zeros: some file systems keep none of those
        except OSError as error:
            log.warning("no reserve of disk could be laid by: %s", error)

    def spend_if_full(self) -> None:
        """Give it up where next to nothing else is free."""
        if shutil.disk_usage(self._path.parent).free < RESERVE_BYTES:
            self._path.unlink(missing_ok=True)


def purge(store: Store, seconds: float) -> list[str]:
    """Remove the folders of runs that were deleted so long ago; return their ids."""
    gone = []
    for record in store.list(deleted=True, limit=-1)[0]:
        if record.deleted_at is not None and time.time() - record.deleted_at > seconds and _removed(store, record):
            store.forget(record.run_id)
            gone.append(record.run_id)
    return gone


def _removed(store: Store, record: RunRecord) -> bool:
    """Remove a run's folder, where it is still that run's; whether it is gone."""
    folder = record.folder
    if not folder.is_relative_to(store.root) or folder == store.root:
        return True  # not ours to remove
    try:
        mine = read_state(folder).get("run_id") == record.run_id
    except ValueError:
        mine = False
    if not mine:
        return True  # gone, or another run's by now
    if is_locked(folder):
        return False
    bin_ = store.root / FOLDER / "trash" / record.run_id
    try:
        if not bin_.exists():
            bin_.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(bin_)  # half a removal is never seen as a run
        shutil.rmtree(bin_)
    except OSError as error:
        log.warning("%s could not be removed: %s", folder, error)
        return False
    return True
