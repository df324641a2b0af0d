"""fp16 weights and arithmetic in torch: half the file, no calibration; finer than bf16, but of small range."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lessen.quantize import cpu, half
from lessen.quantize.job import Converted, Job, Kind

if TYPE_CHECKING:
    from lessen.recipe import Quantize


def refuse(kind: Kind, device: str, cfg: Quantize) -> str | None:
    """Return why this backend cannot serve, with what can, or None."""
    flags = cpu.flags()
    if device.startswith("cuda") or (flags and flags & cpu.FP16):
        return half.whole(cfg)
    return f"this CPU has neither {' nor '.join(sorted(cpu.FP16))}, so fp16 would be emulated; use bf16, or a GPU"


def convert(job: Job, folder: Path) -> Converted:
    """Write the fp16 model of a job into a folder."""
    return half.convert(job, folder, "float16")
