"""A worker whose run is an act: the real worker, with a runner that does what the recipe's author says.

Started as `python stand_in.py FOLDER`; with --shell FOLDER NAME AUTHOR it is a `lessen run` of a shell. It writes the
folder as the real runner does (lock, claim, recording), in a fraction of a second, and can crash, hang and misbehave
in every way that a library can.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import lessen.runner
from lessen.context import write_atomic
from lessen.errors import Cancelled, DataError, LessenError
from lessen.events import Progress, RunFinished, StageStarted
from lessen.folder import claim, lock
from lessen.jobs import worker

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STEP_SECONDS = 0.02


def act(recipe, *, out_dir, check, emit=None, force=False):
    what, _, number = recipe.author.partition(" ")
    with lock(Path(out_dir)):
        folder = claim(Path(out_dir), recipe, force=force)
        with folder.recording(emit) as tell:
            tell(StageStarted(stage="teacher", index=0, total=1))
            ACTS[what](tell, check, int(number or 0))
            tell(RunFinished(report="report.json", seconds=1.0))


def steps(tell, check, number):
    for step in range(1, number + 1):
        check()
        tell(Progress(stage="teacher", step=step, total_steps=number, loss=1 / step))
        time.sleep(STEP_SECONDS)


def segfault(tell, check, number):
    ctypes.string_at(0)


def kill(tell, check, number):
    os.kill(os.getpid(), number or signal.SIGKILL)


def leave(tell, check, number):
    print("leaving without a word", file=sys.stderr, flush=True)
    os._exit(number)


def memory(tell, check, number):
    bytearray(1 << 62)


def hang_in_c(tell, check, number):
    """Wait for ever in C, holding the interpreter: no other thread runs, no signal is handled."""
    mutex = ctypes.create_string_buffer(64)  # zeros: a mutex that nobody holds
    for _ in range(2):
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)


def sleep(tell, check, number):
    time.sleep(600)


def halt(tell, check, number):
    os.kill(os.getpid(), signal.SIGSTOP)
    for _ in range(20):  # another thread may take the signal, and this one goes on for a moment
        time.sleep(0.01)


def stubborn(tell, check, number):
    while True:
        try:
            steps(tell, check, 1000)
        except Cancelled:
            continue


def children(tell, check, number):
    """Children in sessions of their own, and one whose parent is gone, as a measuring worker's would be."""
    subprocess.Popen(SLEEPER, start_new_session=True)
    code = f"import subprocess; subprocess.Popen({SLEEPER!r}, start_new_session=True)"
    subprocess.run([sys.executable, "-c", code], check=True)
    steps(tell, check, 10_000)


def orphans(tell, check, number):
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGKILL)).start()
    children(tell, check, number)


def wrong(tell, check, number):
    raise DataError("the file has no column 'text'", "name it: data.text_column")


def bug(tell, check, number):
    raise KeyError("a bug of ours")


def full(tell, check, number):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.safetensors")


def chatter(tell, check, number):
    print("to stdout, as libraries do")
    subprocess.run([sys.executable, "-c", "import sys; print('child', sys.stdin.read())"], check=True)
    sys.stderr.write("x" * 99 + "\n")
    sys.stderr.write(("x" * 99 + "\n") * ((number << 20) // 100))
    sys.stderr.flush()
    steps(tell, check, 130 if number else 3)  # until the heart has beaten once more


def busy_in_c(tell, check, number):
    sum(range(1 << 60))


def count(tell, check, number, padding=0, at_half=lambda: None):
    """Add up numbers, with a checkpoint at every one."""
    file = Path(FOLDER[0]) / "sum.json"
    done, total = json.loads(file.read_text()) if file.is_file() else (0, 0)
    for step in range(done + 1, number + 1):
        check()
        total += step * step
        tell(Progress(stage="teacher", step=step, total_steps=number, loss=float(total)))
        write_atomic(file, json.dumps([step, total]) + " " * padding)
        if not done and step == number // 2:
            at_half()
        time.sleep(STEP_SECONDS)


def fill(tell, check, number):
    """Count, with large checkpoints, on a disk that is full at half the way."""
    count(tell, check, number, 1 << 20, _fill)


def limit(tell, check, number):
    """Count, in a process that may write no more at half the way, as on a full disk."""
    count(tell, check, number, 1 << 20, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY)))


def stuff(tell, check, number):
    """Fill the disk to the last byte and fail of it."""
    _fill()
    write_atomic(Path(FOLDER[0]) / "stages" / "model", b"x" * (1 << 20))


def _fill():
    with (Path(FOLDER[0]) / "junk").open("wb", buffering=0) as junk:
        size = 1 << 16
        while size:
            try:
                junk.write(b"x" * size)
            except OSError:
                size //= 2


def linger(tell, check, number):
    """Succeed, and then never end."""
    threading.Thread(target=time.sleep, args=(600,)).start()


ACTS = {
    "steps": steps, "segfault": segfault, "kill": kill, "leave": leave, "memory": memory, "hang_in_c": hang_in_c,
    "sleep": sleep, "halt": halt, "stubborn": stubborn, "children": children, "orphans": orphans, "wrong": wrong,
    "bug": bug, "full": full, "chatter": chatter, "linger": linger, "busy_in_c": busy_in_c, "count": count,
    "stuff": stuff, "fill": fill, "limit": limit,
}  # fmt: skip
FOLDER: list[str] = []


def shell(folder, name, author):
    """Do what `lessen run` does in a shell."""
    from lessen.cli.interrupt import stoppable
    from lessen.recipe import parse

    FOLDER.append(folder)
    recipe = parse({"name": name, "author": author, "data": {"source": "docstrings"}})
    try:
        with stoppable("", quiet=True) as check:
            act(recipe, out_dir=folder, check=check, force=True)
    except LessenError as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "--shell":
        sys.exit(shell(*sys.argv[2:]))
    FOLDER.append(sys.argv[1])
    lessen.runner.run = act
    sys.exit(worker.main())
