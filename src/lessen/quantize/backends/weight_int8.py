"""Weights in INT8, activations in fp32: the file shrinks, speed and memory are those of fp32 in ONNX Runtime.

How and why it is done so: `quantize/weight_only.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lessen.quantize import weight_only
from lessen.quantize.job import Converted, Job, Kind
from lessen.runtimes.onnx import FILE, files

if TYPE_CHECKING:
    from lessen.recipe import Quantize

BITS = 8


def refuse(kind: Kind, device: str, cfg: Quantize) -> str | None:
    """Return why this backend cannot serve, with what can, or None."""
    if device.startswith("cuda"):
        return f"its file is for ONNX Runtime on the CPU, device is {device}; use bf16 or fp16 there, or device cpu"
    return None


def convert(job: Job, folder: Path) -> Converted:
    """Write the quantized model of a job into a folder."""
    source = job.onnx()
    how: weight_only.How = {"bits": BITS, "group": job.cfg.group_size, "ignored": job.ignored()}
    if source.info.generates:
        done = weight_only.convert_all(source.path, folder, files(source.info.task), **how)
    else:
        done = weight_only.convert(source.path / FILE, folder / FILE, **how)
    return Converted("onnx", done)
