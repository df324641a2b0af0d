"""What a recipe would do: stages, files, and rough estimates that name their basis. Touches nothing on disk."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lessen.errors import LessenError, ResourceError
from lessen.folder import disk_bytes
from lessen.plan_time import Work, training_time
from lessen.progress import duration

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.recipe import ModelSpec, Recipe, Train

FP32 = 4  # bytes of a weight
CHECKPOINT_COPIES = 3 + 3 + 1  # two checkpoints of weights and two AdamW moments each, and the best weights
CHARACTERS_PER_TOKEN = 4  # of a trained subword vocabulary, roughly
MARKS = 2  # tokens that stand around a text
IMAGE_SIZE = 224  # pixels a side of most models
ROOM = 2.0  # free disk that a run must find, in sizes that it is estimated to write


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
    rows, work = _rows(recipe, splits)
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
        seconds=_seconds(recipe, work, teacher),
        files=("recipe.json", "run.json", "events.jsonl", "report.json", "report.html", "results_*.csv"),
        warnings=_warnings(folder, room),
    )


def disk(recipe: Recipe) -> Estimate:
    """Return the bytes that a run would write, as in `plan`, without reading the data."""
    teacher = _parameters(recipe, recipe.teacher)
    student = _parameters(recipe, recipe.student) if recipe.distills else Estimate(None, "parameters", "no student")
    return _disk(recipe, teacher, student)


def require_room(folder: Path, needed: float | None) -> None:
    """Refuse a run that the disk has too little room for; a resumed one has written part of it.

    Args:
        folder: of the run; it need not be there yet.
        needed: bytes that the run is estimated to write (`disk`); None where that is not known.

    Raises:
        ResourceError: less than twice that much is free.
    """
    if needed is None:
        return
    free, want = shutil.disk_usage(_standing(folder)).free, ROOM * max(0.0, needed - disk_bytes(folder))
    if free < want:
        raise ResourceError(
            f"the disk is too full for this run: {free / 1e6:,.0f} MB are free in {folder.absolute().parent}, "
            f"it needs about {want / 1e6:,.0f} MB (twice what it is estimated to write)",
            "free some space, or delete old runs, then start or resume this one",
            kind="disk_full",
        )


def _standing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


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


def _rows(recipe: Recipe, splits: Splits | None) -> tuple[Estimate, Work | None]:
    """Return the training rows, and what the models take of all splits."""
    from lessen import data

    if recipe.data.path and not Path(recipe.data.path).exists() and recipe.data.source in ("auto", "hub"):
        return Estimate(None, "rows", f"{recipe.data.path} is not on this machine"), None
    splits = splits or data.load(recipe.data, recipe.task, recipe.seed)
    counts = [len(getattr(splits, name)) for name in ("train", "validation", "test")]
    sizes = [f"{name} {n}" for name, n in zip(("train", "validation", "test"), counts, strict=True)]
    told = ", ".join(sizes) + (f"; {len(splits.labels)} labels" if splits.labels else "")
    return Estimate(len(splits.train), "rows", told), _work(recipe, splits, counts)


def _work(recipe: Recipe, splits: Splits, counts: list[int]) -> Work:
    train, validation, test = map(float, counts)
    if recipe.task == "image-classification":
        side = recipe.data.image_size or _image_size(recipe.teacher.model)
        return Work(train, validation, test, side, "pixels a side")
    longest = recipe.data.max_length
    sample = [len(text) / CHARACTERS_PER_TOKEN + MARKS for text in splits.train.inputs[:500]]
    if recipe.task != "causal-lm":
        tokens = sum(min(longest, n) for n in sample) / max(1, len(sample))
        return Work(train, validation, test, max(1, round(tokens)))
    tokens = sum(sample) / max(1, len(sample))  # documents are read whole, in pieces
    share = tokens / longest if recipe.data.pack else max(1.0, tokens / longest)
    return Work(share * train, share * validation, share * test, round(longest if recipe.data.pack else tokens))


def _image_size(model: str) -> int:
    """Return the pixels a side where the recipe does not say them: the preset's, or what most models read."""
    from lessen.models import presets

    own = presets.find(model).image_size if model.startswith(presets.PREFIX) else None
    return own or IMAGE_SIZE


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
    size = FP32 * (kept + CHECKPOINT_COPIES * teacher.value) * _folds(recipe)
    return Estimate(
        size, "bytes", "4 bytes a weight, every stage's folder, the checkpoints of the largest; caches apart"
    )


def _folds(recipe: Recipe) -> int:
    """Return how many folds a run carries out; 1 where the recipe is one of them."""
    return 1 if recipe.data.fold is not None else max(1, recipe.data.folds)


def _seconds(recipe: Recipe, work: Work | None, teacher: Estimate) -> Estimate:
    if work is None or teacher.value is None:
        return Estimate(None, "s", "the rows or the teacher's size are not known")
    found = training_time(recipe, work)
    seconds = None if found.seconds is None else found.seconds * _folds(recipe)
    return Estimate(seconds, "s", found.basis)


def _warnings(folder: str, disk: Estimate) -> tuple[str, ...]:
    path = Path(folder)
    found = []
    if path.is_dir() and any(path.iterdir()):
        found.append(f"{folder} exists: the same recipe would go on there, another one needs --force")
    free = shutil.disk_usage(_standing(path)).free
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
