"""The supervisor of runs: a queue, one worker process a run, and one thread that looks after all of it."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from lessen.errors import ConflictError, QueueFullError
from lessen.eventlog import EventLog
from lessen.events import LIVE, RunStateChanged
from lessen.folder import EVENTS, RunFolder, lock, new_id, prepare, read_recipe, read_state
from lessen.jobs.follow import Follower
from lessen.jobs.job import Ending
from lessen.jobs.notices import Callback, Listeners, Resources
from lessen.jobs.outsiders import Outsiders
from lessen.jobs.place import Reserve, RootLock, purge
from lessen.jobs.recovery import Recovery
from lessen.jobs.tail import Replaced
from lessen.jobs.timing import Timing
from lessen.jobs.usage import Meter
from lessen.jobs.workers import Workers
from lessen.recipe import Recipe, parse
from lessen.store import RunRecord, Store

log = logging.getLogger(__name__)
WORKER = (sys.executable, "-m", "lessen.jobs.worker")
QUEUE = 20  # runs that may wait
LOOKS = 8  # folders that are looked into within one tick
PURGE_SECONDS = 3600.0
SAY_AGAIN_SECONDS = 10.0  # an error that comes with every tick is logged so often
DONE = object()
CLOSELY = 0.2  # between two looks while a run of somebody else is being cancelled
METERS = 100  # runs whose samples are kept
RESUMABLE = ("cancelled", "failed", "interrupted")


class Supervisor:
    """Queues runs, starts them, watches them, ends them.

    Every method may be called from any thread and returns soon; what takes time is done by the supervisor's own
    thread. Listeners are called from that thread.

    Args:
        store: of the root under which the runs lie.
        slots: runs at a time.
        worker: the command that carries out the run in a folder.
        timing: intervals and limits.
        clock: seconds that never jump.
    """

    def __init__(
        self, store: Store, *, slots: int = 1, worker: Sequence[str] = WORKER, timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.store, self.slots = store, slots
        self._timing, self._clock = timing or Timing(), clock
        self._lock = threading.RLock()  # over what follows, and over every change of a run's state
        self._listeners = Listeners()
        self._root_lock, self._reserve = RootLock(store.root), Reserve(store.root)
        self._follower = Follower(store, self._listeners, self.position)
        self._workers = Workers(self._follower, self._reserve, worker, self._timing)
        self._outsiders = Outsiders(self._follower, lambda run_id: run_id in self._workers.jobs, self._timing)
        self._recovery: Recovery | None = None
        self._scanning: Iterator[None] = iter(())
        self._meters: dict[str, Meter] = {}
        self._places: dict[str, int] = {}
        self._tend = True  # the queue changed
        self._next: dict[str, float] = {}  # when what is due
        self._said: dict[str, float] = {}  # when which error was logged
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._stop_by = 0.0
        self._thread: threading.Thread | None = None

    # life

    def start(self) -> None:
        """Take the root, end what a dead server left, and begin.

        Raises:
            ConflictError: another server uses this root; names its process.
        """
        self._root_lock.take()
        self._stopping.clear()
        self._recovery = Recovery(self._follower, self._timing, self._clock())
        for record in self.store.queue():
            self._follower.watch(record)
        self._thread = threading.Thread(target=self._run, name="lessen-supervisor", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 12.0) -> None:
        """Let every worker save and leave, end those that do not within `timeout` seconds, and let go of the root."""
        self._stop_by = self._clock() + timeout
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout + 10)
            self._thread = None
        self._root_lock.give_back()

    def listen(self, callback: Callback) -> Callable[[], None]:
        """Call back with every notice from now on; return the function that ends it."""
        return self._listeners.add(callback)

    # what callers may ask

    def submit(self, recipe: Recipe, *, model_name: str | None = None, name: str | None = None) -> RunRecord:
        """Put a run in the queue.

        Args:
            model_name: as the predecessors call the model.
            name: of the run; the recipe's when absent.

        Raises:
            QueueFullError: the queue is full.
            LessenError: the name cannot be one.
        """
        if name is not None:
            recipe = parse({**recipe.model_dump(mode="json"), "name": name})
        with self._lock:
            self._require_room()
            run_id = new_id(recipe.name)
            folder = self.store.root / run_id
            prepare(folder, recipe, run_id, origin="server", model_name=model_name)
            with lock(folder), EventLog(folder / EVENTS, attempt=1) as events:
                events.append(RunStateChanged(state="queued"))
            record = self.store.add(
                RunRecord(
                    run_id=run_id, folder=folder, name=recipe.name, task=recipe.task, pipeline=recipe.pipeline,
                    state="queued", recipe=recipe.model_dump(mode="json"), model_name=model_name,
                    queued_at=self._next_place(),
                )
            )  # fmt: skip
            self._follower.watch(record)
            self._follower.tell(record)
        self._look()
        return record

    def resume(self, run_id: str | None) -> RunRecord:
        """Put a cancelled, failed or interrupted run in the queue again; it goes on from its last checkpoint.

        Raises:
            NotFoundError: there is no such run.
            ConflictError: it is live, or has succeeded; QueueFullError where the queue is full.
            ArtifactError: its folder is gone.
        """
        with self._lock:
            record = self.store.need(run_id)
            if record.state not in RESUMABLE:
                raise ConflictError(
                    f"{record.run_id} is {record.state}", "only a cancelled, failed or interrupted run can be resumed"
                )
            self._require_room()
            read_recipe(record.folder)
            with lock(record.folder):
                body = read_state(record.folder)
                RunFolder(record.folder, record.run_id).set_state("queued", error=None, finished=None)
                with EventLog(record.folder / EVENTS, attempt=int(body.get("attempt") or 0) + 1) as events:
                    events.append(RunStateChanged(state="queued", reason="resumed"))
            record = self.store.set_state(
                record.run_id, "queued", error=None, finished=None, deleted_at=None, queued_at=self._next_place()
            )
            self._follower.watch(record)
            self._follower.tell(record)
        self._look()
        return record

    def cancel(self, run_id: str | None) -> RunRecord:
        """Cancel a run: at once where it waits, within 15 seconds where it runs. A run that ended stays as it is.

        Raises:
            NotFoundError: there is no such run.
            ConflictError: somebody else runs it, in a process that cannot be told.
        """
        with self._lock:
            record = self.store.need(run_id)
            if record.state not in LIVE:
                return record
            job = self._workers.jobs.get(record.run_id)
            if job is not None:
                job.cancel(self._clock())
                if record.state != "cancelling" and not self._workers.ending(record.run_id):
                    record = self._follower.set_state(record.run_id, "cancelling")
            elif record.state == "queued":
                how = "the run was cancelled before it began"
                ending = Ending("cancelled", how, {"message": how, "hint": "resume it to go on", "exit_code": 75})
                record = self._follower.close(record, ending)
            elif record.run_id in self._outsiders.live:
                record = self._outsiders.cancel(record, self._clock())
        self._look()
        return record

    def delete(self, run_id: str | None) -> RunRecord:
        """Put a run in the trash; its folder is removed after seven days.

        Raises:
            NotFoundError: there is no such run.
            ConflictError: it is live.
        """
        with self._lock:
            record = self.store.need(run_id)
            if record.state in LIVE:
                raise ConflictError(f"{record.run_id} is {record.state}", "cancel it first")
            if record.deleted_at is None:
                record = self._follower.tell(self.store.update(record.run_id, deleted_at=time.time()))
        return record

    def restore(self, run_id: str) -> RunRecord:
        """Take a run out of the trash.

        Raises:
            NotFoundError: there is no such run.
            ArtifactError: its folder is gone.
            ConflictError: another run has its folder.
        """
        with self._lock:
            record = self.store.need(run_id)
            read_recipe(record.folder)
            if read_state(record.folder).get("run_id") != record.run_id:
                raise ConflictError(f"another run has the folder of {record.run_id}", "it cannot be restored")
            return self._follower.tell(self.store.update(record.run_id, deleted_at=None))

    def position(self, run_id: str) -> int | None:
        """Return a run's place: 0 runs or is next, 1 comes after that; None where it does not wait or run."""
        with self._lock:
            record = self.store.get(run_id)
            if record is None or record.state not in LIVE:
                return None
            if record.state != "queued":
                return 0
            waiting = [r.run_id for r in self.store.queue()]
            return self._first_place() + waiting.index(run_id) if run_id in waiting else None

    def _first_place(self) -> int:
        """Return the place of the first run that waits: 0 where it may start."""
        running = [r for r in self.store.active() if r.run_id not in self._outsiders.live]
        return max(0, len(running) - self.slots + 1)

    def resources(self, run_id: str) -> list[Resources]:
        """Return the samples of what a run used, oldest first: of the last hour, and while this server lives."""
        meter = self._meters.get(run_id)
        return list(meter.samples) if meter else []

    def _look(self) -> None:
        """Have the thread look at the queue at once."""
        self._tend = True
        self._wake.set()

    def _require_room(self) -> None:
        if len(self.store.queue()) >= QUEUE:
            raise QueueFullError(f"{QUEUE} runs are waiting already, and no more may", "cancel one, or wait")

    def _next_place(self) -> float:
        """Return a time for the end of the queue, even if the system's clock was set back."""
        return max([time.time(), *((r.queued_at or 0.0) + 1e-6 for r in self.store.queue())])

    # the thread

    def _run(self) -> None:
        while True:
            self._wake.wait(self._timing.tick)
            self._wake.clear()
            now = self._clock()
            for work in (self._tick_jobs, self._tick_others, self._tick_seldom):
                self._guarded(work, now)
            self._listeners.deliver()
            if self._stopping.is_set() and self._stopped(now):
                self._listeners.deliver()
                return

    def _guarded(self, work: Callable[[float], None], now: float) -> None:
        """Do a part of the work; whatever goes wrong there, the thread lives on and tries again."""
        try:
            work(now)
        except Exception as error:
            self._reserve.spend_if_full()
            text = f"{work.__name__}: {type(error).__name__}: {error}"
            if now - self._said.get(text, -SAY_AGAIN_SECONDS) >= SAY_AGAIN_SECONDS:
                self._said = {text: now}
                log.exception("the supervisor goes on after an error")

    def _tick_jobs(self, now: float) -> None:
        for run_id in self._follower.watched:
            with self._lock:  # for each alone: callers wait for one run at most
                self._follow(run_id, now)
        with self._lock:
            if self._recovery is not None and self._recovery.step(now):
                self._recovery, self._tend = None, True
            before = len(self._workers.jobs)
            self._workers.step(now)
            if self._tend or len(self._workers.jobs) != before or self._is_due("queue", 1.0, now):
                self._tend = False
                self._tend_queue(now)

    def _follow(self, run_id: str, now: float) -> None:
        try:
            if run_id in self._follower.watched:
                self._follower.poll(run_id)
        except Replaced:
            self._follower.drop(run_id)
            self._next["scan"] = now  # who has the folder now?

    def _tend_queue(self, now: float) -> None:
        """Start what is next, and tell of every run whose place in the queue is another one now."""
        waiting = list(self.store.queue())
        while waiting and self._recovery is None and not self._stopping.is_set():
            if len(self._workers.jobs) >= self.slots:
                break
            self._workers.start(waiting.pop(0), now)
        first = self._first_place()
        places = {record.run_id: first + index for index, record in enumerate(waiting)}
        for record in waiting:
            if self._places.get(record.run_id, places[record.run_id]) != places[record.run_id]:
                self._follower.tell(record)
        self._places = places

    def _tick_others(self, now: float) -> None:
        if self._recovery is not None:
            return  # what a dead server left would look like runs of others
        with self._lock:
            self._outsiders.push(now)
        for _ in range(LOOKS):
            with self._lock:
                if next(self._scanning, DONE) is not DONE:
                    continue
                if self._is_due("scan", CLOSELY if self._outsiders.cancelling else self._timing.scan, now):
                    self._scanning = self._outsiders.scan()
            break

    def _tick_seldom(self, now: float) -> None:
        """Do what takes long and needs no lock."""
        if self._is_due("sample", self._timing.sample, now):
            for sample in self._sampled():
                self._listeners.post(sample)
        if self._is_due("purge", PURGE_SECONDS, now):
            for run_id in purge(self.store, self._timing.trash):
                log.info("%s was removed: it was deleted long ago", run_id)
            self._reserve.fill()

    def _sampled(self) -> list[Resources]:
        with self._lock:
            jobs = list(self._workers.jobs.values())
            others = [self.store.need(run_id) for run_id in self._outsiders.live]
        now = {job.run_id: (job.meter, job.gpu_bytes) for job in jobs}
        for record in others:
            who, meter = self._outsiders.who(record), self._meters.get(record.run_id)
            if who is not None:
                now[record.run_id] = (
                    meter if meter is not None and meter.who == who else Meter(record.run_id, who),
                    None,
                )
        self._meters |= {run_id: meter for run_id, (meter, _) in now.items()}
        for run_id in list(self._meters)[:-METERS]:
            del self._meters[run_id]
        taken = [meter.sample(gpu_bytes) for meter, gpu_bytes in now.values()]
        return [sample for sample in taken if sample is not None]

    def _is_due(self, what: str, every: float, now: float) -> bool:
        if now < self._next.get(what, now):
            return False
        self._next[what] = now + every
        return True

    def _stopped(self, now: float) -> bool:
        """Push the workers out; whether all are gone."""
        with self._lock:
            self._workers.interrupt(now)
            if now > self._stop_by:
                self._workers.kill(now)
            return not self._workers.jobs or now > self._stop_by + 5
