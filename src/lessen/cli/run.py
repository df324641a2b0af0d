"""lessen run, resume, demo."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lessen.cli.interrupt import stoppable
from lessen.cli.parser import Parser
from lessen.cli.runs import show
from lessen.cli.terminal import Terminal
from lessen.errors import RecipeError

if TYPE_CHECKING:
    from lessen.recipe import Recipe

EXAMPLES = """\
examples:
  lessen run recipes/docstrings.yaml
  lessen run recipes/docstrings.yaml --prune.remove_frac 0.3 --seed 7 --output_dir runs/thinner
  lessen run --data.path reviews.csv --teacher.model scratch:bert-small --student.layers 2
  lessen run --dataset_path data.csv --pipeline kd_prune_quant --teacher_path ./banglabert --num_folds 1

`--help-all` shows a flag for every setting; `lessen schema` prints the schema of a recipe.
"""
DEMOS = {"text": "docstrings", "digits": "digits"}


def add_run(parser: Parser) -> None:
    """Add the arguments of `lessen run`."""
    from lessen.cli import flags, remote

    parser.epilog = EXAMPLES
    parser.usage = "lessen run [RECIPE.yaml] [--SETTING VALUE ...]"
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a YAML file, or the name of a packaged recipe")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe and the plan; touch nothing")
    parser.add_argument("--force", action="store_true", help="replace another run in the same folder")
    parser.add_argument("--help-all", action="store_true", help="show a flag for every setting")
    remote.add_server(parser)
    parser.add_argument("--detach", action="store_true", help="with --server: queue the run and return at once")
    flags.add(parser, every=parser.every_flag)


def do_run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Run a recipe and print its result table."""
    from lessen.cli import flags

    given, old = flags.given(args), flags.old(args)
    if args.recipe is None and not given and not old:
        raise RecipeError(
            "nothing to run: neither a recipe nor a setting is given", "try `lessen demo`, or see `lessen run --help`"
        )
    recipe = flags.build(locate(args.recipe) if args.recipe else None, given, old)
    if args.recipe is None and "dataset_path" in old and "num_folds" not in old:
        terminal.say(f"{recipe.data.folds} folds are run, as the predecessor's default says; --num_folds 1: one split")
    variants = old.get("ablation_pipelines") or None
    if args.detach and not args.server:
        raise RecipeError(
            "--detach is given without --server", "a run in this shell is started with `&`, or on a server"
        )
    if old.get("run_ablation"):
        if args.server:
            raise RecipeError("--run_ablation is not carried out by a server", "run it in a shell, without --server")
        return _ablate(recipe, variants, args, terminal)
    if args.dry_run:
        return dry_run(recipe, terminal)
    if args.server:
        from lessen.cli import remote

        return remote.start(args.server, recipe, terminal, detach=args.detach)
    return go(recipe, terminal, force=args.force)


def add_resume(parser: Parser) -> None:
    """Add the arguments of `lessen resume`."""
    from lessen.cli import remote

    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of a run; with --server its id")
    remote.add_server(parser)


def do_resume(args: argparse.Namespace, terminal: Terminal) -> int:
    """Go on with an interrupted run; finished stages are skipped."""
    from lessen.folder import read_recipe

    if args.server:
        from lessen.cli import remote

        return remote.resume(args.server, str(args.folder), terminal)
    recipe = read_recipe(args.folder)
    return go(recipe.model_copy(update={"output_dir": str(args.folder)}), terminal)


def add_demo(parser: Parser) -> None:
    """Add the arguments of `lessen demo`."""
    parser.add_argument("which", nargs="?", default="text", choices=sorted(DEMOS), help="text (default) or digits")
    parser.add_argument("--output_dir", help="the run's folder; runs/<name> when absent")
    parser.add_argument("--force", action="store_true", help="replace another run in the same folder")


def do_demo(args: argparse.Namespace, terminal: Terminal) -> int:
    """Run a packaged recipe on embedded data."""
    from lessen.cli import flags

    more = {"output_dir": args.output_dir} if args.output_dir else {}
    return go(flags.build(locate(DEMOS[args.which]), more, {}), terminal, force=args.force)


def go(recipe: Recipe, terminal: Terminal, *, force: bool = False) -> int:
    """Run a checked recipe, show its progress and its result."""
    from lessen.progress import watcher
    from lessen.runner import run

    folder = recipe.output_dir or f"runs/{recipe.name}"
    first = os.environ.get("RANK", "0") == "0"  # of the processes of a `torchrun`, one speaks
    quiet = terminal.quiet or not first
    with (
        stoppable(f"go on with `lessen resume {folder}`", quiet=quiet) as check,
        watcher(live=terminal.live, quiet=quiet, verbose=terminal.verbose, plain=terminal.plain) as emit,
    ):
        run(recipe, emit=emit, check=check, force=force)
    if not first:
        return 0
    return show(Path(folder), terminal)


def locate(name: str) -> Path:
    """Return the file of a recipe: a path, or the name of a recipe that is packaged with lessen.

    Raises:
        RecipeError: neither exists; lists the packaged ones.
    """
    path = Path(name)
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        return path
    packaged = {file.stem: file for folder in _folders() for file in sorted(folder.glob("*.yaml"))}
    if name not in packaged:
        raise RecipeError(f"no recipe at {name}", f"give a .yaml file, or one of {', '.join(sorted(packaged))}")
    return packaged[name]


def _folders() -> list[Path]:
    """Return where recipes lie: in the installed package, and in a checkout."""
    import lessen

    package = Path(lessen.__file__).parent
    checkout = package.parents[1]
    return [package / "recipes", *([checkout / "recipes"] if (checkout / "pyproject.toml").is_file() else [])]


def dry_run(recipe: Recipe, terminal: Terminal) -> int:
    """Print the resolved recipe and what a run would do."""
    from lessen.plan import plan

    made = plan(recipe)
    terminal.answer({"recipe": recipe.model_dump(mode="json"), "plan": made.as_dict()})
    terminal.text(made.text())
    return 0


def _ablate(recipe: Recipe, pipelines: Sequence[str] | None, args: argparse.Namespace, terminal: Terminal) -> int:
    from lessen import ablation

    variants = ablation.variants(recipe, pipelines)
    if args.dry_run:
        return max(dry_run(variant, terminal) for variant in variants)
    from lessen.progress import watcher

    root = Path(recipe.output_dir or f"runs/{recipe.name}")
    with (
        stoppable("the same command goes on", quiet=terminal.quiet) as check,
        watcher(live=terminal.live, quiet=terminal.quiet, verbose=terminal.verbose, plain=terminal.plain) as emit,
    ):
        rows = ablation.run(variants, root, emit=emit, check=check, force=args.force)
    terminal.answer({"summary": str(root / ablation.SUMMARY), "rows": rows})
    terminal.table(ablation.COLUMNS, [[ablation.shown(row[name]) for name in ablation.COLUMNS] for row in rows])
    terminal.say(f"summary: {root / ablation.SUMMARY}")
    return 0
