"""How long a recipe would train: a few steps of the models it names, with random weights, timed on this machine.

A model that would take long to build is not timed: its FLOPs are counted without weights (embedding tables, which are
only looked up, count nothing) and divided by the speed of a matrix product in the precision that training uses.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.errors import LessenError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from lessen.recipe import ModelSpec, Recipe, Train
    from lessen.runtime import Runtime

TIMED_PARAMETERS = 40e6  # of the largest model that is built and timed
PROBE_SECONDS = 4.0  # of the timed step, in proportion to a short one; the batch is cut where it would take longer
AGAIN_SECONDS = 1.0  # what is faster is timed twice: the first time is slow
FEW = 4  # rows of the first step, which says how long the others take
EFFICIENCY = 0.4  # share of a large matrix product's speed that training reaches, roughly
BACKWARD = 2.0  # of the forward pass: the gradients of the inputs and of the weights
MEASURE_SECONDS = 5.0  # per artifact beside the timed rounds: opening, answering the test split, memory
CONVERT_SECONDS = 4.0  # of a stage that trains nothing: tracing, writing, calibrating
TRAIN_SCORED = 2000  # rows of the training split that are answered after a training, at most

Inputs = Callable[[int], dict[str, Any]]
Clock = Callable[[], float]


@dataclass(frozen=True)
class Work:
    """The rows of a recipe as its models take them."""

    rows: float  # of the training split, in an epoch
    validation: float
    test: float
    length: int  # tokens of a row, or pixels a side
    unit: str = "tokens"


@dataclass(frozen=True)
class Pace:
    """Seconds that a model takes for a row."""

    step: float  # forward, backward and its share of the update
    answer: float  # forward alone
    timed: bool  # False: from FLOPs


@dataclass(frozen=True)
class Time:
    """Seconds, and what they rest on; None: not known."""

    seconds: float | None
    basis: str


def training_time(recipe: Recipe, work: Work, *, clock: Clock = time.perf_counter) -> Time:
    """Return the seconds that the stages of a recipe would take here, measuring included; of one fold.

    Early stopping is not foreseen: every training runs all its epochs.

    Args:
        clock: seconds, with any origin.
    """
    from lessen.stages import names

    try:
        paces = _paces(recipe, work, clock)
    except LessenError as error:
        return Time(None, error.message)
    stages = names(recipe)
    seconds = {name: _stage(name, recipe, work, paces) for name in stages}
    timed = len(stages) * (MEASURE_SECONDS + 2 * recipe.measure.seconds * recipe.measure.rounds)
    how = "a few steps timed here" if all(p.timed for p in paces.values()) else "FLOPs counted, large models not timed"
    told = ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())
    basis = f"{how}, {work.length} {work.unit} a row, all epochs: {told}, and {timed:.0f} s of measuring"
    return Time(sum(seconds.values()) + timed, basis)


def _stage(name: str, recipe: Recipe, work: Work, paces: dict[str, Pace]) -> float:
    teacher, student = paces["teacher"], paces.get("student", paces["teacher"])
    if name == "teacher":
        return _fit(teacher, recipe.teacher.train, work)
    if name == "control":
        return _fit(student, recipe.distill.train, work)
    if name == "distill":
        return _fit(student, recipe.distill.train, work) + teacher.answer * _asked(recipe, work)
    if name in ("prune", "random"):
        return _fit(student, recipe.prune.recover, work) + student.answer * (work.rows + recipe.prune.calib_samples)
    return CONVERT_SECONDS + student.answer * work.test


def _fit(pace: Pace, train: Train | None, work: Work) -> float:
    """Return the seconds of one training, its evaluations, and the answers of what it made."""
    answered = work.test + min(TRAIN_SCORED, work.rows)
    if train is None:
        return pace.answer * answered
    steps = steps_of(train, work.rows)
    trained = pace.step * steps * train.batch_size
    between = train.eval_steps or max(1, work.rows / train.batch_size)
    return trained + pace.answer * (answered + work.validation * (1 + steps / between))


def steps_of(train: Train, rows: float) -> float:
    """Return the optimizer steps of a training over `rows` rows an epoch."""
    return float(train.max_steps) if train.max_steps else train.epochs * max(1.0, rows / train.batch_size)


def _asked(recipe: Recipe, work: Work) -> float:
    """Return how many rows the teacher answers: once each, or at every step where views or texts change."""
    from lessen import sequence_rules

    live = recipe.generates and (recipe.distill.cache == "off" or sequence_rules.live(recipe.distill) is not None)
    train = recipe.distill.train
    every_step = live or recipe.data.augment != "none"
    return steps_of(train, work.rows) * train.batch_size if every_step else work.rows


def _paces(recipe: Recipe, work: Work, clock: Clock) -> dict[str, Pace]:
    found = {"teacher": _pace(recipe, recipe.teacher, recipe.teacher.train, work, clock)}
    if recipe.distills:
        found["student"] = _pace(recipe, recipe.student, recipe.distill.train, work, clock)
    return found


def _pace(recipe: Recipe, spec: ModelSpec, train: Train | None, work: Work, clock: Clock) -> Pace:
    from lessen import models
    from lessen.context import Context
    from lessen.recipe import Train
    from lessen.runtime import pick_device, runtime

    cfg = train or Train()
    there = runtime(Context(out_dir=Path(), device=pick_device(recipe.device)), cfg.precision)
    if models.parameters(recipe, spec) > TIMED_PARAMETERS:
        flops = models.flops(recipe, spec, work.length)
        speed = EFFICIENCY * matrix_flops(there, clock=clock)
        return Pace((1 + BACKWARD) * flops / speed, flops / speed, timed=False)
    module, inputs = models.sketch(recipe, spec, work.length, str(there.device))
    step, answer = timed(module, inputs, max(1, cfg.batch_size // cfg.accumulate), there, clock)
    return Pace(step, answer, timed=True)


def timed(module: nn.Module, inputs: Inputs, batch: int, there: Runtime, clock: Clock) -> tuple[float, float]:
    """Return the seconds of a training step and of an answer for one row of a batch.

    Args:
        module: trained in place.
        inputs: batch size -> inputs.
        batch: rows of a step; where they would take longer than PROBE_SECONDS, fewer are timed, at two sizes, and the
            rest follows by a straight line.
    """
    import torch

    update = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)

    def step(rows: int) -> float:
        given = inputs(rows)
        return _faster(lambda: _step(module, update, given, there), there, clock)

    def answer(rows: int) -> float:
        given = inputs(rows)
        with torch.no_grad(), there.autocast():
            return _faster(lambda: module(**given), there, clock)

    few = min(FEW, batch)
    step(few)  # kernels are chosen, memory is taken
    short = step(few)
    rows = max(few, min(batch, int(PROBE_SECONDS * few / max(short, 1e-9))))
    long = step(rows) if rows > few else short
    whole = along(few, short, rows, long, batch)
    module.eval()
    return whole / batch, answer(rows) / rows


def along(few: int, short: float, rows: int, long: float, batch: int) -> float:
    """Return the seconds of `batch` rows, on the line through two sizes, and at most in proportion to the larger."""
    if rows >= batch:
        return long
    each = (long - short) / (rows - few) if rows > few else long / rows
    return min(long * batch / rows, long + max(0.0, each) * (batch - rows))


def _step(module: Any, update: torch.optim.Optimizer, given: dict[str, Any], there: Runtime) -> None:
    module.train()
    update.zero_grad(set_to_none=True)
    with there.autocast():
        loss = module(**given).logits.float().logsumexp(-1).mean()
    loss.backward()
    update.step()


def _faster(work: Callable[[], object], there: Runtime, clock: Clock) -> float:
    """Return the seconds of one call; the better of two where it is short."""
    first = _seconds(work, there, clock)
    return first if first > AGAIN_SECONDS else min(first, _seconds(work, there, clock))


def _seconds(work: Callable[[], object], there: Runtime, clock: Clock) -> float:
    import torch

    start = clock()
    work()
    if there.device.type == "cuda":
        torch.cuda.synchronize(there.device)
    return clock() - start


def matrix_flops(there: Runtime, size: int = 1024, clock: Clock = time.perf_counter) -> float:
    """Measure FLOP/s of a square matrix product in the precision that trains, best of five."""
    import torch

    a, b = (torch.rand(size, size, device=there.device, dtype=there.dtype) for _ in range(2))
    return 2 * size**3 / max(min(_seconds(lambda: torch.mm(a, b), there, clock) for _ in range(5)), 1e-9)
