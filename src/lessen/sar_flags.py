"""The flags of the predecessor for causal language models (`train_sar_kd*.py`) -> values of a recipe.

Its scripts differ in defaults; those of its first one (train_sar_kd.py) hold here. docs/legacy.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lessen.errors import RecipeError
from lessen.legacy import Flag, Kind, put

PRECISION = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}
ROUTERS = ("auto", "none", "frozen", "all", "ka", "sar")


def _flag(name: str, kind: Kind, default: Any, help_: str, choices: tuple[str, ...] = ()) -> Flag:
    return Flag(name, kind, default, help_, choices)


FLAGS: tuple[Flag, ...] = (
    _flag("teacher_model", "text", "huihui-ai/Huihui-MoE-1B-A0.6B", "-> teacher.model; it is not trained"),
    _flag("student_model", "text", "HuggingFaceTB/SmolLM-135M", "-> student.model"),
    _flag("dataset_name", "text", "wikitext", "a hub id, a text or JSON-lines file, or a folder -> data.path"),
    _flag("dataset_config_name", "text", None, "-> data.hub_config (wikitext: wikitext-103-raw-v1)"),
    _flag("text_column", "text", None, "-> data.text_column"),
    _flag("block_size", "int", 1024, "tokens a row -> data.max_length"),
    _flag("per_device_batch_size", "int", 1, "rows of a micro-batch"),
    _flag("train_batch_size", "int", None, "the same as --per_device_batch_size"),
    _flag("eval_batch_size", "int", None, "accepted: evaluation chooses its own batches"),
    _flag("grad_accum_steps", "int", 8, "micro-batches a step -> distill.train.accumulate"),
    _flag("train_steps", "int", 1000, "optimizer steps -> distill.train.max_steps"),
    _flag("eval_steps", "int", 200, "-> distill.train.eval_steps"),
    _flag("save_steps", "int", 0, "accepted: checkpoints are written by time, distill.train.checkpoint_seconds"),
    _flag("eval_batches", "int", None, "accepted: the whole validation split is scored"),
    _flag("eval_samples", "int", None, "accepted: the whole validation split is scored"),
    _flag("student_lr", "float", 1e-4, "-> distill.train.lr"),
    _flag("router_lr", "float", 5e-4, "-> distill.moe.router_lr"),
    _flag("temperature", "float", 2.0, "-> distill.temperature"),
    _flag("alpha_kd", "float", 0.9, "weight of the teacher; alpha is its share of both weights"),
    _flag("alpha_ce", "float", 0.1, "weight of the labels"),
    _flag("alpha", "float", None, "one weight for both: alpha for the teacher, 1 - alpha for the labels"),
    _flag("router_anchor_weight", "float", 1e-4, "-> distill.moe.anchor"),
    _flag("router_load_balance_weight", "float", 1e-3, "-> distill.moe.balance"),
    _flag("router_entropy_weight", "float", 1e-4, "-> distill.moe.entropy"),
    _flag("weight_decay", "float", 0.0, "-> distill.train.weight_decay"),
    _flag("max_grad_norm", "float", 1.0, "-> distill.train.clip_norm, distill.moe.clip_norm"),
    _flag("use_scheduler", "switch", False, "warm-up and --scheduler_type; constant otherwise"),
    _flag("no_scheduler", "switch", False, "constant learning rate"),
    _flag("warmup_steps", "int", 100, "with --use_scheduler -> distill.train.warmup_frac"),
    _flag("scheduler_type", "text", "cosine", "with --use_scheduler", ("linear", "cosine")),
    _flag("model_dtype", "text", "float32", "autocast of both models -> distill.train.precision", tuple(PRECISION)),
    _flag("offload_teacher_to_cpu", "switch", False, "-> distill.offload_teacher; it leaves after the step"),
    _flag("no_offload_teacher_to_cpu", "switch", False, "the teacher stays on the accelerator"),
    _flag("gradient_checkpointing", "switch", False, "-> distill.train.gradient_checkpointing"),
    _flag("no_gradient_checkpointing", "switch", False, "activations are kept"),
    _flag("clear_cache_every_step", "switch", False, "accepted: memory is not held between steps"),
    _flag("no_clear_cache_every_step", "switch", False, "accepted"),
    _flag("aggressive_gc", "switch", False, "accepted: memory is not held between steps"),
    _flag("aggressive_memory", "switch", False, "accepted: memory is not held between steps"),
    _flag("save_best_model", "switch", True, "always so"),
    _flag("early_stopping_patience", "int", None, "evaluations without a better loss -> distill.train.patience"),
    _flag("router_patterns", "text", None, "refused: routers are found by their structure"),
    _flag("debug_eval", "switch", False, "accepted: use --verbose"),
    _flag("skip_eval_on_error", "switch", False, "refused: an evaluation that fails, fails the run"),
    _flag("router", "text", "auto", "which method; auto: sar for a mixture-of-experts teacher, else none", ROUTERS),
    _flag("on_policy", "switch", False, "learn on the student's own texts, as the paper does"),
    _flag("seed", "int", 42, "-> seed"),
    _flag("output_dir", "text", "outputs/sar_kd", "-> output_dir"),
    _flag("cache_dir", "text", None, "-> cache_dir"),
    _flag("device", "text", "auto", "-> device"),
)  # fmt: skip
BY_NAME = {flag.name: flag for flag in FLAGS}
ALIASES = {"load_balance_weight": "router_load_balance_weight", "anchor_weight": "router_anchor_weight",
           "entropy_weight": "router_entropy_weight"}  # fmt: skip

_PLACES = {
    "teacher_model": "teacher.model", "student_model": "student.model", "dataset_name": "data.path",
    "dataset_config_name": "data.hub_config", "text_column": "data.text_column", "block_size": "data.max_length",
    "grad_accum_steps": "distill.train.accumulate", "train_steps": "distill.train.max_steps",
    "eval_steps": "distill.train.eval_steps", "student_lr": "distill.train.lr", "router_lr": "distill.moe.router_lr",
    "temperature": "distill.temperature", "router_anchor_weight": "distill.moe.anchor",
    "router_load_balance_weight": "distill.moe.balance", "router_entropy_weight": "distill.moe.entropy",
    "weight_decay": "distill.train.weight_decay", "early_stopping_patience": "distill.train.patience",
    "seed": "seed", "output_dir": "output_dir", "cache_dir": "cache_dir", "device": "device",
}  # fmt: skip


def translate(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return recipe values of the flags; what is not given has the predecessor's default.

    `distill.router` is left out where `router` is auto: the caller looks at the teacher.

    Raises:
        RecipeError: a value that is no number or no choice, flags that exclude each other, or one whose meaning
            lessen does not offer.
    """
    typed = {ALIASES.get(name, name): value for name, value in given.items()}
    typed = {name: _typed(BY_NAME[name], value) for name, value in typed.items()}
    _refuse(typed)
    every = {**{f.name: f.default for f in FLAGS if f.default is not None}, **typed}
    values: dict[str, Any] = {"name": "sar", "task": "causal-lm", "pipeline": "kd_only", "export": {"formats": []}}
    for name, place in _PLACES.items():
        if every.get(name) is not None:
            put(values, place, every[name])
    if every["dataset_name"] == "wikitext" and "dataset_config_name" not in every:
        put(values, "data.hub_config", "wikitext-103-raw-v1")
    put(values, "teacher.train", None)
    put(values, "student.tokenizer", "own")
    put(values, "distill.alpha", _alpha(every))
    micro = every.get("train_batch_size") or every["per_device_batch_size"]
    put(values, "distill.train.batch_size", micro * every["grad_accum_steps"])
    put(values, "distill.train.clip_norm", every["max_grad_norm"])
    put(values, "distill.moe.clip_norm", every["max_grad_norm"])
    put(values, "distill.train.precision", PRECISION[every["model_dtype"]])
    put(values, "distill.train.gradient_checkpointing", bool(every["gradient_checkpointing"]))
    put(values, "distill.offload_teacher", bool(every["offload_teacher_to_cpu"]))
    put(values, "distill.cross_tokenizer", "align")
    _schedule(values, every)
    if "early_stopping_patience" not in every:
        put(values, "distill.train.patience", None)
    if every["on_policy"]:
        put(values, "distill.sequences", "student")
        put(values, "distill.objective", "reverse_kl")
    if every["router"] not in ("auto", "none"):
        put(values, "distill.router", every["router"])
    values["legacy"] = {name: value for name, value in every.items() if value is not None}
    return values


def _alpha(every: Mapping[str, Any]) -> float:
    if every.get("alpha") is not None:
        return float(every["alpha"])
    kd, ce = every["alpha_kd"], every["alpha_ce"]
    if kd < 0 or ce < 0 or kd + ce == 0:
        raise RecipeError(f"--alpha_kd is {kd}, --alpha_ce is {ce}", "give two weights of 0 or more, not both 0")
    return float(kd / (kd + ce))


def _schedule(values: dict[str, Any], every: Mapping[str, Any]) -> None:
    scheduled = every["use_scheduler"] and not every["no_scheduler"]
    put(values, "distill.train.schedule", every["scheduler_type"] if scheduled else "constant")
    share = min(1.0, every["warmup_steps"] / every["train_steps"]) if scheduled else 0.0
    put(values, "distill.train.warmup_frac", share)


def _refuse(given: Mapping[str, Any]) -> None:
    if "router_patterns" in given:
        raise RecipeError(
            "--router_patterns: a name such as gate matches every gate_proj of a feed-forward layer",
            "leave it out: routers are found by their structure and listed when the run starts",
        )
    if "skip_eval_on_error" in given:
        raise RecipeError("--skip_eval_on_error: an evaluation that fails, fails the run", "leave it out")
    for name in ("offload_teacher_to_cpu", "gradient_checkpointing", "clear_cache_every_step"):
        if given.get(name) and given.get(f"no_{name}"):
            raise RecipeError(f"--{name} and --no_{name} are both given", "drop one")
    if given.get("alpha") is not None and ("alpha_kd" in given or "alpha_ce" in given):
        raise RecipeError("--alpha and --alpha_kd / --alpha_ce are both given", "drop one")
    for name in ("train_steps", "grad_accum_steps", "per_device_batch_size", "block_size"):
        if name in given and given[name] < 1:
            raise RecipeError(f"--{name} is {given[name]}", "give 1 or more")


def _typed(flag: Flag, value: Any) -> Any:
    if flag.choices and value not in flag.choices:
        raise RecipeError(f"--{flag.name} is {value!r}; allowed are {', '.join(flag.choices)}", "choose one of these")
    if flag.kind in ("int", "float"):
        try:
            return int(value) if flag.kind == "int" else float(value)
        except ValueError:
            raise RecipeError(f"--{flag.name} is {value!r}, not a number", f"its default is {flag.default}") from None
    return value
