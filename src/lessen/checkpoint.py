"""Checkpoints of training: complete or absent, checked when read, and free of pickles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lessen.context import Context, file_digest, write_atomic

KEEP = 2  # the newest ones, so that a damaged one costs one interval


def flat(module: nn.Module) -> dict[str, Tensor]:
    """Return a module's state as contiguous copies on the CPU; tied weights are written once per name."""
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in module.state_dict().items()}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as tensors named <parameter index>.<name>."""
    out: dict[str, Tensor] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            out[f"{index}.{name}"] = torch.as_tensor(value).detach().to("cpu", copy=True).contiguous()
    return out


def load_optimizer_(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` returned, in place."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)


def write(folder: Path, step: int, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write a checkpoint: weights first, then a JSON file with their SHA-256, each atomically; then drop old ones."""
    name = f"checkpoint-{step:09d}"
    weights = folder / f"{name}.safetensors"
    write_atomic(weights, save(dict(tensors)))
    body = {"step": step, "sha256": file_digest(weights), "meta": dict(meta)}
    write_atomic(folder / f"{name}.json", json.dumps(body, indent=1))
    _drop_old(folder, keep_best=str(meta.get("best_file", "")))


def newest(
    folder: Path, ctx: Context, at_most: int | None = None
) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """Return (step, tensors, meta) of the newest sound checkpoint, or None.

    A damaged checkpoint is skipped with a warning.

    Args:
        at_most: ignore checkpoints of later steps.
    """
    for file in sorted(folder.glob("checkpoint-*.json"), reverse=True):
        weights = file.with_suffix(".safetensors")
        try:
            body = json.loads(file.read_text(encoding="utf-8"))
            sound = weights.is_file() and file_digest(weights) == body["sha256"]
        except (ValueError, KeyError, OSError):
            sound = False
        if not sound:
            ctx.say(f"checkpoint {file.name} is damaged and was skipped", "warning")
            continue
        if at_most is None or body["step"] <= at_most:
            return int(body["step"]), load_file(weights), body["meta"]
    return None


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors under a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _drop_old(folder: Path, keep_best: str) -> None:
    files = sorted(folder.glob("checkpoint-*.json"), reverse=True)
    needed = {keep_best}
    for file in files[:KEEP]:
        try:
            needed.add(str(json.loads(file.read_text(encoding="utf-8"))["meta"].get("best_file", "")))
        except (ValueError, KeyError):
            continue
    for file in files[KEEP:]:
        file.unlink(missing_ok=True)
        file.with_suffix(".safetensors").unlink(missing_ok=True)
    for best in folder.glob("best-*.safetensors"):
        if best.name not in needed:
            best.unlink(missing_ok=True)
