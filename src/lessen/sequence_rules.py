"""The rules of a recipe whose models answer with tokens, and of settings that only those have. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessen import plugins
from lessen.errors import RecipeError

if TYPE_CHECKING:
    from lessen.recipe import Distill, Recipe, Train

ONLY_CLASSIFY = {"loss": "cross_entropy", "label_smoothing": 0.0, "class_weights": False, "token_dropout": 0.0}
ONLY_GENERATE = ("sequences", "targets", "cross_tokenizer", "router")
FEATURES = ("hidden",)  # that compare what a language model gives


def refuse(recipe: Recipe) -> None:
    """Raise RecipeError where settings do not fit a task that generates, or fit no other."""
    if not recipe.generates:
        _not_for_labels(recipe)
        return
    if recipe.data.folds > 1:
        raise RecipeError(f"data.folds is {recipe.data.folds}, task is {recipe.task}", "folds are for classification")
    for name, cfg in _trainings(recipe).items():
        _training(name, cfg, recipe.task)
    if recipe.distills:
        _distill(recipe.distill, recipe)


def _not_for_labels(recipe: Recipe) -> None:
    if recipe.student.model == "experts":
        raise RecipeError(f"student.model is experts, task is {recipe.task}", "experts are of causal-lm teachers")
    defaults = type(recipe.distill).model_fields
    for name in ONLY_GENERATE:
        given = getattr(recipe.distill, name)
        if given != defaults[name].default:
            raise RecipeError(
                f"distill.{name} is {given!r}, task is {recipe.task}", "this is for seq2seq and causal-lm: leave it out"
            )


def _trainings(recipe: Recipe) -> dict[str, Train]:
    there = {
        "teacher.train": recipe.teacher.train,
        "distill.train": recipe.distill.train if recipe.distills else None,
        "prune.recover": recipe.prune.recover if recipe.prunes else None,
        "quantize.train": recipe.quantize.train if recipe.quantizes else None,
    }
    return {name: cfg for name, cfg in there.items() if cfg is not None}


def _training(name: str, cfg: Train, task: str) -> None:
    for setting, plain in ONLY_CLASSIFY.items():
        given = getattr(cfg, setting)
        if given != plain:
            raise RecipeError(f"{name}.{setting} is {given!r}, task is {task}", f"leave it at {plain!r}")
    if cfg.monitor == "f1_macro":
        raise RecipeError(f"{name}.monitor is f1_macro, task is {task}", "use auto, loss or accuracy (of tokens)")


def _distill(cfg: Distill, recipe: Recipe) -> None:
    _objective(cfg)
    if cfg.standardize:
        raise RecipeError("distill.standardize is for classes; the vocabulary is none", "set it to false")
    unknown = [name for name, weight in cfg.features.items() if weight and name not in FEATURES]
    if unknown or (cfg.features and recipe.task == "seq2seq"):
        raise RecipeError(
            f"distill.features has {', '.join(unknown or cfg.features)}, task is {recipe.task}",
            "causal-lm offers hidden; seq2seq has none",
        )
    reason = live(cfg)
    if reason and cfg.cache == "on":
        raise RecipeError(f"distill.cache is on, but {reason}", "set distill.cache to auto or off")
    if cfg.cache == "on" and cfg.targets == "dense":
        raise RecipeError(
            "distill.cache is on, distill.targets is dense: whole distributions are not stored", "use top_k"
        )
    if cfg.targets in ("top_k", "sampled") and (reason or cfg.cache == "off"):
        reason = reason or "distill.cache is off"
        raise RecipeError(f"distill.targets is {cfg.targets}, but {reason}", "sparse targets come from the cache")
    _router(cfg, recipe.task)
    student = recipe.student
    shape = [n for n in ("layers", "hidden_size", "heads", "config") if getattr(student, n)]
    if student.model == "experts" and (shape or student.init != "auto"):
        raise RecipeError(
            f"student.model is experts, student.{(shape or ['init'])[0]} is given",
            "a student made of experts has the teacher's shape; student.intermediate_size says how many are joined",
        )


def _objective(cfg: Distill) -> None:
    if not plugins.stated("distill.objectives", cfg.objective).get("TOKENS"):
        known = [
            n for n in plugins.names("distill.objectives") if plugins.stated("distill.objectives", n).get("TOKENS")
        ]
        raise RecipeError(
            f"distill.objective is {cfg.objective}, which is not for tokens", f"choose one of {', '.join(known)}"
        )


def live(cfg: Distill) -> str | None:
    """Return why the teacher must answer live whatever distill.cache says, or None."""
    if cfg.sequences == "student":
        return "distill.sequences is student: the texts are new at every step"
    if cfg.router == "ka" or (cfg.router == "sar" and cfg.moe.freeze_after is None):
        return f"distill.router is {cfg.router}: the teacher answers differently at every step"
    if any(cfg.features.values()):
        return "distill.features compares what only the running teacher gives"
    return None


def _router(cfg: Distill, task: str) -> None:
    if cfg.router is None:
        return
    if task != "causal-lm":
        raise RecipeError(f"distill.router is {cfg.router}, task is {task}", "routers are for causal-lm")
    if cfg.moe.freeze_after is not None and (cfg.router != "sar" or cfg.sequences != "data"):
        raise RecipeError(
            f"distill.moe.freeze_after is {cfg.moe.freeze_after}, router is {cfg.router}, sequences {cfg.sequences}",
            "freezing and caching is for router: sar on the data's texts",
        )
