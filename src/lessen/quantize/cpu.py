"""What this machine's CPU multiplies natively. Imports no torch."""

from __future__ import annotations

import platform
from pathlib import Path

VNNI = frozenset({"avx512_vnni", "avx_vnni"})
BF16 = frozenset({"avx512_bf16", "amx_bf16"})
FP16 = frozenset({"avx512_fp16", "amx_fp16"})
REPORTED = VNNI | BF16 | FP16 | {"amx_int8"}  # what an INT8 or 16-bit answer depends on (Q17)


def flags() -> frozenset[str] | None:
    """Return the feature flags of the first CPU, or None where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = next((line for line in lines if line.startswith(("flags", "Features"))), None)
    return None if found is None else frozenset(found.partition(":")[2].split())


def saturates() -> bool:
    """Whether INT8 products may overflow here: an x86 without VNNI adds pairs of them in 16 bits.

    Weights of 7 bits (`reduce_range`) are then the cure. Where flags cannot be read, an x86 counts as an old one.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i686"):
        return False
    return not (flags() or frozenset()) & VNNI


def facts() -> dict[str, object]:
    """Return the machine and the flags that 8- and 16-bit answers depend on."""
    return {"machine": platform.machine(), "flags": sorted((flags() or frozenset()) & REPORTED)}
