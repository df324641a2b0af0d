"""The predecessor's command-line flags and pipeline names -> values of a recipe, and nothing else.

Two programs are spoken: `HSF` (the hate-speech compression pipeline) and `DPQ` (its sibling, whose pipelines are
called baseline_kd ...). They differ in a few flags and defaults; a flag that only DPQ has, with none that only HSF
has, selects DPQ's defaults. docs/legacy.md holds the table for readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lessen.errors import RecipeError

Dialect = Literal["HSF", "DPQ"]
Kind = Literal["text", "int", "float", "switch", "list"]
ABLATION = ["baseline", "kd_only", "prune_only", "quant_only", "kd_prune", "kd_quant", "prune_quant", "kd_prune_quant"]
RECOVERY_LR = 0.1  # of --lr, in every predecessor
SCRATCH_LR = 5e-4  # the predecessors knew pretrained models only; 2e-5 teaches random weights next to nothing
SCRATCH_TRAIN = {"token_dropout": 0.2, "embedding_lr": 2.0}  # what a text model from random weights gains from
CLASSIFIER_WIDTH = 256  # of the teacher's head; the student's is --student_hidden_size


@dataclass(frozen=True)
class Flag:
    """A flag of the predecessor."""

    name: str
    kind: Kind
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    only: Dialect | None = None  # the one program that has it


def _flag(name: str, kind: Kind, default: Any, help_: str, choices: str = "", only: Dialect | None = None) -> Flag:
    return Flag(name, kind, default, help_, tuple(choices.split()), only)


FLAGS: tuple[Flag, ...] = (
    _flag("dataset_path", "text", None, "table with a text and a label column -> data.path"),
    _flag("author_name", "text", None, "-> author"),
    _flag("teacher_path", "text", "csebuetnlp/banglabert", "-> teacher.model", only="HSF"),
    _flag("model_path", "text", "sagorsarker/bangla-bert-base", "-> teacher.model", only="DPQ"),
    _flag("teacher_checkpoint", "text", None, "trained teacher: a local folder or hub id; it is not trained again"),
    _flag("skip_baseline", "switch", False, "use the teacher as given, untrained by this run", only="DPQ"),
    _flag("teacher_epochs", "int", 10, "-> teacher.train.epochs", only="HSF"),
    _flag("student_path", "text", "distilbert-base-multilingual-cased", "-> student.model"),
    _flag("student_hidden_size", "int", 256, "width of the student's classifier head -> student.head_width"),
    _flag("batch", "int", 32, "-> every train.batch_size"),
    _flag("lr", "float", 2e-5, "teacher and student; recovery trains at 0.1 of it"),
    _flag("epochs", "int", 15, "of distilling (DPQ: of the teacher too)"),
    _flag("max_length", "int", 128, "-> data.max_length"),
    _flag("num_folds", "int", 5, "-> data.folds; every fold is run; 1: a single split"),
    _flag("stratification_type", "text", "binary", "-> data.stratify", "binary none", "DPQ"),
    _flag("data_fraction", "float", 1.0, "-> data.fraction"),
    _flag("dropout", "float", 0.1, "-> teacher.dropout, student.dropout"),
    _flag("weight_decay", "float", 0.01, "-> every train.weight_decay"),
    _flag("warmup_ratio", "float", 0.1, "-> every train.warmup_frac"),
    _flag("gradient_clip_norm", "float", 1.0, "-> every train.clip_norm"),
    _flag("early_stopping_patience", "int", 5, "-> teacher.train.patience, distill.train.patience"),
    _flag("freeze_base", "switch", False, "train the teacher's head only -> teacher.train.freeze", only="DPQ"),
    _flag("use_class_weights", "switch", False, "-> every train.class_weights (HSF: always on)", only="DPQ"),
    _flag("scheduler_type", "text", "linear", "-> every train.schedule", "linear cosine", "DPQ"),
    _flag("loss_type", "text", "bce", "-> every train.loss; focal has gamma 2", "bce focal", "DPQ"),
    _flag("pooling_type", "text", "cls", "-> teacher.pooling, student.pooling", "cls mean max", "DPQ"),
    _flag("mlflow_experiment_name", "text", None, "refused: nothing is written to MLflow", only="DPQ"),
    _flag("kd_method", "text", "logit", "-> distill.features", "logit hidden attention multi_level"),
    _flag("kd_alpha", "float", 0.7, "-> distill.alpha"),
    _flag("kd_temperature", "float", 4.0, "-> distill.temperature"),
    _flag("hidden_loss_weight", "float", 0.3, "weight of hidden; for kd_method hidden, multi_level"),
    _flag("attention_loss_weight", "float", 0.2, "weight of attention; for kd_method attention, multi_level"),
    _flag("prune_method", "text", "magnitude", "-> prune.method, .pattern", "magnitude wanda gradual structured"),
    _flag("prune_sparsity", "float", 0.5, "-> prune.remove_frac"),
    _flag("prune_layers", "text", "all", "-> prune.layers", "all attention ffn encoder"),
    _flag("prune_schedule", "text", "cubic", "gradual: -> prune.schedule", "linear cubic exponential"),
    _flag("prune_start_epoch", "int", 0, "gradual: -> prune.start_epoch"),
    _flag("prune_end_epoch", "int", 10, "gradual: -> prune.end_epoch; recovery follows"),
    _flag("prune_frequency", "int", 100, "gradual: steps between mask updates -> prune.frequency"),
    _flag("calib_samples", "int", 512, "-> prune.calib_samples"),
    _flag("fine_tune_after_prune", "switch", True, "recovery training after pruning (on unless --no_...)"),
    _flag("no_fine_tune_after_prune", "switch", False, "-> prune.recover none"),
    _flag("fine_tune_epochs", "int", 3, "-> prune.recover.epochs"),
    _flag("quant_method", "text", "dynamic", "-> quantize.backend", "dynamic static qat fp16 int4"),
    _flag("quant_dtype", "text", None, "follows from --quant_method; refused where the two differ", "int8 int4 fp16"),
    _flag("quant_calibration_batches", "int", 100, "static: times --batch -> quantize.calib_samples"),
    _flag("save_all_stages", "switch", True, "always so: every stage keeps its folder", only="HSF"),
    _flag("save_huggingface", "switch", False, "always so: every stage keeps its folder", only="DPQ"),
    _flag("run_ablation", "switch", False, "run every pipeline, write ablation_summary.csv", only="HSF"),
    _flag("ablation_pipelines", "list", ABLATION, "which pipelines --run_ablation runs", only="HSF"),
)  # fmt: skip
BY_NAME = {flag.name: flag for flag in FLAGS}

# Values of one flag go to these settings as they are.
_PLACES: dict[str, tuple[str, ...]] = {
    "pipeline": ("pipeline",), "seed": ("seed",), "output_dir": ("output_dir",), "cache_dir": ("cache_dir",),
    "dataset_path": ("data.path",),
    "author_name": ("author",),
    "teacher_path": ("teacher.model",),
    "model_path": ("teacher.model",),
    "teacher_epochs": ("teacher.train.epochs",),
    "student_path": ("student.model",),
    "student_hidden_size": ("student.head_width",),
    "batch": ("teacher.train.batch_size", "distill.train.batch_size", "prune.recover.batch_size"),
    "lr": ("teacher.train.lr", "distill.train.lr"),
    "epochs": ("distill.train.epochs",),
    "max_length": ("data.max_length",),
    "num_folds": ("data.folds",),
    "data_fraction": ("data.fraction",),
    "dropout": ("teacher.dropout", "student.dropout"),
    "weight_decay": ("teacher.train.weight_decay", "distill.train.weight_decay", "prune.recover.weight_decay"),
    "warmup_ratio": ("teacher.train.warmup_frac", "distill.train.warmup_frac", "prune.recover.warmup_frac"),
    "gradient_clip_norm": ("teacher.train.clip_norm", "distill.train.clip_norm", "prune.recover.clip_norm"),
    "early_stopping_patience": ("teacher.train.patience", "distill.train.patience"),
    "scheduler_type": ("teacher.train.schedule", "distill.train.schedule", "prune.recover.schedule"),
    "pooling_type": ("teacher.pooling", "student.pooling"),
    "kd_alpha": ("distill.alpha",),
    "kd_temperature": ("distill.temperature",),
    "prune_sparsity": ("prune.remove_frac",),
    "prune_layers": ("prune.layers",),
    "calib_samples": ("prune.calib_samples",),
    "fine_tune_epochs": ("prune.recover.epochs",),
}  # fmt: skip

_METHODS: dict[str, dict[str, Any]] = {
    "magnitude": {"method": "magnitude", "pattern": "unstructured", "scope": "global", "schedule": "one_shot"},
    "wanda": {"method": "wanda", "pattern": "unstructured", "scope": "per_layer", "schedule": "one_shot"},
    "gradual": {"method": "magnitude", "pattern": "unstructured", "scope": "global"},
    "structured": {"method": "magnitude", "pattern": "structured", "scope": "per_layer", "schedule": "one_shot"},
}
_BACKENDS = {
    "dynamic": ("ort_dynamic", "int8"),
    "static": ("ort_static", "int8"),
    "qat": ("qat", "int8"),
    "fp16": ("fp16", "fp16"),
    "int4": ("weight_int4", "int4"),
}


def pipeline(name: str) -> str:
    """Return lessen's name of a pipeline; DPQ's names start with baseline_."""
    short = name.removeprefix("baseline_") if name.startswith("baseline_") else name
    return f"{short}_only" if short in ("kd", "prune", "quant") else short


def flag_of(path: str) -> str | None:
    """Return the flag that fills a setting, for messages."""
    return next((name for name, places in _PLACES.items() if path in places and name in BY_NAME), None)


def translate(given: Mapping[str, Any], *, complete: bool) -> dict[str, Any]:
    """Return recipe values of the predecessor's flags.

    Args:
        given: flag name -> text as typed, True for a switch, a list for ablation_pipelines; also pipeline, seed,
            output_dir and cache_dir, which both programs share with lessen.
        complete: fill what was not given with the predecessor's defaults; else only what was given is returned.

    Raises:
        RecipeError: a value that is no number or no choice, or a flag whose meaning lessen does not offer.
    """
    dialect = _dialect(given)
    typed = {name: _typed(BY_NAME[name], value) if name in BY_NAME else value for name, value in given.items()}
    _refuse(typed)
    every = {**(_defaults(dialect, typed) if complete else {}), **typed}
    values: dict[str, Any] = {}
    for name, places in _PLACES.items():
        for place in places:
            if every.get(name) is not None:
                put(values, place, every[name])
    if "pipeline" in every:
        put(values, "pipeline", pipeline(every["pipeline"]))
    _teacher(values, every, dialect)
    _training(values, every, dialect, complete)
    _distill(values, every)
    _prune(values, every)
    _quantize(values, every)
    values["legacy"] = {name: value for name, value in every.items() if value is not None}
    return values


def put(values: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path of nested mappings, in place."""
    *parents, last = path.split(".")
    for name in parents:
        values = values.setdefault(name, {})
    values[last] = value


def _dialect(given: Mapping[str, Any]) -> Dialect:
    only = {BY_NAME[name].only for name in given if name in BY_NAME}
    if str(given.get("pipeline", "")).startswith("baseline_"):
        only.add("DPQ")
    return "DPQ" if "DPQ" in only and "HSF" not in only else "HSF"


def _typed(flag: Flag, value: Any) -> Any:
    if flag.choices and value not in flag.choices:
        raise RecipeError(f"--{flag.name} is {value!r}; allowed are {', '.join(flag.choices)}", "choose one of these")
    if flag.kind in ("int", "float"):
        try:
            return int(value) if flag.kind == "int" else float(value)
        except ValueError:
            raise RecipeError(f"--{flag.name} is {value!r}, not a number", f"its default is {flag.default}") from None
    if flag.kind == "list":
        names = [pipeline(str(v)) for v in value]
        unknown = sorted(set(names) - set(ABLATION))
        if unknown:
            raise RecipeError(f"--{flag.name} names {', '.join(unknown)}", f"choose from {', '.join(ABLATION)}")
        return names
    return value


def _refuse(given: dict[str, Any]) -> None:
    if "mlflow_experiment_name" in given:
        raise RecipeError(
            "--mlflow_experiment_name: lessen writes nothing to MLflow",
            "use --name for the run's name; report.json and events.jsonl hold settings, curves and results",
        )
    checkpoint = given.get("teacher_checkpoint")
    if checkpoint and str(checkpoint).endswith((".pt", ".pth", ".bin", ".pkl", ".ckpt")):
        raise RecipeError(
            f"--teacher_checkpoint is {checkpoint}: a pickle can run code when it is read, so none is",
            "give a folder with config.json and model.safetensors",
        )
    if given.get("fine_tune_after_prune") and given.get("no_fine_tune_after_prune"):
        raise RecipeError("--fine_tune_after_prune and --no_fine_tune_after_prune are both given", "drop one")
    if given.get("teacher_path") and given.get("model_path"):
        raise RecipeError("--teacher_path and --model_path both name the teacher", "drop one")
    dtype, method = given.get("quant_dtype"), given.get("quant_method", "dynamic")
    if dtype and dtype != _BACKENDS[method][1]:
        fitting = next(name for name, (_, bits) in _BACKENDS.items() if bits == dtype)
        raise RecipeError(
            f"--quant_dtype {dtype} does not go with --quant_method {method} ({_BACKENDS[method][1]})",
            f"use --quant_method {fitting}",
        )


def _defaults(dialect: Dialect, given: dict[str, Any]) -> dict[str, Any]:
    found = {f.name: f.default for f in FLAGS if f.only in (None, dialect) and f.default is not None}
    found["pipeline"] = "kd_only" if dialect == "HSF" else "baseline"
    found["output_dir"] = "./compressed_models" if dialect == "HSF" else "./outputs"
    found["cache_dir"] = "./cache"
    found["seed"] = 42
    other = {f.name for f in FLAGS if f.only not in (None, dialect)}
    if "model_path" in given:
        found.pop("teacher_path", None)
    if _from_scratch(given):
        found["lr"] = SCRATCH_LR
    return {name: value for name, value in found.items() if name not in other}


def _from_scratch(given: dict[str, Any]) -> bool:
    return str(given.get("teacher_path") or given.get("model_path")).startswith("scratch:")


def _teacher(values: dict[str, Any], every: dict[str, Any], dialect: Dialect) -> None:
    if dialect == "DPQ" and "epochs" in every:
        put(values, "teacher.train.epochs", every["epochs"])
    if every.get("freeze_base"):
        put(values, "teacher.train.freeze", "encoder")
    if every.get("teacher_checkpoint"):
        put(values, "teacher.model", every["teacher_checkpoint"])
    if every.get("teacher_checkpoint") or every.get("skip_baseline"):
        put(values, "teacher.train", None)


def _training(values: dict[str, Any], every: dict[str, Any], dialect: Dialect, complete: bool) -> None:
    places = ["distill.train", "prune.recover"]
    if values.get("teacher", {}).get("train", {}) is not None:
        places.append("teacher.train")
    if every.get("use_class_weights") or (complete and dialect == "HSF"):
        for place in places:
            put(values, f"{place}.class_weights", True)
    if "loss_type" in every:
        for place in places:
            put(values, f"{place}.loss", "focal" if every["loss_type"] == "focal" else "cross_entropy")
    if complete and _from_scratch(every):
        for place in places:
            for name, value in SCRATCH_TRAIN.items():
                put(values, f"{place}.{name}", value)
    if "lr" in every:
        put(values, "prune.recover.lr", RECOVERY_LR * every["lr"])
    if "stratification_type" in every:
        put(values, "data.stratify", every["stratification_type"] == "binary")
    if complete:
        put(values, "prune.recover.patience", None)
        for name, width in (("teacher", CLASSIFIER_WIDTH), ("student", every["student_hidden_size"])):
            put(values, f"{name}.head_width", width)
            put(values, f"{name}.output", "sigmoid")


def _distill(values: dict[str, Any], every: dict[str, Any]) -> None:
    method = every.get("kd_method")
    weights = {
        "hidden": every.get("hidden_loss_weight", BY_NAME["hidden_loss_weight"].default),
        "attention": every.get("attention_loss_weight", BY_NAME["attention_loss_weight"].default),
    }
    if method is None:
        given = {name: weight for name, weight in weights.items() if f"{name}_loss_weight" in every}
    else:
        given = {name: weight for name, weight in weights.items() if method in (name, "multi_level")}
    if method is not None or given:
        put(values, "distill.features", given)


def _prune(values: dict[str, Any], every: dict[str, Any]) -> None:
    method = every.get("prune_method")
    if method is not None:
        for name, value in _METHODS[method].items():
            put(values, f"prune.{name}", value)
    recover_epochs = every.get("fine_tune_epochs", BY_NAME["fine_tune_epochs"].default)
    tunes = not every.get("no_fine_tune_after_prune")
    if method == "gradual":
        end = every.get("prune_end_epoch", BY_NAME["prune_end_epoch"].default)
        put(values, "prune.schedule", every.get("prune_schedule", BY_NAME["prune_schedule"].default))
        put(values, "prune.start_epoch", every.get("prune_start_epoch", 0))
        put(values, "prune.end_epoch", end)
        put(values, "prune.frequency", every.get("prune_frequency", BY_NAME["prune_frequency"].default))
        put(values, "prune.recover.epochs", end + (recover_epochs if tunes else 0))
    elif not tunes:
        put(values, "prune.recover", None)


def _quantize(values: dict[str, Any], every: dict[str, Any]) -> None:
    method = every.get("quant_method")
    if method is None:
        return
    put(values, "quantize.backend", _BACKENDS[method][0])
    if method == "static":
        batches = every.get("quant_calibration_batches", BY_NAME["quant_calibration_batches"].default)
        put(values, "quantize.calib_samples", batches * every.get("batch", BY_NAME["batch"].default))
    if method == "qat":
        train = dict(values.get("prune", {}).get("recover") or {})
        train["epochs"] = every.get("fine_tune_epochs", BY_NAME["fine_tune_epochs"].default)
        put(values, "quantize.train", train)
