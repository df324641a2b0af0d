"""Weights of 16 bits for torch: half the file, no calibration."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.artifact import MANIFEST
from lessen.errors import RecipeError
from lessen.quantize.job import Converted, Job

if TYPE_CHECKING:
    from lessen.recipe import Quantize

FILE = "model.safetensors"


def whole(cfg: Quantize) -> str | None:
    """Return why nothing can be left as it is, with what can, or None."""
    if not cfg.ignore:
        return None
    return (
        f"it stores and computes the whole model in 16 bits, quantize.ignore is {', '.join(cfg.ignore)}; "
        "use ort_dynamic, ort_static or weight_int8 on a CPU, or take quantize.ignore out"
    )


def convert(job: Job, folder: Path, dtype_name: str) -> Converted:
    """Write the model of a job again with floating-point weights of 16 bits.

    Args:
        dtype_name: bfloat16 or float16.

    Raises:
        RecipeError: the source holds no torch weights, or a weight is too large for float16.
    """
    import torch
    from safetensors.torch import load_file, save_file

    source = job.source
    if not (source.path / FILE).is_file():
        raise RecipeError(
            f"{source.path} runs in {source.manifest.runtime}; 16-bit weights are made from a torch model",
            "quantize the stage before the export",
        )
    dtype = getattr(torch, dtype_name)
    before = load_file(source.path / FILE)
    after = {name: t.to(dtype) if t.is_floating_point() else t for name, t in before.items()}
    for name, tensor in after.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise RecipeError(f"{name} is too large for {dtype_name}", "use backend bf16")
    for name in source.manifest.files:
        if name not in (MANIFEST, FILE):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path / name, folder / name)
    save_file(after, folder / FILE, metadata={"format": "pt"})
    return Converted("eager", {"bits": {"weights": 16, "activations": 16}, "weights": _weights(after)})


def _weights(tensors: dict[str, Any]) -> dict[str, Any]:
    by_type: Counter[str] = Counter()
    for tensor in tensors.values():
        by_type[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return {"elements": sum(by_type.values()), "by_type": dict(by_type), "float_elements": 0, "float_share": 0.0}
