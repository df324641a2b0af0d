"""bf16 weights and arithmetic in torch: half the file, no calibration, the same range as fp32."""

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
    if device.startswith("cuda") or flags is None or flags & cpu.BF16:
        return half.whole(cfg)
    better = "ort_dynamic" if kind == "transformer" else "ort_static"
    return f"this CPU has neither {' nor '.join(sorted(cpu.BF16))}, so bf16 would be slower than fp32; use {better}"


def convert(job: Job, folder: Path) -> Converted:
    """Write the bf16 model of a job into a folder."""
    return half.convert(job, folder, "bfloat16")
