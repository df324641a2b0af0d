"""What a recipe would do: stages, files, and rough estimates that name their basis. Touches nothing on disk."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lessen.errors import LessenError
from lessen.progress import duration

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.recipe import ModelSpec, Recipe, Train

FP32 = 4  # bytes of a weight
CHECKPOINT_COPIES = 3 + 3 + 1  # two checkpoints of weights and two AdamW moments each, and the best weights
FLOPS_PER_WEIGHT = 6  # of one token forward and backward (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361, 2.1)
CHARACTERS_PER_TOKEN = 4  # of a trained subword vocabulary, roughly
EFFICIENCY = 0.4  # share of a large matrix product's speed that training reaches, roughly
MEASURE_SECONDS = 20.0  # per artifact beside the timed rounds: opening, answering the test split, memory


@dataclass(frozen=True)
class Estimate:
    """A rough number, or None, and what it rests on."""

    value: float | None
    unit: str
    basis: str


@dataclass(frozen=True)
class Stage:
    """A stage that would run and the folder it would write."""

    name: str
    does: str
    folder: str


@dataclass(frozen=True)
class Plan:
    """What would happen."""

    recipe: dict[str, Any]
    folder: str
    stages: tuple[Stage, ...]
    teacher_parameters: Estimate
    student_parameters: Estimate
    rows: Estimate
    disk_bytes: Estimate
    seconds: Estimate
    files: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, without the recipe."""
        return {name: value for name, value in asdict(self).items() if name != "recipe"}

    def text(self) -> str:
        """Return the recipe as YAML and the plan for people."""
        lines = ["# the resolved recipe", yaml.safe_dump(self.recipe, sort_keys=False, allow_unicode=True).rstrip()]
        lines += ["", f"# the plan: nothing was written; a run would write {self.folder}"]
        lines += [f"#   {i + 1}. {stage.name}: {stage.does} -> {stage.folder}" for i, stage in enumerate(self.stages)]
        lines += ["#   then a report: " + ", ".join(self.files)]
        named = {
            "teacher parameters": self.teacher_parameters, "student parameters": self.student_parameters,
            "rows": self.rows, "disk": self.disk_bytes, "time": self.seconds,
        }  # fmt: skip
        lines += ["# estimates"] + [f"#   {name}: {_shown(value)}" for name, value in named.items()]
        lines += [f"# warning: {text}" for text in self.warnings]
        return "\n".join(lines)


def plan(recipe: Recipe, splits: Splits | None = None) -> Plan:
    """Return what a recipe would do.

    Reads the data where it is on this machine (columns and labels are checked on the way) and builds the models
    without weights; neither data sets nor models are fetched.

    Args:
        splits: the recipe's data, where it was read already.

    Raises:
        LessenError: the data cannot be used as the recipe says.
    """
    from lessen.stages import names

    folder = recipe.output_dir or f"runs/{recipe.name}"
    rows, tokens = _rows(recipe, splits)
    teacher = _parameters(recipe, recipe.teacher)
    student = _parameters(recipe, recipe.student) if recipe.distills else Estimate(None, "parameters", "no student")
    room = _disk(recipe, teacher, student)
    stages = tuple(
        Stage(name, _does(recipe, name), f"{folder}/stages/{index:02d}-{name}")
        for index, name in enumerate(names(recipe))
    )
    return Plan(
        recipe=recipe.model_dump(mode="json"),
        folder=folder,
        stages=stages,
        teacher_parameters=teacher,
        student_parameters=student,
        rows=rows,
        disk_bytes=room,
        seconds=_seconds(recipe, rows, tokens, teacher, student, len(stages)),
        files=("recipe.json", "run.json", "events.jsonl", "report.json", "report.html", "results_*.csv"),
        warnings=_warnings(folder, room),
    )


def disk(recipe: Recipe) -> Estimate:
    """Return the bytes that a run would write, as in `plan`, without reading the data."""
    teacher = _parameters(recipe, recipe.teacher)
    student = _parameters(recipe, recipe.student) if recipe.distills else Estimate(None, "parameters", "no student")
    return _disk(recipe, teacher, student)


def _does(recipe: Recipe, name: str) -> str:
    r = recipe
    student = "a smaller copy of the teacher" if r.student.model == "teacher" else r.student.model
    trains = f"train {r.teacher.model}, {_length(r.teacher.train)}" if r.teacher.train else f"take {r.teacher.model}"
    cut = f"remove {r.prune.remove_frac:.0%} ({r.prune.pattern}"
    recover = f"{r.prune.recover.epochs:g} epochs of recovery" if r.prune.recover else "no recovery"
    return {
        "teacher": trains,
        "runtime": "the teacher in ONNX Runtime, for comparison",
        "control": f"{student} on labels alone, for comparison",
        "distill": f"{student}, {r.distill.objective}, {_length(r.distill.train)}",
        "random": f"{cut}, random), {recover}, for comparison",
        "prune": f"{cut}, {r.prune.method}), {recover}",
        "export": f"write {', '.join(r.export.formats)}",
        "quantize": f"backend {r.quantize.backend}",
    }.get(name, name)


def _length(cfg: Train) -> str:
    return f"{cfg.max_steps} steps" if cfg.max_steps else f"{cfg.epochs:g} epochs"


def _rows(recipe: Recipe, splits: Splits | None) -> tuple[Estimate, float | None]:
    """Return the training rows and the tokens of one of them."""
    from lessen import data

    if recipe.data.path and not Path(recipe.data.path).exists() and recipe.data.source in ("auto", "hub"):
        return Estimate(None, "rows", f"{recipe.data.path} is not on this machine"), None
    splits = splits or data.load(recipe.data, recipe.task, recipe.seed)
    sizes = [f"{name} {len(getattr(splits, name))}" for name in ("train", "validation", "test")]
    counts = ", ".join(sizes) + (f"; {len(splits.labels)} labels" if splits.labels else "")
    if recipe.task == "image-classification":
        return Estimate(len(splits.train), "rows", counts), None
    sample = splits.train.inputs[:500]
    tokens = sum(map(len, sample)) / max(1, len(sample)) / CHARACTERS_PER_TOKEN
    if recipe.task != "causal-lm":  # documents are read whole, in pieces
        tokens = min(recipe.data.max_length, tokens)
    return Estimate(len(splits.train), "rows", counts), 2 * tokens if recipe.task == "seq2seq" else tokens


def _parameters(recipe: Recipe, spec: ModelSpec) -> Estimate:
    from lessen import models

    try:
        count = models.parameters(recipe, spec)
    except LessenError as error:
        return Estimate(None, "parameters", error.message)
    return Estimate(count, "parameters", "from the configuration, without weights")


def _disk(recipe: Recipe, teacher: Estimate, student: Estimate) -> Estimate:
    known = [e.value for e in (teacher, student) if e.value is not None]
    if teacher.value is None or not known:
        return Estimate(None, "bytes", f"the teacher's size is not known: {teacher.basis}")
    small = student.value if student.value is not None else teacher.value
    kept = 2 * teacher.value + (recipe.distills + recipe.prunes + 1) * small  # torch and ONNX; one folder per stage
    size = FP32 * (kept + CHECKPOINT_COPIES * teacher.value) * max(1, recipe.data.folds)
    return Estimate(
        size, "bytes", "4 bytes a weight, every stage's folder, the checkpoints of the largest; caches apart"
    )


def _seconds(
    recipe: Recipe, rows: Estimate, tokens: float | None, teacher: Estimate, student: Estimate, stages: int
) -> Estimate:
    if rows.value is None or teacher.value is None:
        return Estimate(None, "s", "the rows or the teacher's size are not known")
    if tokens is None:
        return Estimate(None, "s", "no estimate for images: their cost does not follow from parameters and rows")
    small = student.value if student.value is not None else teacher.value
    trained = [(teacher.value, recipe.teacher.train)]
    if recipe.distills:
        trained += [(small, recipe.distill.train)] * (1 + recipe.distill.control)
    if recipe.prunes:
        trained += [(small, recipe.prune.recover)] * (1 + recipe.prune.control)
    work = sum(_flops(size, train, rows.value * tokens) for size, train in trained)
    work += 2 * teacher.value * rows.value * tokens if recipe.distills else 0  # the teacher answers once
    speed = EFFICIENCY * _machine_flops()
    timed = stages * (MEASURE_SECONDS + 2 * recipe.measure.seconds * recipe.measure.rounds)
    seconds = (work / speed + timed) * max(1, recipe.data.folds)
    basis = (
        f"6 FLOP x parameters x tokens ({tokens:.0f} a row) x all epochs, at {EFFICIENCY:.0%} of the "
        f"{speed / EFFICIENCY / 1e9:.0f} GFLOP/s of a matrix product here in fp32, and {timed:.0f} s of measuring"
    )
    return Estimate(seconds, "s", basis)


def _flops(parameters: float, train: Train | None, tokens: float) -> float:
    return FLOPS_PER_WEIGHT * parameters * tokens * train.epochs if train else 0.0


def _machine_flops(size: int = 1024, clock: Callable[[], float] = time.perf_counter) -> float:
    """Measure FLOP/s of a square fp32 matrix product, best of five."""
    import torch

    a, b = torch.rand(size, size), torch.rand(size, size)
    best = float("inf")
    for _ in range(5):
        start = clock()
        torch.mm(a, b)
        best = min(best, clock() - start)
    return 2 * size**3 / best


def _warnings(folder: str, disk: Estimate) -> tuple[str, ...]:
    path = Path(folder)
    found = []
    if path.is_dir() and any(path.iterdir()):
        found.append(f"{folder} exists: the same recipe would go on there, another one needs --force")
    place = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if disk.value is not None and free < disk.value:
        found.append(f"{free / 1e9:.1f} GB are free for about {disk.value / 1e9:.1f} GB")
    return tuple(found)


def _shown(estimate: Estimate) -> str:
    value = estimate.value
    if value is None:
        return f"not known ({estimate.basis})"
    if estimate.unit == "bytes":
        return f"about {value / 1e6:,.0f} MB ({estimate.basis})"
    if estimate.unit == "s":
        return f"about {duration(value)} ({estimate.basis})"
    return f"{value:,.0f} ({estimate.basis})"
