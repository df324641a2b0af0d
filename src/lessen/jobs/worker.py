"""python -m lessen.jobs.worker FOLDER: carry out the run that is prepared in a folder.

stdin is the control pipe: the line `cancel` cancels the run; its end says that the server died or stops, and interrupts
it. SIGTERM interrupts too. Whichever comes, the run stops at its next step after a checkpoint; where no step comes, the
stop is raised into whatever Python code is going on, and at last the process ends without more ado. stdout carries JSON
lines: a heartbeat every two seconds and, at the end, how it ended. stderr goes to the folder's worker.log.

Exit codes as lessen.errors; 75 for a run that was stopped and can be resumed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from lessen.errors import Cancelled, LessenError, RecipeError
from lessen.folder import ending, read_recipe
from lessen.jobs import tree

HEARTBEAT_SECONDS = 2.0
RAISE_SECONDS = 4.0  # after being asked to stop: no step came, so the stop is raised into the running code
LEAVE_SECONDS = 9.0  # after being asked to stop: nothing helped, the process ends
LOG_NAME = "worker.log"
LOG_BYTES = 2 << 20  # a log that grew beyond is cut to its end
LOG_KEPT_BYTES = 256 << 10
EXIT_STOPPED = Cancelled.exit_code


class Channel:
    """Takes over stdin and stdout, so that neither libraries nor children of this process touch them."""

    def __init__(self) -> None:
        self._in, self._out = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)  # what libraries print goes to the log
        self._lock = threading.Lock()

    def send(self, **message: Any) -> None:
        """Write a line; a reader that went away is no concern of the run."""
        try:
            with self._lock:
                os.write(self._out, json.dumps(message).encode() + b"\n")
        except OSError:
            return

    def listen(self, heard: Callable[[str], None]) -> None:
        """Pass on every word that comes in, and "" at the end of the pipe."""
        with open(self._in, "rb", buffering=0) as pipe:
            for line in pipe:
                heard(line.decode(errors="replace").strip())
        heard("")


class Stop:
    """Whether the run was asked to stop, by whom, and what follows where it does not."""

    def __init__(self, hint: str) -> None:
        self._hint = hint
        self._lock = threading.RLock()  # a signal may come while its own thread holds it
        self._reason = ""
        self._for_good = False
        self._heard = False  # the run knows: it is saving and leaving

    def ask(self, reason: str, *, for_good: bool = False) -> None:
        """Ask the run to stop. Only the first call counts, but that a cancelled run stays cancelled."""
        with self._lock:
            self._for_good = self._for_good or (for_good and not self._heard)
            if self._reason:
                return
            self._reason = reason
        threading.Thread(target=self._insist, daemon=True).start()

    def check(self) -> None:
        """Raise Cancelled once the run was asked to stop; called at every step."""
        if self._reason:
            self._heard = True
            raise self._cancelled()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take a signal: the first asks, a later one is raised into code that comes to no step."""
        if not self._reason:
            self.ask(f"the worker was asked to end by {signal.Signals(number).name}")
        elif not self._heard:
            raise self._cancelled()

    def over(self) -> None:
        """Take note that the run has ended: no signal is raised into what is left to do."""
        self._heard = True

    def heed(self, word: str) -> None:
        """Take a word of the control pipe."""
        if word == "cancel":
            self.ask("the run was cancelled", for_good=True)
        elif not word:
            self.ask("the server stopped")

    def _cancelled(self) -> Cancelled:
        return Cancelled(self._reason, self._hint, for_good=self._for_good)

    def _insist(self) -> None:
        time.sleep(RAISE_SECONDS)
        if not self._heard:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        time.sleep(LEAVE_SECONDS - RAISE_SECONDS)
        me = tree.identify(os.getpid())
        tree.send(tree.family(me) - {me} if me else (), signal.SIGKILL)
        os._exit(EXIT_STOPPED)  # what runs there does not return to Python; the newest checkpoint stands


class Heart:
    """Sends heartbeats and keeps the log small."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def beat(self) -> None:
        """Beat for as long as the process lives."""
        while True:
            self._channel.send(kind="heartbeat", gpu_bytes=_gpu_bytes())
            bound(2)
            time.sleep(HEARTBEAT_SECONDS)


def bound(descriptor: int, most: int = LOG_BYTES, kept: int = LOG_KEPT_BYTES) -> None:
    """Cut a log that was opened for appending and grew too long to its end; pipes and terminals stay as they are."""
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size <= most:
            return
        with open(f"/proc/self/fd/{descriptor}", "rb") as log:
            log.seek(size - kept)
            end = log.read()
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"[the beginning was cut off]\n" + end)
    except OSError:
        return


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out the run in the folder that is named and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if len(words) != 1 or not Path(words[0]).is_dir():
        print("usage: python -m lessen.jobs.worker FOLDER", file=sys.stderr)
        return RecipeError.exit_code
    folder = Path(words[0]).absolute()
    faulthandler.enable()  # a crash in C leaves the Python stacks in the log
    _be_the_one_to_go()
    channel = Channel()
    stop = Stop("resume the run to go on from its last checkpoint")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.on_signal)
    threading.Thread(target=Heart(channel).beat, daemon=True).start()
    threading.Thread(target=channel.listen, args=(stop.heed,), daemon=True).start()
    try:
        carry_out(folder, stop.check)
    except BaseException as error:
        stop.over()
        state, told = ending(error)
        channel.send(kind="end", state=state, error=told)
        if state == "failed" and not isinstance(error, LessenError):
            with suppress(OSError):  # the log lies on the same disk, which may be full
                traceback.print_exc()
        return EXIT_STOPPED if state in ("cancelled", "interrupted") else int(told["exit_code"])
    channel.send(kind="end", state="succeeded", error=None)
    return 0


def carry_out(folder: Path, check: Callable[[], None]) -> None:
    """Run the recipe of a folder.

    Raises:
        ResourceError: the disk has too little room for it.
        Cancelled: `check` said so.
        LessenError: what the user can mend.
    """
    recipe = read_recipe(folder)
    check()
    from lessen.runner import run

    check()
    run(recipe, out_dir=folder, check=check)


def _gpu_bytes() -> int | None:
    """Return what torch holds on the GPU; None while torch is not in use there."""
    cuda: Any = getattr(sys.modules.get("torch"), "cuda", None)
    try:
        return int(cuda.memory_reserved()) if cuda is not None and cuda.is_initialized() else None
    except (AttributeError, RuntimeError):  # torch is half imported, or the device is gone
        return None


def _be_the_one_to_go() -> None:
    """Where memory runs out, the system shall end this process and not the server; a crash leaves no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
