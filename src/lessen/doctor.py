"""What this machine offers for compressing models."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from lessen import __version__
from lessen.context import default_cache_dir

FAST_FLAGS = {
    "avx2": "vector arithmetic",
    "avx512f": "wide vector arithmetic",
    "avx512_vnni": "fast INT8 (ONNX Runtime)",
    "avx_vnni": "fast INT8 (ONNX Runtime)",
    "avx512_bf16": "bf16 training and inference",
    "amx_bf16": "fast bf16 training and inference",
    "amx_int8": "fast INT8",
}
NEEDED = ("torch", "transformers", "tokenizers", "datasets", "onnx", "onnxruntime", "scikit-learn", "numpy")
LEAST_DISK_GB = 5.0
LEAST_MEMORY_GB = 4.0
HUB = "https://huggingface.co"


def examine(*, hub: bool = False, cache_dir: Path | None = None) -> dict[str, Any]:
    """Return the facts of this machine as plain values; sizes in bytes.

    Args:
        hub: also ask whether the model hub answers (one request, 5 s at most).
        cache_dir: where caches go; the default place when None.
    """
    cache = cache_dir or default_cache_dir()
    place = next(p for p in (cache, *cache.parents) if p.exists())
    facts: dict[str, Any] = {
        "lessen": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in NEEDED},
        "cpu": _cpu(),
        "gpus": _gpus(),
        "memory_bytes": {"total": psutil.virtual_memory().total, "available": psutil.virtual_memory().available},
        "disk_free_bytes": shutil.disk_usage(Path.cwd()).free,
        "cache": {
            "folder": str(cache),
            "free_bytes": shutil.disk_usage(place).free,
            "writable": os.access(place, os.W_OK),
        },
        "hub": _hub() if hub else None,
    }
    facts["problems"] = _problems(facts)
    return facts


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> dict[str, Any]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    fields = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in reversed(text.splitlines())}
    flags = set(fields.get("flags", "").split())
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "name": fields.get("model name") or platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "threads": len(affinity(0)) if affinity else os.cpu_count(),
        "threads_asked": os.environ.get("OMP_NUM_THREADS"),
        "flags": [name for name in FAST_FLAGS if name in flags],
    }


def _gpus() -> list[str] | None:
    """Return the names of the CUDA devices; None where torch is absent."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )


def _hub() -> dict[str, Any]:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(HUB, timeout=5) as answer:
            return {"reachable": True, "status": answer.status}
    except (urllib.error.URLError, OSError) as error:
        return {"reachable": False, "reason": str(error)}


def _problems(facts: dict[str, Any]) -> list[str]:
    found = [f"{name} is not installed: pip install lessen" for name, have in facts["packages"].items() if have is None]
    if facts["disk_free_bytes"] < LEAST_DISK_GB * 1e9:
        found.append(f"{facts['disk_free_bytes'] / 1e9:.1f} GB of disk are free here; {LEAST_DISK_GB:g} GB are advised")
    if facts["memory_bytes"]["available"] < LEAST_MEMORY_GB * 1e9:
        found.append(
            f"{facts['memory_bytes']['available'] / 1e9:.1f} GB of memory are free; {LEAST_MEMORY_GB:g} GB are advised"
        )
    if not facts["cache"]["writable"]:
        found.append(f"the cache folder {facts['cache']['folder']} cannot be written: give --cache_dir")
    return found
