"""Build an architecture and run it once: does it work on this machine, how large is it, how fast?"""

from __future__ import annotations

import time
from typing import Any

from lessen.bench.opened import Opened
from lessen.recipe import ModelSpec, parse

Reply = dict[str, Any]


def test_model(opened: Opened, model: str, task: str, config: dict[str, Any]) -> Reply:
    """Build a preset with random weights and run one forward pass of one sample, after a warm-up.

    Args:
        model: scratch:<preset>.
        task: of the recipe.
        config: further settings of the model (ModelSpec).

    Raises:
        LessenError: it cannot be built.
    """
    import torch

    from lessen.models.build import module_of
    from lessen.models.estimate import configured
    from lessen.models.family import family
    from lessen.models.shape import count

    torch.set_num_threads(opened.threads)
    recipe = parse({"task": task, "teacher": {"model": model, **config}})
    start = time.perf_counter()
    settings, info = configured(recipe, ModelSpec.model_validate({"model": model, **config}))
    torch.manual_seed(0)
    module = module_of(settings, info).eval()
    build_ms = 1e3 * (time.perf_counter() - start)
    one = family(info.family)
    size = getattr(settings, "image_size", None)
    length = int(size or recipe.data.image_size or 0) or min(recipe.data.max_length, one.longest(settings) or 128)
    batch = one.example(module, 1, length if task != "image-classification" else _pixels(model, length))
    with torch.inference_mode():
        module(**batch)
        start = time.perf_counter()
        logits = module(**batch).logits
        forward_ms = 1e3 * (time.perf_counter() - start)
    total = count(module)
    return {
        "model": model,
        "architecture": type(module).__name__,
        "parameters": total,
        "bytes": sum(p.numel() * p.element_size() for p in module.parameters()),
        "build_ms": build_ms,
        "forward_ms": forward_ms,
        "input": {name: list(values.shape) for name, values in batch.items()},
        "output": list(logits.shape),
        "finite": bool(torch.isfinite(logits).all()),
        "threads": opened.threads,
    }


def _pixels(model: str, length: int) -> int:
    from lessen.models import presets

    return presets.find(model).image_size or length
