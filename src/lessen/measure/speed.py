"""How fast an artifact is: each in its own fresh process, one at a time, in interleaved rounds.

Protocol: the saved artifact is loaded from disk; real test
inputs, encoded beforehand, one fixed shape a batch; warm-up per shape; rounds A B C, C B A, ...; the ratio to the
baseline is taken within each round, its median and 10-90 % spread over rounds are reported; load of other processes
is noted. Tokenizing is not part of a latency. A model that generates is timed greedy, for the same number of new tokens
whatever they are (`answering.py`): its latency is that of the whole answer.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lessen.context import Context
from lessen.errors import LessenError
from lessen.events import Progress
from lessen.info import generates
from lessen.measure import answering, inputs
from lessen.measure.metric import Metric, Metrics, measured, missing
from lessen.measure.process import WorkerError, WorkerProcess
from lessen.measure.quality import CPU_ONLY

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Split
    from lessen.recipe import Measure

WARM_CALLS = 5  # per shape
MIN_CALLS = 30  # per artifact and shape, over all rounds
P95_CALLS, P99_CALLS = 40, 1000  # calls below which a percentile would rest on one or two of them
QUANTILES = 101  # of the calls of an artifact: every whole percent
LOADED = 0.05  # share of the machine that others may use before a round counts as disturbed
LATER = "measured at the end, interleaved"
UNITS = {
    "latency_mean_ms": "ms", "latency_p50_ms": "ms", "latency_p95_ms": "ms", "latency_p99_ms": "ms",
    "throughput_per_s": "per_s", "batch_latency_p50_ms": "ms", "batch_latency_p95_ms": "ms",
    "batch_size": "count", "input_length": "tokens",
    "cpu_time_ms": "ms", "speedup": "ratio", "batch_speedup": "ratio", "cpu_speedup": "ratio", "threads": "count",
    "peak_rss_bytes": "bytes", "import_rss_bytes": "bytes", "open_ms": "ms", "first_call_ms": "ms",
    "foreign_load": "share",
}  # fmt: skip


@dataclass
class Timing:
    """What one artifact's worker answered: per batch size, one entry a round."""

    wall_ms: dict[int, list[list[float]]] = field(default_factory=dict)
    cpu_ms: dict[int, list[float]] = field(default_factory=dict)  # CPU time per call
    foreign: list[float] = field(default_factory=list)
    lengths: dict[int, int] = field(default_factory=dict)
    unit: str = "tokens"
    opened: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    tokens: int = 0  # of a generated answer
    token_ms: dict[int, list[list[list[float]]]] = field(default_factory=dict)  # per round: calls: tokens


class Speed(NamedTuple):
    """What was found of one artifact."""

    metrics: Metrics
    facts: dict[str, Any]  # latency: see `distribution`; empty where nothing was timed


def not_yet(reason: str = LATER, *, kind: str = "") -> Metrics:
    """Return every speed and memory metric without a value, for rows written before speed is measured.

    Args:
        kind: the task: models that generate have the times of their tokens too.
    """
    units = UNITS | (answering.UNITS if generates(kind) else {})
    return {name: missing(unit, reason) for name, unit in units.items()}


def threads_of(cfg: Measure) -> int:
    """Return the threads each runtime gets: the setting, or the cores this process may use."""
    if cfg.threads:
        return cfg.threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_speed(
    artifacts: Mapping[str, Artifact],
    test: Split,
    cfg: Measure,
    ctx: Context,
    *,
    baseline: str | None = None,
    device: str | None = None,
) -> dict[str, Speed]:
    """Time the saved artifacts against each other and read their peak memory.

    Args:
        artifacts: by name, in the order of a round.
        baseline: the name that ratios are taken to; the first one when absent.
        device: cpu or cuda:N, for all artifacts; when absent the context's, or cpu where one of them has no other.

    Returns:
        Of each name; the metrics of an artifact that failed have no value but the reason.
    """
    if not artifacts:
        return {}
    if not cfg.speed:
        return {n: Speed(not_yet("measure.speed is off", kind=a.info.task), {}) for n, a in artifacts.items()}
    sizes = sorted({1, cfg.batch_size})
    place = device or common_device(artifacts, ctx)
    shape = answering.shape(artifacts.values(), cfg)
    timings = {name: Timing(tokens=shape.tokens if a.info.generates else 0) for name, a in artifacts.items()}
    with tempfile.TemporaryDirectory(prefix="lessen-speed-") as work, ExitStack() as stack:
        workers = {
            name: _open(stack, artifact, timings[name], Path(work) / f"{i}.npz", test, shape, cfg, place)
            for i, (name, artifact) in enumerate(artifacts.items())
        }
        _rounds({n: w for n, w in workers.items() if w}, timings, sizes, cfg, ctx)
    first = timings[baseline or next(iter(artifacts))]
    for name, timing in timings.items():
        if timing.error:
            ctx.say(f"{name} could not be timed: {timing.error}", "warning")
    found = {name: summarise(timing, first, cfg) for name, timing in timings.items()}
    for name, timing in timings.items():
        if timing.tokens:
            found[name] |= answering.summarise(timing.token_ms, timing.tokens, cfg.batch_size, timing.error)
    noisy = [name for name, metrics in found.items() if disturbed(metrics)]
    if noisy:
        ctx.say(
            f"other processes used more than {LOADED:.0%} of this machine while {', '.join(noisy)} were timed: "
            "trust cpu_speedup rather than speedup",
            "warning",
        )
    return {name: Speed(found[name], distribution(timing)) for name, timing in timings.items()}


def common_device(artifacts: Mapping[str, Artifact], ctx: Context) -> str:
    """Return the device that all artifacts can be timed on, the context's or cpu; the change is said aloud."""
    bound = [name for name, artifact in artifacts.items() if artifact.manifest.runtime in CPU_ONLY]
    if ctx.device.startswith("cpu") or not bound:
        return ctx.device
    ctx.say(f"timing on cpu, not {ctx.device}: {', '.join(bound)} run there only", "warning")
    return "cpu"


def _open(
    stack: ExitStack,
    artifact: Artifact,
    timing: Timing,
    file: Path,
    test: Split,
    shape: answering.Shape,
    cfg: Measure,
    device: str,
) -> WorkerProcess | None:
    sizes = sorted({1, cfg.batch_size})
    try:
        probes = [answering.probe(test, artifact, size, shape) for size in sizes]
        inputs.save(probes, file)
        timing.lengths, timing.unit = {p.batch_size: p.length for p in probes}, probes[0].unit
        worker = stack.enter_context(WorkerProcess(threads_of(cfg)))
        timing.opened = worker.ask(
            "open", artifact=str(artifact.path.resolve()), device=device, threads=threads_of(cfg), inputs=str(file)
        )
        for size in sizes:
            calls = WARM_CALLS if not timing.tokens else answering.WARM_CALLS
            reply = worker.ask("warm", batch_size=size, calls=calls, tokens=timing.tokens)
            timing.opened.setdefault("first_call_ms", reply["first_call_ms"])
        return worker
    except LessenError as error:
        timing.error = error.message
        return None


def _rounds(
    workers: dict[str, WorkerProcess], timings: dict[str, Timing], sizes: list[int], cfg: Measure, ctx: Context
) -> None:
    total = cfg.rounds
    for turn in range(total):
        names = list(workers) if turn % 2 == 0 else list(reversed(workers))
        for name in names:
            ctx.check()
            if timings[name].error is None:
                _guard(timings[name], lambda n=name: _one_round(workers[n], timings[n], sizes, cfg))  # type: ignore[misc]
        ctx.emit(Progress(stage=ctx.stage, step=turn + 1, total_steps=total, unit="rounds"))
    for name, worker in workers.items():
        if timings[name].error is None:
            _guard(timings[name], lambda n=name, w=worker: timings[n].memory.update(w.ask("memory")))  # type: ignore[misc]


def _guard(timing: Timing, work: Callable[[], None]) -> None:
    try:
        work()
    except WorkerError as error:
        timing.error = error.message


def _one_round(worker: WorkerProcess, timing: Timing, sizes: list[int], cfg: Measure) -> None:
    calls = max(1, -(-(MIN_CALLS if not timing.tokens else answering.MIN_CALLS) // cfg.rounds))
    for size in sizes:
        load = ForeignLoad()
        reply = worker.ask("time", batch_size=size, seconds=cfg.seconds, min_calls=calls, tokens=timing.tokens)
        wall = [ns / 1e6 for ns in reply["wall_ns"]]
        timing.wall_ms.setdefault(size, []).append(wall)
        timing.cpu_ms.setdefault(size, []).append(reply["cpu_ns"] / 1e6 / len(wall))
        if timing.tokens:
            timing.token_ms.setdefault(size, []).append([[ns / 1e6 for ns in call] for call in reply["token_ns"]])
        timing.foreign.append(load.share(reply["cpu_ns"] / 1e9))


class ForeignLoad:
    """The share of the machine that other processes use, from here until asked."""

    def __init__(self) -> None:
        self._before = self._busy()

    @staticmethod
    def _busy() -> tuple[float, float, float]:
        import psutil

        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        own = psutil.Process().cpu_times()
        # guest time is part of user time already
        whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        return float(whole - idle), float(whole), float(own.user + own.system)

    def share(self, worker_seconds: float) -> float:
        """Return (busy - this process - the worker) / capacity since the start, 0..1."""
        busy, whole, own = (b - a for a, b in zip(self._before, self._busy(), strict=True))
        return float(np.clip((busy - own - worker_seconds) / whole, 0, 1)) if whole > 0 else 0.0


def summarise(timing: Timing, baseline: Timing, cfg: Measure) -> Metrics:
    """Return the metrics of one artifact's timings, ratios to the baseline's (above 1: faster)."""
    if timing.error or not timing.wall_ms:
        return not_yet(timing.error or "no round was finished")
    one, many = timing.wall_ms[1], timing.wall_ms[cfg.batch_size]
    calls = [t for r in one for t in r]
    batch_calls = [t for r in many for t in r]
    per_s = [cfg.batch_size * 1e3 / float(np.median(r)) for r in many]
    opened, n = timing.opened, len(calls)
    out: Metrics = {
        "latency_mean_ms": measured(sum(calls) / n, "ms", n=n),
        "latency_p50_ms": _percentile(one, 50, 1),
        "latency_p95_ms": _percentile(one, 95, P95_CALLS),
        "latency_p99_ms": _percentile(one, 99, P99_CALLS),
        "throughput_per_s": measured(
            cfg.batch_size * len(batch_calls) * 1e3 / sum(batch_calls),
            "per_s",
            n=len(batch_calls),
            spread=_spread(per_s),
        ),
        "batch_latency_p50_ms": _percentile(many, 50, 1),
        "batch_latency_p95_ms": _percentile(many, 95, P95_CALLS),
        "batch_size": measured(cfg.batch_size, "count"),
        "threads": measured(threads_of(cfg), "count"),
        "input_length": measured(timing.lengths[1], timing.unit),
        "cpu_time_ms": measured(float(np.median(timing.cpu_ms[1])), "ms", n=n, spread=_spread(timing.cpu_ms[1])),
        "speedup": _ratio(timing, baseline, 1, "wall"),
        "batch_speedup": _ratio(timing, baseline, cfg.batch_size, "wall"),
        "cpu_speedup": _ratio(timing, baseline, 1, "cpu"),
        "open_ms": measured(opened["open_seconds"] * 1e3, "ms", n=1),
        "first_call_ms": measured(opened["first_call_ms"], "ms", n=1),
        "import_rss_bytes": measured(opened["import_rss_bytes"], "bytes", n=1),
        "peak_rss_bytes": measured(timing.memory.get("peak_rss_bytes"), "bytes", n=1),
        "foreign_load": measured(float(np.median(timing.foreign)), "share", n=len(timing.foreign),
                                 spread=_spread(timing.foreign)),
    }  # fmt: skip
    if "peak_vram_bytes" in timing.memory:
        out["peak_vram_bytes"] = measured(timing.memory["peak_vram_bytes"], "bytes", n=1)
    return out


def distribution(timing: Timing) -> dict[str, Any]:
    """Return {"latency": {batch size as text: {"n": calls, "quantiles_ms": [the 0, 1, ... 100 % quantiles]}}}.

    Of the wall time of one call, ms; where a model generates a call is a whole answer. Empty where nothing was timed.
    """
    if timing.error or not timing.wall_ms:
        return {}
    calls = {size: [ms for r in rounds for ms in r] for size, rounds in sorted(timing.wall_ms.items())}
    shares = np.linspace(0, 1, QUANTILES)
    return {
        "latency": {
            str(size): {"n": len(found), "quantiles_ms": [round(float(q), 6) for q in np.quantile(found, shares)]}
            for size, found in calls.items()
        }
    }


def _percentile(rounds: list[list[float]], percent: int, needed: int) -> Metric:
    calls = [t for r in rounds for t in r]
    if len(calls) < needed:
        return missing("ms", f"{len(calls)} calls were timed, a {percent}th percentile needs {needed}")
    per_round = [float(np.percentile(r, percent)) for r in rounds]
    return measured(float(np.percentile(calls, percent)), "ms", n=len(calls), spread=_spread(per_round))


def _ratio(timing: Timing, baseline: Timing, size: int, clock: str) -> Metric:
    if baseline.error or not baseline.wall_ms:
        return missing("ratio", f"the baseline was not timed: {baseline.error or 'no round was finished'}")
    if clock == "wall":
        ours, theirs = ([float(np.median(r)) for r in t.wall_ms[size]] for t in (timing, baseline))
    else:
        ours, theirs = (t.cpu_ms[size] for t in (timing, baseline))
    ratios = [b / a for a, b in zip(ours, theirs, strict=False) if a > 0]
    if not ratios:
        return missing("ratio", "the clock is too coarse for so short a call")
    return measured(float(np.median(ratios)), "ratio", n=len(ratios), spread=_spread(ratios))


def _spread(values: list[float]) -> tuple[float, float]:
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [10, 90])
    return float(low), float(high)


def disturbed(metrics: Mapping[str, Any]) -> bool:
    """Return whether other processes used more than 5 % of the machine in at least half of the rounds."""
    found = metrics.get("foreign_load")
    return bool(found and found.value is not None and found.value > LOADED)
