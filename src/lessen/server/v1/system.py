"""The machine, the versions, the queue, the token; and the same for Prometheus."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import psutil
from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from lessen import __version__, token
from lessen.doctor import FAST_FLAGS
from lessen.errors import ConflictError
from lessen.events import RunState
from lessen.folder import disk_bytes
from lessen.report.rows import SCHEMA_VERSION
from lessen.server.service import Served, Service
from lessen.server.v1.system_shapes import Cpu, Device, Disk, Memory, SystemOut, TokenOut, VersionOut

router = APIRouter(tags=["system"])
unversioned = APIRouter(tags=["system"])
LIBRARIES = (
    "torch", "transformers", "tokenizers", "safetensors", "datasets", "onnx", "onnxruntime", "scikit-learn", "numpy",
    "fastapi", "python-socketio", "uvicorn", "sqlalchemy", "pydantic",
)  # fmt: skip
DISK_SECONDS = 60  # between walks over the runs
TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text format 0.0.4"}
}


@router.get("/system")
def show_system(service: Served) -> SystemOut:
    """Return versions, disk, memory, processor, devices and the queue."""
    root = Path(service.settings.root)
    disk = shutil.disk_usage(root)
    memory = psutil.virtual_memory()
    queue = [*service.store.active(), *service.store.queue()]
    return SystemOut(
        version=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        versions={name: _version(name) for name in LIBRARIES},
        root=str(root.absolute()),
        disk=Disk(free_bytes=disk.free, total_bytes=disk.total, runs_bytes=_runs_bytes(root, _tick())),
        memory=Memory(
            total_bytes=memory.total,
            available_bytes=memory.available,
            server_rss_bytes=psutil.Process().memory_info().rss,
            bench_rss_bytes=service.bench.rss_bytes(),
        ),
        cpu=_cpu(),
        devices=[Device(name=_cpu_name(), kind="cpu"), *_gpus(_tick())],
        queue=[service.views.run(record) for record in queue],
        runs=_counts(service),
        uptime_s=time.time() - service.started,
        sockets=service.live.sockets,
        auth=service.settings.auth,
    )


@router.post("/token/rotate")
def rotate_token(service: Served) -> TokenOut:
    """Make a new token; the old one and every session are void at once, the caller's too.

    A server without a token answers 409.
    """
    if not service.settings.auth:
        raise ConflictError("this server works without a token", "start it without --no-auth")
    service.auth.rotate()
    fresh = token.read(service.auth.file)
    if fresh is None:
        raise ConflictError(f"{service.auth.file} is gone", "restart the server: it makes one")
    return TokenOut(token=fresh, path=str(service.auth.file))


@router.get("/version")
def show_version() -> VersionOut:
    """Return the versions of lessen, Python and the report's schema."""
    return VersionOut(version=__version__, python=platform.python_version(), schema_version=SCHEMA_VERSION)


@unversioned.get("/version")
def show_version_unversioned() -> VersionOut:
    """Return the versions of lessen, Python and the report's schema."""
    return show_version()


@router.get("/metrics", response_class=PlainTextResponse, responses=TEXT)
def show_metrics(service: Served) -> PlainTextResponse:
    """Return the state of the service for Prometheus."""
    return PlainTextResponse(prometheus(service), media_type="text/plain; version=0.0.4; charset=utf-8")


@unversioned.get("/metrics", response_class=PlainTextResponse, responses=TEXT)
def show_metrics_unversioned(service: Served) -> PlainTextResponse:
    """Return the state of the service for Prometheus."""
    return show_metrics(service)


def prometheus(service: Service) -> str:
    """Return the gauges of the service in Prometheus' text format."""
    process = psutil.Process()
    root = Path(service.settings.root)
    lines = ["# HELP lessen_runs Runs by state.", "# TYPE lessen_runs gauge"]
    lines += [f'lessen_runs{{state="{state}"}} {n}' for state, n in _counts(service).items()]
    single: list[tuple[str, str, float | None]] = [
        ("lessen_queue_length", "Runs that wait.", len(service.store.queue())),
        ("lessen_sockets", "Socket.IO clients.", service.live.sockets),
        ("lessen_event_lag_seconds", "From writing an event to sending it, the last one.", service.live.lag_s),
        ("lessen_uptime_seconds", "Since the server started.", time.time() - service.started),
        ("lessen_disk_free_bytes", "On the disk of the runs.", shutil.disk_usage(root).free),
        ("lessen_process_resident_memory_bytes", "Of the server.", process.memory_info().rss),
        ("lessen_process_open_fds", "Of the server.", process.num_fds() if hasattr(process, "num_fds") else None),
        ("lessen_process_threads", "Of the server.", process.num_threads()),
        ("lessen_bench_resident_memory_bytes", "Of the helper process; absent: none.", service.bench.rss_bytes()),
    ]
    for name, text, value in single:
        if value is not None:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {_plain(value)}"]
    lines += ["# HELP lessen_info Version.", "# TYPE lessen_info gauge", f'lessen_info{{version="{__version__}"}} 1']
    return "\n".join(lines) + "\n"


def _plain(value: float) -> str:
    return f"{value:.6f}" if value % 1 else str(int(value))


def _counts(service: Service) -> dict[str, int]:
    counts = service.store.counts()
    return {state: counts.get(state, 0) for state in get_args(RunState)}


def _tick() -> int:
    return int(time.monotonic() // DISK_SECONDS)


@lru_cache(maxsize=1)
def _runs_bytes(root: Path, tick: int) -> int:
    return disk_bytes(root)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> Cpu:
    flags = set(_cpuinfo().get("flags", "").split())
    return Cpu(
        name=_cpu_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        percent=psutil.cpu_percent(interval=0.1),
        flags=[name for name in FAST_FLAGS if name in flags],
    )


def _cpu_name() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in reversed(text.splitlines()))
    return {name.strip(): value.strip() for name, _, value in pairs}


@lru_cache(maxsize=1)
def _gpus(tick: int) -> tuple[Device, ...]:
    """Return the CUDA devices that the driver names; none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = "--query-gpu=name,memory.total,memory.free"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    found = [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.count(",") == 2]
    return tuple(
        Device(name=name, kind="cuda", total_bytes=_mib(total), free_bytes=_mib(free)) for name, total, free in found
    )


def _mib(text: str) -> int | None:
    return int(text) << 20 if text.isdigit() else None
