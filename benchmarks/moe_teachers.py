"""One mixture-of-experts teacher, one student, every way to be taught: a table.

python benchmarks/moe_teachers.py recipes/mixtral.yaml recipes/qwen3_moe.yaml --out runs/moe

The teacher is trained once per recipe. Then the same student learns for the same number of steps from: labels alone
(control); the teacher's distribution on the data (forward KL); and on its own texts by reverse KL (GKD) with the
teacher's own routing (frozen), all experts (all), knowledge augmentation (ka), and routers that learn (sar).
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
DATA = {"sequences": "data", "objective": "kl", "router": "frozen"}
WAYS: dict[str, dict[str, Any]] = {
    "KD on data": DATA,
    "GKD, frozen": {"router": "frozen"},
    "GKD, all": {"router": "all"},
    "GKD, ka": {"router": "ka"},
    "GKD, sar": {"router": "sar"},
}


def shown(row: Any) -> dict[str, Any]:
    """Return a row's metrics with their intervals."""
    found = {n: row.metrics[n] for n in METRICS if n in row.metrics}
    return {n: {"value": m.value, "ci95": m.ci95} for n, m in found.items()}


def table_of(recipe: Path, out: Path, seed: int) -> dict[str, Any]:
    """Run every way of one recipe."""
    values = overlay(read(recipe), {"seed": seed})
    teacher = run(parse({**values, "pipeline": "baseline", "name": "teacher"}), out_dir=out / "teacher")
    folder = str((out / "teacher" / teacher.rows[0].artifact).resolve())
    taught = overlay(values, {"teacher": {"model": folder, "train": None}})
    taught["teacher"] = {"model": folder, "train": None}
    rows: dict[str, Any] = {"teacher": shown(teacher.rows[0])}
    facts: dict[str, Any] = {}
    for at, (name, changes) in enumerate(WAYS.items()):
        slug = name.replace(", ", "-").replace(" ", "-").lower()
        more = {"distill": {**changes, "control": at == 0}, "name": slug}
        report = run(parse(overlay(taught, more)), out_dir=out / slug)
        if at == 0:
            rows["control: labels alone"] = shown(report.row("control"))
        distilled = report.row("distill")
        rows[name] = shown(distilled)
        facts[name] = {"seconds": distilled.seconds, **distilled.facts.get("distill", {})}
        print(recipe.stem, seed, name, rows[name]["perplexity"], flush=True)
    sizes = {"teacher": teacher.rows[0].value("parameters"), "student": report.row("distill").value("parameters")}
    return {"seed": seed, "rows": rows, "facts": facts, "parameters": sizes, "environment": teacher.environment}


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
