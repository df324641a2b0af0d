"""lessen run, resume, demo."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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


class Demo(NamedTuple):
    """A demo: its recipe, the server's preset that stands for it with --quick, and what it is."""

    recipe: str
    quick: str
    told: str


DEMOS = {
    "text": Demo("docstrings", "distillBert", "about 4 minutes: BERT on docstrings, pruned, dynamic INT8"),
    "digits": Demo("digits", "MobileNetV2", "about 5 minutes: ResNet-18 teaches MobileNetV2 digits, static INT8"),
}


def add_run(parser: Parser) -> None:
    """Add the arguments of `lessen run`."""
    from lessen.cli import events, flags, remote

    parser.epilog = EXAMPLES
    parser.usage = "lessen run [RECIPE.yaml] [--SETTING VALUE ...]"
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="a YAML file, or the name of a packaged recipe")
    parser.add_argument("--dry-run", action="store_true", help="print the resolved recipe and the plan; touch nothing")
    parser.add_argument("--force", action="store_true", help="replace another run in the same folder")
    parser.add_argument("--help-all", action="store_true", help="show a flag for every setting")
    remote.add_server(parser)
    parser.add_argument("--detach", action="store_true", help="with --server: queue the run and return at once")
    events.add(parser)
    flags.add(parser, every=parser.every_flag)


def do_run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Run a recipe and print its result table."""
    from lessen.cli import events, flags

    terminal = events.checked(args, terminal)
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
    return go(recipe, terminal, force=args.force, log_to=args.log_to)


def add_resume(parser: Parser) -> None:
    """Add the arguments of `lessen resume`."""
    from lessen.cli import events, remote

    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of a run, or latest; with --server its id")
    remote.add_server(parser)
    events.add(parser)


def do_resume(args: argparse.Namespace, terminal: Terminal) -> int:
    """Go on with an interrupted run; finished stages are skipped."""
    from lessen.cli import events
    from lessen.cli.latest import run_folder
    from lessen.folder import read_recipe

    terminal = events.checked(args, terminal)
    if args.server:
        from lessen.cli import remote

        return remote.resume(args.server, str(args.folder), terminal)
    folder = run_folder(args.folder)
    recipe = read_recipe(folder)
    return go(recipe.model_copy(update={"output_dir": str(folder)}), terminal, log_to=args.log_to)


def add_demo(parser: Parser) -> None:
    """Add the arguments of `lessen demo`."""
    from lessen.cli import events

    quick = _quick_names()
    parser.epilog = "\n".join(
        ["choices, with their time on two idle cores:", *(f"  {n:<12} {d.told}" for n, d in DEMOS.items())]
        + [f"  {name:<12} about a minute: {told}" for name, told in quick.items()]
    )
    parser.add_argument(
        "which", nargs="?", default="text", choices=[*DEMOS, *quick], metavar="DEMO", help="text (default) or see below"
    )
    parser.add_argument("--quick", action="store_true", help="a smaller model of the same kind: about a minute")
    parser.add_argument("--output_dir", help="the run's folder; runs/<name> when absent")
    parser.add_argument("--force", action="store_true", help="replace another run in the same folder")
    events.add(parser)


def do_demo(args: argparse.Namespace, terminal: Terminal) -> int:
    """Run a packaged recipe, or a preset of the server at its shortest level, on embedded data."""
    from lessen.cli import events, flags
    from lessen.server import presets

    terminal = events.checked(args, terminal)
    more = {"output_dir": args.output_dir} if args.output_dir else {}
    demo = DEMOS.get(args.which)
    if demo is None or args.quick:
        recipe = presets.recipe(demo.quick if demo else args.which, "demo", more)
    else:
        recipe = flags.build(locate(demo.recipe), more, {})
    return go(recipe, terminal, force=args.force, log_to=args.log_to)


def _quick_names() -> dict[str, str]:
    """Return the server's presets by the name that `lessen demo` knows them by, with what they are."""
    from lessen.server.presets import PRESETS

    return {name.casefold(): preset.description.partition(":")[0] for name, preset in PRESETS.items()}


def go(recipe: Recipe, terminal: Terminal, *, force: bool = False, log_to: Sequence[str] = ()) -> int:
    """Run a checked recipe, show its progress and its result."""
    from lessen.cli import events
    from lessen.progress import watcher
    from lessen.runner import run

    folder = recipe.output_dir or f"runs/{recipe.name}"
    first = os.environ.get("RANK", "0") == "0"  # of the processes of a `torchrun`, one speaks
    quiet = terminal.quiet or not first
    with (
        stoppable(f"go on with `lessen resume {folder}`", quiet=quiet) as check,
        watcher(live=terminal.live, quiet=quiet, verbose=terminal.verbose, plain=terminal.plain) as emit,
    ):
        more: dict[str, Any] = {"loggers": log_to} if log_to else {}
        run(recipe, emit=events.both(emit, terminal) if first else emit, check=check, force=force, **more)
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
    from lessen.cli.events import both
    from lessen.progress import watcher

    if args.log_to:
        raise RecipeError("--log-to is given with --run_ablation", "loggers write one run: leave one of them out")
    root = Path(recipe.output_dir or f"runs/{recipe.name}")
    with (
        stoppable("the same command goes on", quiet=terminal.quiet) as check,
        watcher(live=terminal.live, quiet=terminal.quiet, verbose=terminal.verbose, plain=terminal.plain) as emit,
    ):
        rows = ablation.run(variants, root, emit=both(emit, terminal), check=check, force=args.force)
    terminal.answer({"summary": str(root / ablation.SUMMARY), "rows": rows})
    terminal.table(ablation.COLUMNS, [[ablation.shown(row[name]) for name in ablation.COLUMNS] for row in rows])
    terminal.say(f"summary: {root / ablation.SUMMARY}")
    return 0
