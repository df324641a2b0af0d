"""Memory of a process, from the operating system."""

from __future__ import annotations

import sys
from pathlib import Path


def peak_rss_bytes() -> int:
    """Return the largest resident size this process has had, bytes.

    VmHWM where Linux says it: unlike getrusage's ru_maxrss it starts anew at exec, so a parent's size does not leak in.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)  # macOS counts bytes, others KiB


def rss_bytes() -> int:
    """Return the resident size of this process now, bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)
