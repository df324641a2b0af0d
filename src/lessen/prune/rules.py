"""What pruning refuses before anything is read; imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lessen import plugins
from lessen.errors import RecipeError
from lessen.rules import pattern

if TYPE_CHECKING:
    from lessen.recipe import Prune

AFTER = 2 / 3  # a mask schedule without an end meets its target at this share of the epochs that are left to it


def end_epoch(cfg: Prune) -> float:
    """Return the epoch at which a mask schedule meets its target; 0 for one_shot."""
    if cfg.schedule == "one_shot" or cfg.recover is None:
        return 0.0
    if cfg.end_epoch is not None:
        return cfg.end_epoch
    return cfg.start_epoch + AFTER * (cfg.recover.epochs - cfg.start_epoch)


def refuse(cfg: Prune) -> None:
    """Check that settings of pruning do not contradict each other.

    Raises:
        UnknownNameError: there is no such method.
        RecipeError: settings that have no meaning together; the message says what to change.
    """
    plugins.require("prune.methods", cfg.method)
    ratio = pattern(cfg.pattern)
    if ratio is None and cfg.remove_frac == 0:
        raise RecipeError(
            "prune.remove_frac is 0: nothing would be removed", "give a share above 0, or leave pruning out"
        )
    if cfg.schedule != "one_shot" and (cfg.recover is None or cfg.recover.epochs == 0):
        raise RecipeError(
            f"prune.schedule {cfg.schedule} grows over the recovery training, and there is none",
            "give prune.recover some epochs, or set prune.schedule to one_shot",
        )
    whole = plugins.stated("prune.methods", cfg.method).get("SIDE") == "matrix"
    if whole and cfg.pattern == "structured":
        raise RecipeError(
            f"{cfg.method} zeroes single weights and makes up for them, it does not rank units",
            "set prune.pattern to unstructured or N:M, or choose another prune.method",
        )
    if whole and cfg.schedule != "one_shot":
        raise RecipeError(
            f"{cfg.method} goes through the model once, prune.schedule is {cfg.schedule}",
            "set prune.schedule to one_shot",
        )
    if whole and cfg.scope == "global" and ratio is None:
        raise RecipeError(
            f"{cfg.method} prunes one layer after the other and compares no weights across layers",
            "set prune.scope to per_layer",
        )
    if whole and cfg.sensitivity:
        raise RecipeError(
            f"prune.sensitivity masks what matters least, and {cfg.method} ranks nothing before it prunes",
            "choose another prune.method, or leave prune.sensitivity out",
        )
    if cfg.pattern == "structured":
        _refuse_structured(cfg)
    else:
        _refuse_masks(cfg, ratio)


def _refuse_structured(cfg: Prune) -> None:
    if not cfg.kinds:
        raise RecipeError("prune.kinds is empty", "name at least one of heads, ffn, channels, layers")
    others = ", ".join(k for k in cfg.kinds if k != "layers")
    if cfg.sensitivity and not others:
        raise RecipeError(
            "prune.sensitivity masks units of layers, and prune.kinds names whole layers only",
            "add heads, ffn or channels to prune.kinds, or leave prune.sensitivity out",
        )
    if "layers" not in cfg.kinds:
        return
    if cfg.schedule != "one_shot":
        raise RecipeError(
            "whole layers are dropped in one shot only",
            "set prune.schedule to one_shot, or take layers out of prune.kinds",
        )
    if others and cfg.of != "units":
        raise RecipeError(
            f"a budget of {cfg.of} cannot be shared out between layers and {others}",
            "drop layers alone, or set prune.of to units",
        )


def _refuse_masks(cfg: Prune, ratio: tuple[int, int] | None) -> None:
    if cfg.of == "flops":
        raise RecipeError("zeroed weights save no FLOPs", "set prune.of to units, or prune.pattern to structured")
    if cfg.method == "wanda" and cfg.scope == "global" and ratio is None:
        raise RecipeError(
            "wanda compares weights within one output row, never across layers", "set prune.scope to per_layer"
        )
    if ratio is not None:
        implied = 1 - ratio[0] / ratio[1]
        if abs(cfg.remove_frac - implied) > 1e-9:
            raise RecipeError(
                f"prune.pattern {cfg.pattern} removes {implied:g}, prune.remove_frac is {cfg.remove_frac:g}",
                f"leave remove_frac out, or set it to {implied:g}",
            )
    if cfg.schedule != "one_shot" and cfg.recover is not None:
        end = end_epoch(cfg)
        if not cfg.start_epoch < end <= cfg.recover.epochs:
            raise RecipeError(
                f"the mask schedule runs from epoch {cfg.start_epoch:g} to {end:g} of {cfg.recover.epochs:g}",
                "it must end after it starts, and before the training does",
            )
