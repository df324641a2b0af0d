"""When a process began, by a clock that nobody can set."""

from __future__ import annotations

from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")
PROCESSES = Path("/proc")
START_TICKS = 22  # the number of the field in /proc/<pid>/stat, from 1 (proc(5))


def birth(pid: int) -> str | None:
    """Return "<id of the boot>:<clock ticks from the boot to the start of a process>", which no other process has.

    Seconds since 1970 would move with the system's clock: the kernel counts from the boot, and who tells a date adds
    what it takes for the time of the boot at that moment.

    Returns:
        None where the process is gone, or the system has no /proc.
    """
    try:
        boot = BOOT.read_text(encoding="ascii").strip()
        line = (PROCESSES / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = line.rpartition(")")[2].split()  # the second field is the name in brackets, which may hold anything
    return f"{boot}:{fields[START_TICKS - 3]}" if len(fields) > START_TICKS - 3 else None
