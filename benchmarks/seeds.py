"""Run a recipe with several seeds and tell whether the teacher helped: distilled student against its control.

python benchmarks/seeds.py recipes/gpt2.yaml --seeds 1 2 3 --out runs/gpt2-seeds --set data.held_out.wikitext=valid.txt

The splits and the teacher are those of the first seed; every seed draws its own student and order of batches, for the
control and for the distilled student alike. Finished runs in the folder are not run again. Writes <name>_seeds.json
beside this file unless --json says where.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import yaml

from lessen.recipe import parse, read
from lessen.report import Report
from lessen.runner import run

HERE = Path(__file__).parent
SHOWN = ("perplexity", "bits_per_byte", "token_accuracy", "bleu", "f1_macro")


def override(values: dict[str, Any], path: str, text: str) -> None:
    """Set a dotted path of a recipe."""
    *parents, last = path.split(".")
    for name in parents:
        values = values.setdefault(name, {})
    values[last] = yaml.safe_load(text)


def names(report: Report) -> list[str]:
    """Return the quality metrics of a report, those of held-out texts among them."""
    there = {name for row in report.rows for name, metric in row.metrics.items() if metric.value is not None}
    return [n for n in sorted(there) if n in SHOWN or (n.startswith(("perplexity_", "bits_per_byte_"))
            and not n.endswith(("_ratio", "_change")))]  # fmt: skip


def entry(report: Report, seed: int) -> dict[str, Any]:
    """Return one seed's numbers: every stage's quality with its interval, and the paired test."""
    found = report.comparison("control", "distill")
    rows = {
        row.stage: {n: {"value": row.value(n), "ci95": row.metrics[n].ci95} for n in names(report) if n in row.metrics}
        for row in report.rows
    }
    return {
        "seed": seed,
        "rows": rows,
        "parameters": {row.stage: row.value("parameters") for row in report.rows},
        "distill_minus_control": found.model_dump(mode="json") if found else None,
        "environment": report.environment,
        "data": {k: report.data.get(k) for k in ("rows", "digest")},
    }


def cell(values: list[float | None]) -> str:
    """Return mean and standard deviation over seeds."""
    there = [v for v in values if v is not None]
    if not there:
        return ""
    spread = f" ± {statistics.stdev(there):.3g}" if len(there) > 1 else ""
    return f"{statistics.mean(there):.4g}{spread}"


def table(entries: list[dict[str, Any]]) -> str:
    """Return mean and spread over seeds as Markdown, then each seed with its intervals."""
    stages = list(entries[0]["rows"])
    metrics = list(dict.fromkeys(m for e in entries for row in e["rows"].values() for m in row))
    lines = [["stage", *metrics], ["---"] * (1 + len(metrics))]
    for stage in stages:
        lines.append([stage, *(cell([e["rows"][stage].get(m, {}).get("value") for e in entries]) for m in metrics)])
    lines += [[""] * 0, ["seed", "stage", *metrics], ["---"] * (2 + len(metrics))]
    for e in entries:
        for stage in stages:
            cells = [e["rows"][stage].get(m, {"value": None, "ci95": None}) for m in metrics]
            shown = [
                "" if c["value"] is None else f"{c['value']:.4g}"
                + (f" ({c['ci95'][0]:.4g} to {c['ci95'][1]:.4g})" if c["ci95"] else "")
                for c in cells
            ]  # fmt: skip
            lines.append([str(e["seed"]), stage, *shown])
    return "\n".join(f"| {' | '.join(line)} |" if line else "" for line in lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="a setting of the recipe")
    args = parser.parse_args()
    values = read(args.recipe)
    for text in args.set:
        override(values, *text.split("=", 1))
    out = args.out or Path("runs") / f"{values['name']}-seeds"
    override(values, "data.seed", str(args.seeds[0]))
    alone = {**values, "seed": args.seeds[0], "pipeline": "baseline", "export": {"formats": []}}
    teacher = run(parse(alone), out_dir=out / "teacher").row("teacher")
    folder = str((out / "teacher" / teacher.artifact).resolve())
    entries = []
    for seed in args.seeds:
        taken = {**values, "seed": seed, "teacher": {"model": folder, "train": None}}
        report = run(parse(taken), out_dir=out / f"seed-{seed}")
        entries.append(entry(report, seed))
        print(f"seed {seed} done", flush=True)
    file = args.json or HERE / f"{values['name']}_seeds.json"
    file.write_text(json.dumps({"recipe": args.recipe.name, "seeds": entries}, indent=1) + "\n")
    print(table(entries))


if __name__ == "__main__":
    main()
