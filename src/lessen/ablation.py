"""The same recipe under several pipelines, one subfolder each, and a table of what each made.

Stages that two variants share (the teacher; the student of two variants that distil) are handed on, not made again:
their folders are hard-linked, and a stage whose source or settings differ after all is made anew by its key.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.context import write_atomic
from lessen.errors import RecipeError
from lessen.recipe import PIPELINES, Recipe, parse

if TYPE_CHECKING:
    from lessen.events import Event
    from lessen.report import Report

SUMMARY = "ablation_summary.csv"
COLUMNS = ("Pipeline", "F1 Macro", "F1 Binary", "Size (MB)", "Compression", "Sparsity")
Row = dict[str, Any]


def variants(recipe: Recipe, pipelines: Sequence[str] | None = None) -> list[Recipe]:
    """Return the recipe under each pipeline, complete with all its settings, in subfolders of its output_dir.

    Raises:
        RecipeError: a pipeline does not exist, or one of the variants cannot be carried out; nothing is started.
    """
    wanted = list(dict.fromkeys(pipelines or PIPELINES))
    unknown = [name for name in wanted if name not in PIPELINES]
    if unknown:
        raise RecipeError(f"there is no pipeline {unknown[0]!r}", f"choose from {', '.join(PIPELINES)}")
    root = Path(recipe.output_dir or f"runs/{recipe.name}")
    values = recipe.model_dump(mode="json")
    legacy = {**recipe.legacy, "pipeline": None} if recipe.legacy else {}
    return [
        parse({
            **values, "pipeline": name, "name": f"{recipe.name}-{name}", "output_dir": str(root / name),
            "legacy": {**legacy, "pipeline": name} if legacy else {},
        })
        for name in wanted
    ]  # fmt: skip


def run(
    recipes: Sequence[Recipe],
    root: Path,
    *,
    emit: Callable[[Event], None] | None = None,
    check: Callable[[], None] | None = None,
    force: bool = False,
) -> list[Row]:
    """Run every variant and write ablation_summary.csv after each; finished ones are skipped."""
    from lessen.folder import claim
    from lessen.runner import run as run_one

    rows: list[Row] = []
    for index, recipe in enumerate(recipes):
        out = Path(str(recipe.output_dir))
        claim(out, recipe, force=force)
        for other in reversed(recipes[:index]):
            _hand_on(other, recipe)
        rows.append(summary(recipe.pipeline, run_one(recipe, emit=emit, check=check)))
        write_atomic(root / SUMMARY, _csv(rows))
    return rows


def summary(pipeline: str, report: Report) -> Row:
    """Return a line of the summary: what the final artifact is like; None where it was not measured.

    Size is bytes / 10^6, Compression the teacher's bytes over them, Sparsity the share of zero weights. F1 Binary is
    the F1 of the second label, for two labels.
    """
    final, teacher = report.final, report.teacher
    if final is None:
        return dict.fromkeys(COLUMNS) | {"Pipeline": pipeline}
    size, before = final.value("file_bytes"), teacher.value("file_bytes") if teacher else None
    classes = final.facts.get("per_class") or []
    sparsity = final.value("sparsity")
    return {
        "Pipeline": pipeline,
        "F1 Macro": final.value("f1_macro"),
        "F1 Binary": classes[1]["f1"] if len(classes) == 2 else None,
        "Size (MB)": None if size is None else size / 1e6,
        "Compression": before / size if before and size else None,
        "Sparsity": sparsity,
    }


def shared(stage: str, one: Recipe, other: Recipe) -> bool:
    """Whether two variants make the same artifact in a stage, as far as the pipelines tell."""
    if stage in ("teacher", "runtime", "control", "distill"):
        return True
    same_student = one.distills == other.distills
    if stage in ("random", "prune"):
        return same_student
    return stage == "export" and same_student and one.prunes == other.prunes


def shown(value: Any) -> str:
    """Return a cell of the summary for people."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _hand_on(source: Recipe, target: Recipe) -> None:
    from lessen.stages import names

    places = {name: index for index, name in enumerate(names(target))}
    old, new = Path(str(source.output_dir)), Path(str(target.output_dir))
    for folder in sorted(old.glob("stages/*")):  # of a single split; folds are runs of their own
        name = folder.name.partition("-")[2]
        goal = new / "stages" / f"{places.get(name, 0):02d}-{name}"
        if name in places and shared(name, source, target) and not goal.exists():
            _link(folder, goal)


def _link(folder: Path, goal: Path) -> None:
    """Copy a finished folder by hard links; artifacts are replaced as a whole, never changed in place."""
    partial = goal.with_name(f".{goal.name}.linking")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(folder, partial, copy_function=_link_or_copy)
    os.replace(partial, goal)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def _csv(rows: list[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
