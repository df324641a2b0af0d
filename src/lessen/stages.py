"""The stages of a pipeline in order, each skipped when its artifact is there already and still true."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen import __version__
from lessen.artifact import Artifact
from lessen.context import Context, digest
from lessen.events import StageFinished, StageSkipped, StageStarted
from lessen.folder import RunFolder, finished
from lessen.recipe import Recipe

if TYPE_CHECKING:
    from lessen.data import Splits

Make = Callable[[Path, str, Context], Artifact]


@dataclass(frozen=True)
class Step:
    """A stage's name in the report and the artifact it left."""

    stage: str
    artifact: Artifact
    seconds: float | None  # None: found finished


def names(recipe: Recipe) -> tuple[str, ...]:
    """Return the stages of a recipe in order.

    teacher; runtime: the teacher in the deploy runtime, so that a runtime's gain is not sold as compression;
    control: the student without the teacher; distill; random: pruned at random; prune; export; quantize.
    """
    wanted = {
        "teacher": True,
        "runtime": _deploys_onnx(recipe),
        "control": recipe.distills and recipe.distill.control,
        "distill": recipe.distills,
        "random": recipe.prunes and recipe.prune.control,
        "prune": recipe.prunes,
        "export": bool(recipe.export.formats) and recipe.pipeline != "baseline",
        "quantize": recipe.quantizes,
    }
    return tuple(name for name, on in wanted.items() if on)


def _deploys_onnx(recipe: Recipe) -> bool:
    return "onnx" in recipe.export.formats


class Pipeline:
    """Runs the stages of one recipe in one folder."""

    def __init__(self, recipe: Recipe, splits: Splits, folder: RunFolder, ctx: Context) -> None:
        self.recipe, self.splits, self.folder, self.ctx = recipe, splits, folder, ctx
        self.names = names(recipe)

    def run(self, then: Callable[[Step], None]) -> None:
        """Run every stage; `then` is told of each artifact as soon as it is complete."""
        made: dict[str, Artifact] = {}
        for index, name in enumerate(self.names):
            self.ctx.emit(StageStarted(stage=name, index=index, total=len(self.names)))
            for step in getattr(self, f"_{name}")(index, made):
                made[name] = step.artifact
                then(step)

    def _latest(self, made: dict[str, Artifact]) -> Artifact:
        return next(made[n] for n in ("prune", "distill", "teacher") if n in made)

    def _step(
        self, index: int, name: str, settings: dict[str, Any], sources: list[Artifact], make: Make, inner: str = ""
    ) -> Step:
        out = self.folder.stage(index, name) / inner if inner else self.folder.stage(index, name)
        key = digest(
            {
                "stage": name + inner,
                "settings": settings,
                "sources": [s.digest for s in sources],
                "data": self.splits.digest,
                "seed": self.recipe.seed,
                "version": __version__,
            }
        )
        ctx = self.ctx.at(name)
        there = finished(out, key)
        if there is not None:
            ctx.emit(StageSkipped(stage=name, artifact=str(out.relative_to(self.folder.path))))
            return Step(name, there, None)
        out.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        artifact = make(out, key, ctx)
        seconds = time.monotonic() - start
        ctx.emit(StageFinished(stage=name, artifact=str(out.relative_to(self.folder.path)), seconds=seconds))
        return Step(name, artifact, seconds)

    def _teacher(self, index: int, made: dict[str, Artifact]) -> list[Step]:
        from lessen import models
        from lessen.finetune import finetune

        recipe, spec = self.recipe, self.recipe.teacher

        def make(out: Path, key: str, ctx: Context) -> Artifact:
            model = models.fetch(spec, self.splits, recipe.data, recipe.task, recipe.seed)
            if model.facts.get("labels", "kept") != "kept" and not spec.model.startswith("scratch:"):
                before = ", ".join(model.facts.get("labels_before", ())) or "none"
                ctx.say(f"{spec.model}: {model.facts['labels']}; its own labels were {before}", "warning")
            if spec.train is None:
                return models.save(model, out, stage="teacher", key=key, history=({"stage": "teacher"},), facts={})
            return finetune(model, spec.train, self.splits, ctx, out=out, key=key, augment=recipe.data.augment)

        return [self._step(index, "teacher", _settings(recipe, "teacher", "data"), [], make)]

    def _runtime(self, index: int, made: dict[str, Artifact]) -> list[Step]:
        return [self._exported(index, "runtime", made["teacher"], "onnx")]

    def _export(self, index: int, made: dict[str, Artifact]) -> list[Step]:
        formats = sorted(self.recipe.export.formats, key=lambda f: f == "onnx")  # the one that deploys comes last
        return [self._exported(index, "export", self._latest(made), name) for name in formats]

    def _exported(self, index: int, stage: str, source: Artifact, name: str) -> Step:
        from lessen.export import export

        cfg = self.recipe.export.model_copy(update={"formats": (name,)})

        def make(out: Path, key: str, ctx: Context) -> Artifact:
            return export(source, cfg, self.splits, ctx, out=out.parent, key=key)[0]

        return self._step(index, stage, cfg.model_dump(mode="json"), [source], make, inner=name)

    def _distill(self, index: int, made: dict[str, Artifact]) -> list[Step]:
        return [self._taught(index, "distill", made["teacher"])]

    def _control(self, index: int, made: dict[str, Artifact]) -> list[Step]:
        return [self._taught(index, "control", made["teacher"])]

    def _taught(self, index: int, stage: str, teacher: Artifact) -> Step:
        from lessen import distill, models

        recipe = self.recipe
        work = distill.distill if stage == "distill" else distill.control

        def make(out: Path, key: str, ctx: Context) -> Artifact:
            student = models.student(
                recipe.student, models.open_model(teacher), self.splits, recipe.data, recipe.task, recipe.seed
            )
            return work(
                teacher, student, recipe.distill, self.splits, ctx, out=out, key=key, augment=recipe.data.augment
            )

        return self._step(index, stage, _settings(recipe, "student", "distill", "data"), [teacher], make)

    def _prune(self, index: int, made: dict[str, Artifact]) -> list[Step]:
        return [self._cut(index, "prune", self._latest(made))]

    def _random(self, index: int, made: dict[str, Artifact]) -> list[Step]:
        return [self._cut(index, "random", self._latest(made))]

    def _cut(self, index: int, stage: str, source: Artifact) -> Step:
        from lessen import prune

        recipe = self.recipe
        work = prune.prune if stage == "prune" else prune.control

        def make(out: Path, key: str, ctx: Context) -> Artifact:
            return work(
                source, recipe.prune, recipe.distill, self.splits, ctx, out=out, key=key, augment=recipe.data.augment
            )

        return self._step(index, stage, _settings(recipe, "prune", "distill", "data"), [source], make)

    def _quantize(self, index: int, made: dict[str, Artifact]) -> list[Step]:
        from lessen.quantize import quantize

        recipe, source = self.recipe, self._latest(made)
        exported = made.get("export")
        onnx = exported if exported is not None and exported.manifest.runtime == "onnx" else None

        def make(out: Path, key: str, ctx: Context) -> Artifact:
            return quantize(source, recipe.quantize, recipe.distill, self.splits, ctx, out=out, key=key, onnx=onnx)

        return [self._step(index, "quantize", _settings(recipe, "quantize", "distill", "data"), [source], make)]


def _settings(recipe: Recipe, *sections: str) -> dict[str, Any]:
    values = recipe.model_dump(mode="json")
    return {name: values[name] for name in sections}
