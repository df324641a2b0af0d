"""lessen sar, plan-memory: the predecessor's commands for causal language models."""

from __future__ import annotations

import argparse
from typing import Any

from lessen.cli.parser import Parser
from lessen.cli.terminal import Terminal

EXAMPLES = """\
examples:
  lessen sar --teacher_model ./mixtral --student_model ./student --dataset_name corpus.txt --train_steps 500
  lessen sar --teacher_model ./DialoGPT-medium --student_model ./distilgpt2 --model_dtype float16 \\
      --train_steps 500 --student_lr 5e-6 --dataset_name corpus.txt

`lessen run` takes a recipe with every setting; docs/legacy.md says which flag fills which.
"""
GIB = 2**30


def add_sar(parser: Parser) -> None:
    """Add the arguments of `lessen sar`."""
    parser.epilog = EXAMPLES
    _flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe and the plan; touch nothing")
    parser.add_argument("--force", action="store_true", help="replace another run in the same folder")


def do_sar(args: argparse.Namespace, terminal: Terminal) -> int:
    """Distil a causal language model; of a mixture-of-experts teacher the routers learn too."""
    from lessen.cli.run import dry_run, go

    recipe = _recipe(args, terminal)
    return dry_run(recipe, terminal) if args.dry_run else go(recipe, terminal, force=args.force)


def add_plan_memory(parser: Parser) -> None:
    """Add the arguments of `lessen plan-memory`."""
    _flags(parser)
    parser.add_argument("--memory_gib", type=float, help="memory there is; what is free on the device when absent")


def do_plan_memory(args: argparse.Namespace, terminal: Terminal) -> int:
    """Estimate the memory of a distillation and propose settings that fit."""
    from lessen.plan_memory import plan_memory

    made = plan_memory(_recipe(args, terminal), None if args.memory_gib is None else args.memory_gib * GIB)
    terminal.answer(made.as_dict())
    terminal.text(made.text())
    return 0 if made.proposed is not None else 3


def _flags(parser: Parser) -> None:
    from lessen import sar_flags

    group = parser.add_argument_group("flags of the predecessor")
    for flag in sar_flags.FLAGS:
        shape: dict[str, Any] = {"metavar": "|".join(flag.choices) or flag.kind.upper()}
        if flag.kind == "switch":
            shape = {"action": "store_const", "const": True}
        default = f" (default {flag.default})" if flag.kind != "switch" and flag.default is not None else ""
        names = [f"--{flag.name}", *(f"--{a}" for a, name in sar_flags.ALIASES.items() if name == flag.name)]
        group.add_argument(
            *names, dest=flag.name, default=argparse.SUPPRESS, help=f"{flag.help}{default}", **shape
        )  # fmt: skip


def _recipe(args: argparse.Namespace, terminal: Terminal) -> Any:
    from lessen import sar_flags
    from lessen.recipe import parse

    given = {k: v for k, v in vars(args).items() if k in sar_flags.BY_NAME}
    values = sar_flags.translate(given)
    if given.get("router", "auto") == "auto":
        from lessen import models

        experts = models.experts(values["teacher"]["model"])
        if experts:
            values["distill"]["router"] = "sar"
            terminal.say(f"the teacher has {experts} experts a layer: its routers learn (router: sar)")
        else:
            terminal.say(
                f"{values['teacher']['model']} has no experts, so there is no router to train: "
                "SAR is not active, this is ordinary distillation"
            )
    return parse(values)
