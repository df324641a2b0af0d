"""How the time of a forward pass is shared among the modules, and how its FLOPs are."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any

WARM_UP, MOST_PASSES, SECONDS = 3, 15, 2.0


def shares(module: Any, batch: Mapping[str, Any], paths: Iterable[str]) -> dict[str, float]:
    """Return each module's share of the time of the whole forward pass, those within it included.

    Hooks note the time before and after each module: median over up to 15 passes of one sample, after three that do
    not count. The hooks themselves cost microseconds, so that shares of tiny modules are too large.
    """
    import torch

    spent: dict[str, list[float]] = {}
    begun: list[float] = []
    now: dict[str, float] = {}

    def before(*_: Any) -> None:
        begun.append(time.perf_counter())

    def after(path: str) -> Any:
        def note(*_: Any) -> None:
            now[path] = now.get(path, 0.0) + time.perf_counter() - begun.pop()

        return note

    handles = []
    for path in paths:
        part = module.get_submodule(path)
        handles += [part.register_forward_pre_hook(before), part.register_forward_hook(after(path))]
    try:
        end = time.perf_counter() + SECONDS
        with torch.inference_mode():
            for i in range(WARM_UP + MOST_PASSES):
                now.clear()
                module(**batch)
                if i >= WARM_UP:
                    for path, seconds in now.items():
                        spent.setdefault(path, []).append(seconds)
                    if time.perf_counter() > end:
                        break
    finally:
        for handle in handles:
            handle.remove()
    whole = statistics.median(spent[""])
    return {path: min(1.0, statistics.median(times) / whole) for path, times in spent.items()}
