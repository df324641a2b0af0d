"""What a measurement was taken on: processor, memory, threads, versions, code."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lessen.measure import provenance

_PACKAGES = (  # what computes
    "lessen", "torch", "transformers", "tokenizers", "safetensors", "onnx", "onnxruntime", "openvino", "nncf",
    "torchao", "numpy", "scipy", "scikit-learn", "datasets",
)  # fmt: skip
# instruction sets that decide how fast INT8 and BF16 are, by their names in /proc/cpuinfo
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
)


def environment(threads: int | None = None, device: str = "cpu") -> dict[str, Any]:
    """Return the hardware, versions and code of this machine, for a report."""
    import psutil

    name, flags = _cpu()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": device,
        "cpu": name,
        "cpu_flags": flags,
        "gpu": _gpu(device),
        "cores": cores,
        "threads": threads or cores,
        "memory_bytes": int(psutil.virtual_memory().total),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: found for package in _PACKAGES if (found := _version(package))},
        "code": provenance.code(),
    }


def _gpu(device: str) -> str | None:
    """Return the name of the GPU a run computes on; None on a CPU."""
    if not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(device)) if torch.cuda.is_available() else None


def _cpu() -> tuple[str, list[str]]:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor() or platform.machine(), []
    fields: dict[str, str] = {}
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    have = set((fields.get("flags") or fields.get("Features") or "").split())
    return fields.get("model name") or platform.machine(), [flag for flag in _FLAGS if flag in have]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
