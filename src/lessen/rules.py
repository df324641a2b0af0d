"""The rules of a recipe that span sections: what cannot work is refused before anything is read or written.

Ranges of single settings stand in recipe.py. Each rule here names what was given and what to do instead.
Imports no torch.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from lessen import plugins, sequence_rules
from lessen.errors import RecipeError

if TYPE_CHECKING:
    from lessen.recipe import Recipe


def refuse(recipe: Recipe) -> None:
    """Raise unless the recipe can be carried out, as far as that is known without reading data or models.

    Raises:
        UnknownNameError: a method, backend, format or source does not exist; the message lists those there are.
        RecipeError: settings that exclude each other.
    """
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", recipe.device) is None:
        raise RecipeError(f"device is {recipe.device!r}; allowed are auto, cpu, cuda, cuda:N", "see `lessen doctor`")
    _names(recipe)
    _data(recipe)
    _models(recipe)
    _outputs(recipe)
    sequence_rules.refuse(recipe)
    if recipe.distills:
        _distill(recipe)
    if recipe.prunes:
        _prune(recipe)
    if recipe.quantizes:
        _quantize(recipe)


def pattern(text: str) -> tuple[int, int] | None:
    """Return (kept, of) for an N:M pattern such as 2:4, None for structured and unstructured.

    Raises:
        RecipeError: it is none of these.
    """
    if text in ("structured", "unstructured"):
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    kept, of = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < kept < of:
        raise RecipeError(
            f"prune.pattern is {text!r}; allowed are structured, unstructured and N:M with 0 < N < M",
            "2:4 keeps two of every four weights",
        )
    return kept, of


def _names(recipe: Recipe) -> None:
    plugins.require("distill.objectives", recipe.distill.objective)
    for name in recipe.distill.features:
        plugins.require("distill.objectives", name)
    plugins.require("prune.methods", recipe.prune.method)
    pattern(recipe.prune.pattern)
    for name in recipe.export.formats:
        plugins.require("export.formats", name)
    if recipe.quantize.backend != "auto":
        plugins.require("quantize.backends", recipe.quantize.backend)
    if recipe.data.source != "auto":
        plugins.require("data.sources", recipe.data.source)


def _data(recipe: Recipe) -> None:
    data = recipe.data
    separate = [name for name in ("test_path", "validation_path") if getattr(data, name)]
    if data.folds > 1 and separate:
        raise RecipeError(
            f"data.folds is {data.folds} and data.{separate[0]} is given; folds are cut from one table",
            f"drop data.{separate[0]}, or set data.folds to 1",
        )
    if data.fold is not None and data.fold >= data.folds:
        raise RecipeError(f"data.fold is {data.fold} of {data.folds} folds", "leave data.fold out; every fold is run")
    if not separate and data.validation_frac + data.test_frac >= 1:
        raise RecipeError(
            f"data.validation_frac {data.validation_frac} and data.test_frac {data.test_frac} leave no training rows",
            "their sum must be below 1",
        )
    if data.augment != "none" and recipe.task != "image-classification":
        raise RecipeError(
            f"data.augment is {data.augment!r}, task is {recipe.task!r}", "augment is for images: use none"
        )
    if len(data.label_columns) == 1:
        raise RecipeError("data.label_columns names one column", "use data.label_column for a single label")


def _models(recipe: Recipe) -> None:
    from lessen.models import presets

    specs = {"teacher": recipe.teacher, **({"student": recipe.student} if recipe.distills else {})}
    for name, spec in specs.items():
        if name == "teacher" and spec.model == "teacher":
            raise RecipeError("teacher.model is 'teacher'", "name a model; only student.model may be teacher")
        if spec.model.endswith((".pt", ".pth", ".bin", ".pkl", ".ckpt")):
            raise RecipeError(
                f"{name}.model is {spec.model}: a pickle can run code when it is read, so none is",
                "give a folder with config.json and model.safetensors",
            )
        if not spec.model.startswith(presets.PREFIX):
            continue
        preset = presets.find(spec.model)
        if preset.task != recipe.task:
            raise RecipeError(
                f"{name}.model is {spec.model}, for {preset.task}; task is {recipe.task}",
                "see `lessen models` for what serves which task",
            )


def _outputs(recipe: Recipe) -> None:
    specs = {"teacher": recipe.teacher, "student": recipe.student} if recipe.distills else {"teacher": recipe.teacher}
    for name, spec in specs.items():
        if name == "student" and spec.model == "teacher":
            continue  # takes the teacher's outputs
        if recipe.data.label_columns and spec.output == "softmax":
            raise RecipeError(
                f"data.label_columns asks for several labels a row, {name}.output is softmax",
                f"set {name}.output to sigmoid",
            )
        if spec.output != recipe.teacher.output:
            raise RecipeError(
                f"student.output is {spec.output}, teacher.output is {recipe.teacher.output}; "
                "their answers cannot be compared",
                "give both the same output",
            )


def _distill(recipe: Recipe) -> None:
    cfg = recipe.distill
    if cfg.alpha == 0 and not any(cfg.features.values()):
        raise RecipeError(
            "distill.alpha is 0 and distill.features is empty: nothing would be learned from the teacher",
            "raise distill.alpha, add a feature such as hidden, or use pipeline baseline",
        )
    _objective(recipe)
    if cfg.cache == "on" and recipe.data.augment != "none":
        raise RecipeError(
            f"distill.cache is on, data.augment is {recipe.data.augment}: a stored answer belongs to another view",
            "set distill.cache to auto or off",
        )
    if not cfg.allow_larger and _same_shape(recipe):
        raise RecipeError(
            f"student and teacher are both {recipe.teacher.model}, of the same shape: nothing would get smaller",
            "give the student fewer layers or units, or set distill.allow_larger",
        )


def _objective(recipe: Recipe) -> None:
    cfg, states = recipe.distill, plugins.stated("distill.objectives", recipe.distill.objective)
    if "loss" not in states:
        raise RecipeError(
            f"distill.objective is {cfg.objective}, which compares features, not answers",
            f"set distill.objective to kl and give {cfg.objective} a weight in distill.features",
        )
    for name in cfg.features:
        if "loss" in plugins.stated("distill.objectives", name):
            raise RecipeError(
                f"distill.features has {name}, which compares answers", f"set distill.objective to {name}"
            )
    if states.get("PER_BATCH") and cfg.train.accumulate > 1:
        raise RecipeError(
            f"distill.objective {cfg.objective} relates samples of one batch; "
            f"distill.train.accumulate is {cfg.train.accumulate}",
            "set distill.train.accumulate to 1, or use objective kl",
        )
    if recipe.teacher.output == "sigmoid" and (cfg.standardize or not states.get("SIGMOID")):
        what = "distill.standardize" if cfg.standardize else f"distill.objective {cfg.objective}"
        raise RecipeError(
            f"{what} compares classes; teacher.output is sigmoid, which answers yes or no per label",
            "use objective kl or mse without standardize",
        )


def _same_shape(recipe: Recipe) -> bool:
    """Whether the recipe alone shows that the student is not smaller."""
    sizes = ("layers", "hidden_size", "intermediate_size", "heads", "config")
    student, teacher = recipe.student, recipe.teacher
    return student.model == teacher.model and all(getattr(student, s) == getattr(teacher, s) for s in sizes)


def _prune(recipe: Recipe) -> None:
    from lessen.prune import rules

    rules.refuse(recipe.prune)


def _quantize(recipe: Recipe) -> None:
    from lessen import quantize

    kind: Literal["transformer", "cnn"] = "cnn" if recipe.task == "image-classification" else "transformer"
    reason = quantize.refuse_task(recipe.task, recipe.quantize.backend) or quantize.refuse(
        kind, recipe.device, recipe.quantize
    )
    if reason:
        raise RecipeError(f"quantize.backend is {recipe.quantize.backend}: {reason}", "see docs/quantize.md")
