"""What half of the heads and feed-forward units costs in time, cut out or set to zero.

Random weights of a real shape (DistilBERT base; speed does not depend on values), 128 tokens, batch 1 and 8, all
variants interleaved, each in its own process:

    python benchmarks/pruning_speed.py            # writes benchmarks/pruning_speed.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from lessen import models
from lessen.artifact import Artifact
from lessen.context import Context
from lessen.data import Split, Splits, load
from lessen.export import export
from lessen.measure import environment, measure_speed
from lessen.models import Model, groups
from lessen.recipe import Data, Export, Measure, ModelSpec

LENGTH = 128


def long_texts(splits: Splits) -> Split:
    """Return test texts that fill the length: several joined into one."""
    inputs = [" ".join(splits.test.inputs[i : i + 8]) for i in range(0, 64)]
    part = splits.test.take(range(64))
    return Split("test", part.ids, inputs, part.labels)


def halved(model: Model) -> None:
    """Cut every second head and feed-forward unit."""
    for group in groups.groups(model):
        groups.cut_(model, group, range(0, group.units, 2))


def zeroed(model: Model) -> None:
    """Set the smaller half of every linear layer's weights to zero."""
    with torch.no_grad():
        for module in model.module.modules():
            if isinstance(module, torch.nn.Linear):
                border = module.weight.abs().flatten().kthvalue(module.weight.numel() // 2).values
                module.weight[module.weight.abs() <= border] = 0


def variants(splits: Splits, data: Data, preset: str, folder: Path) -> dict[str, Artifact]:
    """Write the dense, the cut and the zeroed model, each for torch and for ONNX Runtime."""
    found: dict[str, Artifact] = {}
    ctx = Context(out_dir=folder)
    for name, change in (("dense", None), ("structured 50 %", halved), ("zeros 50 %", zeroed)):
        model = models.fetch(ModelSpec(model=preset), splits, data, "text-classification", 0)
        if change is not None:
            change(model)
        slug = name.replace(" ", "-").replace("%", "pc")
        saved = models.save(model, folder / slug, stage=slug, key="", history=(), facts={})
        found[f"{name}, torch"] = saved
        found[f"{name}, onnxruntime"] = export(saved, Export(formats=("onnx",)), splits, ctx, out=folder / f"x-{slug}")[
            0
        ]
    return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="scratch:distilbert-base")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    data = Data(source="docstrings", limit=200, max_length=LENGTH)
    splits = load(data, "text-classification", 0)
    with tempfile.TemporaryDirectory() as work:
        artifacts = variants(splits, data, args.preset, Path(work))
        cfg = Measure(rounds=args.rounds, seconds=args.seconds, threads=args.threads)
        rows = measure_speed(artifacts, long_texts(splits), cfg, Context(out_dir=Path(work)))
        base = measure_speed(
            {k: v for k, v in artifacts.items() if "onnx" in k}, long_texts(splits), cfg, Context(out_dir=Path(work))
        )
    wanted = (
        "latency_p50_ms",
        "latency_p95_ms",
        "speedup",
        "cpu_speedup",
        "batch_speedup",
        "foreign_load",
        "input_length",
    )
    table = {
        "preset": args.preset,
        "environment": environment(args.threads, "cpu"),
        "over dense torch": {n: {k: m[k].model_dump() for k in wanted if k in m} for n, (m, _) in rows.items()},
        "over dense onnxruntime": {n: {k: m[k].model_dump() for k in wanted if k in m} for n, (m, _) in base.items()},
    }
    args.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    for name, found in [*rows.items(), *base.items()]:
        shown = {k: round(found[k].value, 2) for k in wanted if k in found and found[k].value is not None}
        print(f"{name:32s} {shown}")


if __name__ == "__main__":
    main()
