"""Where training computes: device, precision, and the other processes of a `torchrun`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lessen.context import Context
from lessen.errors import RecipeError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """A device, the autocast precision, and this process's place among its peers."""

    device: torch.device
    dtype: torch.dtype  # float32: no autocast
    rank: int = 0
    world: int = 1

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the autocast region of this precision."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def sum_gradients_(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place; a no-op alone.

        The loss is already divided by the samples of the whole step, so the sum is the exact gradient.
        """
        if self.world == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        for p, part in zip(parameters, torch.split(flat, [g.numel() for g in grads]), strict=True):
            p.grad = part.view_as(p)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.world > 1:
            dist.all_reduce(value)
        return value

    def least(self, value: int) -> int:
        """Return the smallest of the processes' values."""
        if self.world == 1:
            return value
        box = torch.tensor([value], device=self.device)
        dist.all_reduce(box, op=dist.ReduceOp.MIN)
        return int(box.item())

    def memory(self) -> dict[str, float]:
        """Return rss_bytes, what this process holds now, and on a GPU gpu_bytes, the most it has held there; bytes."""
        import psutil

        held = {"rss_bytes": float(psutil.Process().memory_info().rss)}
        if self.device.type == "cuda":
            held["gpu_bytes"] = float(torch.cuda.max_memory_allocated(self.device))
        return held

    def broadcast_buffers_(self, module: nn.Module) -> None:
        """Take the buffers (BatchNorm statistics) of rank 0, in place."""
        if self.world > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


def runtime(ctx: Context, precision: str = "auto") -> Runtime:
    """Return the runtime of a context.

    Joins the process group that `torchrun` or `accelerate launch` announces through WORLD_SIZE and RANK.

    Args:
        precision: auto (bf16 where the hardware computes it natively), fp32, bf16, fp16.

    Raises:
        RecipeError: the device does not exist here.
    """
    device = torch.device(pick_device(ctx.device))
    rank, world = ranks()
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if device.type == "cuda" and device.index is None and world > 1:
        device = torch.device("cuda", rank % torch.cuda.device_count())
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    return Runtime(device, DTYPES[precision], rank, world)


def ranks() -> tuple[int, int]:
    """Return (rank, world size) as the launcher announced them; (0, 1) alone."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def pick_device(name: str) -> str:
    """Return a device name that exists here.

    Raises:
        RecipeError: the device is unknown or absent; the message lists those there are.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    there = [
        "cpu",
        *(["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))] if torch.cuda.is_available() else []),
    ]
    if name not in there:
        raise RecipeError(f"device is {name!r}; this machine has {', '.join(there)}", "choose one of these, or auto")
    return name


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices natively (CPU: avx512_bf16 or AMX)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())


def cpu_flags() -> frozenset[str]:
    """Return the feature flags of the first CPU; empty where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())
