"""lessen models, doctor, schema, completion."""

from __future__ import annotations

import argparse
import json
from typing import Any

from lessen.cli.parser import Parser, tree
from lessen.cli.terminal import Terminal
from lessen.errors import RecipeError

SHELLS = ("bash", "zsh", "fish")


def add_doctor(parser: Parser) -> None:
    """Add the arguments of `lessen doctor`."""
    parser.add_argument("--hub", action="store_true", help="also ask whether the model hub answers")


def do_doctor(args: argparse.Namespace, terminal: Terminal) -> int:
    """Show the machine's facts; exit 1 where something needed is missing."""
    from lessen.doctor import examine

    facts = examine(hub=args.hub)
    terminal.answer(facts)
    for name, value in _doctor_rows(facts):
        terminal.text(f"{name:<12} {value}")
    for problem in facts["problems"]:
        terminal.text(f"problem      {problem}")
    terminal.text("" if facts["problems"] else "all that lessen needs is here")
    return 1 if any("not installed" in p for p in facts["problems"]) else 0


def _doctor_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    cpu = facts["cpu"]
    memory = facts["memory_bytes"]
    return [
        ("lessen", facts["lessen"]),
        ("python", f"{facts['python']} on {facts['platform']}"),
        ("packages", ", ".join(f"{n} {v or 'absent'}" for n, v in facts["packages"].items())),
        ("cpu", f"{cpu['name']}, {cpu['threads']} threads, {' '.join(cpu['flags']) or 'no fast INT8 or bf16'}"),
        ("gpu", ", ".join(facts["gpus"] or []) or "none"),
        ("memory", f"{memory['available'] / 1e9:.1f} of {memory['total'] / 1e9:.1f} GB free"),
        ("disk", f"{facts['disk_free_bytes'] / 1e9:.1f} GB free here"),
        ("cache", f"{facts['cache']['folder']} ({facts['cache']['free_bytes'] / 1e9:.1f} GB free)"),
        ("hub", _hub(facts["hub"])),
    ]


def _hub(found: dict[str, Any] | None) -> str:
    if found is None:
        return "not asked; --hub asks"
    return "answers" if found["reachable"] else f"no answer: {found['reason']}"


def add_models(parser: Parser) -> None:
    """Add the arguments of `lessen models`: there are none."""


def do_models(args: argparse.Namespace, terminal: Terminal) -> int:
    """List presets and families."""
    from lessen import plugins
    from lessen.models import presets

    families = plugins.names("models.families")
    rows = [
        {"model": presets.PREFIX + p.name, "family": p.family, "task": p.task, "description": p.description}
        for p in presets.PRESETS.values()
    ]
    terminal.answer({"presets": rows, "families": list(families)})
    terminal.table(list(rows[0]), [list(row.values()) for row in rows])
    terminal.text(f"\nfamilies: {', '.join(families)}")
    terminal.text("also: a hub id such as google/electra-small-discriminator, or a local folder with config.json")
    return 0


def add_schema(parser: Parser) -> None:
    """Add the arguments of `lessen schema`: there are none."""


def do_schema(args: argparse.Namespace, terminal: Terminal) -> int:
    """Print the JSON Schema of a recipe."""
    from lessen.recipe import Recipe

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}
    terminal.answer(schema)
    terminal.text(json.dumps(schema, indent=2, ensure_ascii=False))
    return 0


def add_completion(parser: Parser) -> None:
    """Add the arguments of `lessen completion`."""
    parser.add_argument(
        "shell", choices=SHELLS, help='eval "$(lessen completion bash)", or save it where your shell looks'
    )


def do_completion(args: argparse.Namespace, terminal: Terminal) -> int:
    """Print a completion script."""
    import shtab

    if args.shell not in shtab.SUPPORTED_SHELLS:
        raise RecipeError(f"the installed shtab {shtab.__version__} has no {args.shell}", "pip install -U shtab")
    script = shtab.complete(tree(), args.shell)
    terminal.answer({"shell": args.shell, "script": script})
    terminal.text(script)
    return 0
