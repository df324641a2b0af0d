"""One mixture-of-experts teacher, one student, every way to be taught: a table.

python benchmarks/moe_teachers.py recipes/mixtral.yaml recipes/qwen3_moe.yaml --out runs/moe

The teacher is trained once per recipe, and so is the student, on labels alone. Then that student goes on for the same
number of steps: on labels (control); on the teacher's distribution over the data's tokens (forward KL); and on its own
texts by reverse KL (GKD) with the teacher's own routing (frozen), all experts (all), knowledge augmentation (ka), and
routers that learn (sar). The setting of the paper (https://arxiv.org/abs/2502.12947) in small.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lessen.recipe import parse, read
from lessen.runner import run
from lessen.section import overlay

HERE = Path(__file__).parent
METRICS = ("perplexity", "nll_per_token", "bits_per_byte", "token_accuracy", "kl_to_teacher", "token_agreement")
OWN = {"sequences": "student", "objective": "reverse_kl"}
WAYS: dict[str, dict[str, Any]] = {
    "KD on data": {"sequences": "data", "objective": "kl", "router": "frozen", "control": True},
    "GKD, frozen": {**OWN, "router": "frozen"},
    "GKD, all": {**OWN, "router": "all"},
    "GKD, ka": {**OWN, "router": "ka"},
    "GKD, sar": {**OWN, "router": "sar"},
}
MORE: dict[str, Any] = {
    "alpha": 1.0, "temperature": 1.0, "prompt_tokens": 24, "max_new_tokens": 32, "control": False,
    "moe": {"router_lr": 1e-4, "balance": 0.01},
    "train": {"max_steps": 100, "eval_steps": 50, "batch_size": 8, "lr": 3e-4, "warmup_frac": 0.05},
}  # fmt: skip


def shown(row: Any) -> dict[str, Any]:
    """Return a row's metrics with their intervals."""
    found = {n: row.metrics[n] for n in METRICS if n in row.metrics}
    return {n: {"value": m.value, "ci95": m.ci95} for n, m in found.items()}


def trained(recipe: Path, out: Path, seed: int) -> tuple[dict[str, Any], Any, Any]:
    """Train teacher and student once; return the values that take both as they are, and their rows."""
    values = overlay(read(recipe), {"seed": seed, "export": {"formats": []}})
    alone = {"distill": {"router": None, "control": True}, "name": "start"}
    report = run(parse(overlay(values, alone)), out_dir=out / "start")
    rows = [report.row("teacher"), report.row("control")]
    folders = [str((out / "start" / row.artifact).resolve()) for row in rows]
    distill = overlay({k: v for k, v in values["distill"].items() if k not in MORE}, MORE)
    taken = {"teacher": {"model": folders[0], "train": None}, "student": {"model": folders[1]}, "distill": distill}
    return {**values, **taken}, *rows


def table_of(recipe: Path, out: Path, seed: int) -> dict[str, Any]:
    """Run every way of one recipe."""
    values, teacher, start = trained(recipe, out, seed)
    rows: dict[str, Any] = {"the teacher": shown(teacher), "the student before": shown(start)}
    facts: dict[str, Any] = {}
    for name, changes in WAYS.items():
        slug = name.replace(", ", "-").replace(" ", "-").lower()
        report = run(parse(overlay(values, {"distill": changes, "name": slug})), out_dir=out / slug)
        control, distilled = report.row("control"), report.row("distill")
        if control is not None:
            rows["control: labels alone"] = shown(control)
        rows[name] = shown(distilled)
        told = distilled.facts.get("distill", {})
        facts[name] = {"seconds": distilled.seconds, **{k: told[k] for k in ("routers", "own_texts") if k in told}}
        print(recipe.stem, seed, name, rows[name]["perplexity"], flush=True)
    sizes = {"teacher": teacher.value("parameters"), "student": start.value("parameters")}
    settings = {"every way": MORE, "ways": WAYS}
    return {"seed": seed, "rows": rows, "facts": facts, "parameters": sizes, "settings": settings,
            "environment": report.environment}  # fmt: skip


def markdown(found: list[dict[str, Any]]) -> str:
    """Return one table over seeds: mean of each metric, and each seed's perplexity."""
    lines = [["student taught by", *METRICS, "perplexity of each seed (95 % interval)"], ["---"] * (2 + len(METRICS))]
    for name in found[0]["rows"]:
        cells = []
        for metric in METRICS:
            there = [f["rows"][name][metric]["value"] for f in found if metric in f["rows"][name]]
            there = [v for v in there if v is not None]
            cells.append(f"{sum(there) / len(there):.4g}" if there else "")
        each = [f["rows"][name]["perplexity"] for f in found]
        lines.append(
            [name, *cells, "; ".join(f"{e['value']:.2f} ({e['ci95'][0]:.2f} to {e['ci95'][1]:.2f})" for e in each)]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--out", type=Path, default=Path("runs/moe"))
    parser.add_argument("--json", type=Path, default=HERE / "moe_teachers.json")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for recipe in args.recipes:
        found[recipe.stem] = [table_of(recipe, args.out / recipe.stem / str(seed), seed) for seed in args.seeds]
        print(f"\n{recipe.stem}\n\n{markdown(found[recipe.stem])}\n", flush=True)
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
