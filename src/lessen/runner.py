"""run(recipe) -> Report: the whole program on one screen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lessen import __version__, data, measure, report
from lessen.artifact import Artifact
from lessen.context import Context, default_cache_dir
from lessen.errors import LessenError
from lessen.events import Event, Log, RowMeasured, RunFinished
from lessen.folder import RunFolder, claim, lock, now, read_recipe, read_state, recipe_digest
from lessen.loggers import opened
from lessen.recipe import Recipe, parse, read
from lessen.sink import Sink
from lessen.stages import Pipeline, Step

Emit = Callable[[Event], None]
Check = Callable[[], None]


def run(
    recipe: Recipe | dict[str, Any] | str | Path,
    *,
    out_dir: str | Path | None = None,
    emit: Emit | None = None,
    check: Check | None = None,
    force: bool = False,
    loggers: Sequence[str] = (),
) -> report.Report:
    """Carry out a recipe: every stage, measured, with a report.

    The folder of an interrupted run of the same recipe is continued: finished stages are reused, a broken one
    goes on from its checkpoint.

    Args:
        recipe: a Recipe, its plain values, or the path of a YAML file.
        out_dir: the run's folder; the recipe's output_dir or runs/<name> when absent.
        emit: is told of every event (lessen.events). Where it raises, it is left out with a warning and the run goes
            on; only Cancelled, KeyboardInterrupt and SystemExit stop the run.
        check: is called at every step and may raise Cancelled.
        force: replace another run in the same folder.
        loggers: where the numbers go too (lessen.loggers), such as tensorboard. One that fails is left out.

    Returns:
        The complete report, as written to report.json.

    Raises:
        ResourceError: the disk has too little room for it.
        LessenError: what the user can mend; nothing is left half-written.
    """
    checked = _recipe(recipe)
    path = Path(out_dir or checked.output_dir or Path("runs") / checked.name)
    if loggers:
        with opened(loggers, path, emit) as told:
            return run(checked, out_dir=path, emit=told, check=check, force=force)
    if checked.data.folds > 1 and checked.data.fold is None:
        from lessen.folds import run_folds

        _find_room(checked, path)
        return run_folds(checked, path, emit=emit, check=check, force=force)
    from lessen.runtime import pick_device, ranks

    rank, _ = ranks()
    ctx = Context(
        out_dir=path if rank == 0 else path.with_name(f".{path.name}.rank{rank}"),
        cache_dir=Path(checked.cache_dir) if checked.cache_dir else default_cache_dir(),
        device=pick_device(checked.device),
        seed=checked.seed,
        emit=emit or (lambda event: None),
        check=check or (lambda: None),
    )
    done = _finished(path, checked)  # every process looks at the same folder, so that all of them return or none
    if done is not None:
        replace(ctx, emit=Sink(ctx.emit)).say(f"{path} is complete already")
        return done
    _find_room(checked, path)
    written = _carry_out(checked, ctx, force=force, measured=rank == 0)
    if rank:
        shutil.rmtree(ctx.out_dir)  # the same stages as rank 0's, which stay
    return written


def _find_room(recipe: Recipe, path: Path) -> None:
    from lessen.plan import disk, require_room

    require_room(path, disk(recipe).value)


def _carry_out(recipe: Recipe, ctx: Context, *, force: bool, measured: bool) -> report.Report:
    splits = data.load(recipe.data, recipe.task, recipe.seed)
    path = ctx.out_dir
    fresh = not path.exists()
    with lock(path):
        folder = claim(path, recipe, force=force)
        try:
            with folder.recording(ctx.emit) as tell:
                written = _Recorder(recipe, splits, folder, replace(ctx, emit=tell)).go(measured=measured)
        except LessenError:
            if fresh and not any(path.glob("stages/*")):
                shutil.rmtree(path)  # nothing was made: leave nothing
            raise
    return written


def _finished(path: Path, recipe: Recipe) -> report.Report | None:
    """Return the report of a run of this recipe that is complete, with every artifact undamaged, else None."""
    state = read_state(path)
    if state.get("state") != "succeeded" or state.get("recipe_digest") != recipe_digest(recipe):
        return None
    try:
        written = report.read(path)
        for row in written.rows:
            if row.artifact is not None:
                Artifact(path / row.artifact).verify()
    except LessenError:
        return None
    return written if written.complete and state.get("version") == __version__ else None


def resume(
    path: str | Path, *, emit: Emit | None = None, check: Check | None = None, loggers: Sequence[str] = ()
) -> report.Report:
    """Go on with the run in a folder; arguments as in `run`.

    Raises:
        ArtifactError: there is no run.
    """
    return run(read_recipe(Path(path)), out_dir=path, emit=emit, check=check, loggers=loggers)


class _Recorder:
    """Measures each stage as it completes and keeps the report up to date on disk."""

    def __init__(self, recipe: Recipe, splits: data.Splits, folder: RunFolder, ctx: Context) -> None:
        self.recipe, self.splits, self.folder, self.ctx = recipe, splits, folder, ctx
        self.artifacts: dict[str, Artifact] = {}
        self.answers: dict[str, measure.Answers | measure.Said] = {}
        self.predictions: report.Predictions | None = None
        self.warnings: list[report.Warned] = []
        self.start = time.monotonic()
        self.report = report.Report(
            run_id=folder.run_id,
            name=recipe.name,
            complete=False,
            created=now(),
            task=recipe.task,
            pipeline=recipe.pipeline,
            recipe=recipe.model_dump(mode="json"),
            data=splits.facts,
            environment={
                **measure.environment(recipe.measure.threads, ctx.device),
                "recipe_digest": recipe_digest(recipe),
                "finished": None,
            },
        )

    def go(self, *, measured: bool) -> report.Report:
        """Run the pipeline, then measure speed with all artifacts interleaved."""
        ctx = replace(self.ctx, emit=self._listen)
        if self.recipe.note:
            ctx.say(self.recipe.note, "warning")
        Pipeline(self.recipe, self.splits, self.folder, ctx).run(self._add if measured else lambda step: None)
        if not measured:
            return self.report
        if self.recipe.measure.baseline:
            self._add_baseline()
        if self.recipe.measure.speed:
            self._add_speed(ctx.at("measure"))
        self._link_final()
        seconds = time.monotonic() - self.start
        pairs = measure.compare_pairs(
            self.splits.test.labels,
            self.answers,
            report.pairs(self.report.rows),
            bootstrap=self.recipe.measure.bootstrap,
            seed=self.recipe.seed,
        )
        environment = {**self.report.environment, "finished": now()}
        written = self._write(complete=True, seconds=seconds, comparisons=pairs, environment=environment)
        report.complete_cards(written, self.folder.path)
        ctx.emit(RunFinished(report=str(self.folder.path / "report.json"), seconds=seconds))
        return written

    def _add(self, step: Step) -> None:
        name, previous = step.stage, self.report.rows[-1] if self.report.rows else None
        source = self._source(name)
        metrics, answers = measure.measure_stage(
            step.artifact,
            self.splits,
            self.answers.get("teacher"),
            self.recipe.measure,
            self.ctx.at(name),
            source=source.metrics if source else None,
            source_facts=source.facts if source else None,
            train=previous is None or name in ("distill", "prune"),
        )
        self.answers[name], self.artifacts[name] = answers, step.artifact
        self.predictions = self.predictions or report.Predictions(self.splits, self.folder.path)
        self.predictions.add(name, answers)
        row = report.make_row(
            name,
            step.artifact,
            self.folder.path,
            metrics,
            device=self.ctx.device if step.artifact.manifest.runtime != "onnx" else "cpu",
            facts=answers.facts,
            source=source.stage if source else None,
            seconds=step.seconds,
        )
        self.report = self.report.model_copy(update={"rows": [*[r for r in self.report.rows if r.stage != name], row]})
        self.ctx.emit(RowMeasured(stage=name, metrics={k: m.value for k, m in metrics.items()}))
        self._write()

    def _source(self, stage: str) -> report.Row | None:
        if stage == "teacher":
            return None
        if stage in ("runtime", "control", "distill"):
            return self.report.row("teacher")
        before = ("distill", "teacher") if stage in ("prune", "random") else ("prune", "distill", "teacher")
        return next((row for name in before if (row := self.report.row(name))), None)

    def _add_baseline(self) -> None:
        from lessen.measure.baseline import score_baseline

        teacher = self.artifacts.get("teacher")
        metrics, facts = score_baseline(
            self.splits, self.recipe.measure, self.recipe.seed, teacher.processor if teacher else None
        )
        row = report.Row(
            stage="baseline",
            artifact=None,
            device="cpu",
            runtime=str(facts.get("runtime", "scikit-learn")),
            role="reference",
            metrics=metrics,
            facts=facts,
        )
        self.report = self.report.model_copy(update={"baseline": row})

    def _add_speed(self, ctx: Context) -> None:
        found = measure.measure_speed(self.artifacts, self.splits.test, self.recipe.measure, ctx)
        rows = []
        for row in self.report.rows:
            speed = found.get(row.stage)
            more = {"metrics": row.metrics | speed.metrics, "facts": row.facts | speed.facts} if speed else {}
            rows.append(row.model_copy(update=more))
        self.report = self.report.model_copy(update={"rows": rows})

    def _link_final(self) -> None:
        """Point `final` at what ships."""
        final = self.report.final
        link = self.folder.path / "final"
        if final is None or final.artifact is None:
            return
        if link.is_symlink():
            link.unlink()
        if not link.exists():
            link.symlink_to(final.artifact, target_is_directory=True)

    def _listen(self, event: Event) -> None:
        if isinstance(event, Log) and event.level != "info":
            self.warnings.append(report.Warned(stage=event.stage, message=event.message, level=event.level))
        self.ctx.emit(event)

    def _write(self, **changes: Any) -> report.Report:
        values = {"warnings": self.warnings, **changes}
        self.report = report.write(self.report.model_copy(update=values), self.folder.path)
        return self.report


def _recipe(recipe: Recipe | dict[str, Any] | str | Path) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    return parse(recipe if isinstance(recipe, dict) else read(Path(recipe)))
