"""lessen cache build, verify, info: what teachers said, kept on disk."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.cli.interrupt import stoppable
from lessen.cli.parser import Parser
from lessen.cli.terminal import Terminal
from lessen.context import Context, default_cache_dir, digest
from lessen.errors import ArtifactError, RecipeError

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data.sequences import Blocks, Pairs
    from lessen.data.split import Splits
    from lessen.distill.tokens.cache import Score, TokenCache
    from lessen.recipe import Recipe

EXAMPLES = """\
examples:
  lessen cache build recipes/pairs.yaml --distill.top_k 32    let the teacher read the training texts, train nothing
  lessen cache verify recipes/pairs.yaml                      score random texts again and compare
  lessen cache verify ~/.cache/lessen/teacher-tokens/<name>   checksums and values of one cache, without its teacher
  lessen cache info                                           list what is kept
"""
KINDS = {"teacher": "logits", "teacher-tokens": None}  # folder -> kind; tokens: as its manifest says
LISTED = (
    "folder", "teacher", "kind", "rows", "tokens", "bytes", "bytes_per_token", "smaller_than_fp16", "age", "state"
)  # fmt: skip
SECONDS = {"d": 86400, "h": 3600, "min": 60}


def add_cache(parser: Parser) -> None:
    """Add the arguments of `lessen cache`."""
    from lessen.cli import flags

    parser.epilog = EXAMPLES
    parser.usage = "lessen cache build|verify|info [RECIPE|PATH] [--SETTING VALUE ...]"
    parser.add_argument("action", choices=("build", "verify", "info"), help="what to do")
    parser.add_argument(
        "target", nargs="?", metavar="RECIPE|PATH",
        help="build, verify: a recipe; verify: or the folder of a cache; info: a cache folder (default: the usual one)",
    )  # fmt: skip
    parser.add_argument("--count", type=int, default=32, metavar="N", help="verify: texts to score again (default 32)")
    parser.add_argument("--help-all", action="store_true", help="show a flag for every setting")
    flags.add(parser, every=parser.every_flag)


def do_cache(args: argparse.Namespace, terminal: Terminal) -> int:
    """Build, verify or list caches of teachers' answers."""
    if args.action == "info":
        return _info(args, terminal)
    if args.target is None:
        raise RecipeError(f"`lessen cache {args.action}` is given no recipe", "name a .yaml file, or a packaged recipe")
    if args.count < 1:
        raise RecipeError(f"--count is {args.count}", "give 1 or more")
    if args.action == "verify" and Path(args.target).is_dir():
        return _audit(Path(args.target), terminal)
    return _build(_recipe(args), terminal) if args.action == "build" else _verify(_recipe(args), args.count, terminal)


def teacher_of(recipe: Recipe, splits: Splits, ctx: Context) -> Artifact:
    """Return the teacher that a run of the recipe would have, without training: the run's, or one taken as given.

    Raises:
        RecipeError: the teacher is trained in the run, and the run has none yet; or that run is another recipe's.
    """
    from lessen import models
    from lessen.artifact import MANIFEST, Artifact
    from lessen.folder import read_recipe

    there = [file.parent for file in sorted((ctx.out_dir / "stages").glob(f"*-teacher/{MANIFEST}"))]
    if there:
        theirs = read_recipe(ctx.out_dir)
        differing = [n for n in ("task", "seed", "data", "teacher") if getattr(theirs, n) != getattr(recipe, n)]
        if differing:
            raise RecipeError(
                f"{ctx.out_dir} holds a teacher of another recipe (differs in: {', '.join(differing)})",
                "name the run's own recipe, or another --output_dir",
            )
        found = Artifact(there[0])
        found.verify()
        return found
    spec = recipe.teacher
    if spec.train is not None:
        raise RecipeError(
            f"the recipe trains its teacher, and {ctx.out_dir} holds none that is finished",
            "`lessen run` the recipe first, or give a trained teacher with --teacher.model FOLDER --teacher.train none",
        )
    values = {"teacher": spec.model_dump(mode="json"), "data": splits.digest, "seed": recipe.seed, "task": recipe.task}
    out = ctx.cache_dir / "teachers" / digest(values)[:24]
    model = models.fetch(spec, splits, recipe.data, recipe.task, recipe.seed)
    return models.save(model, out, stage="teacher", key="", history=({"stage": "teacher"},), facts={})


def _recipe(args: argparse.Namespace) -> Recipe:
    from lessen.cli import flags
    from lessen.cli.run import locate

    recipe = flags.build(locate(args.target), flags.given(args), flags.old(args))
    cfg = recipe.distill
    reason = None
    if not recipe.generates:
        reason = f"task is {recipe.task}, whose answers are small: `lessen run` stores them by itself"
    elif not recipe.distills:
        reason = f"pipeline {recipe.pipeline} has no distillation"
    elif cfg.cache == "off" or cfg.targets == "dense":
        reason = "distill.cache is off" if cfg.cache == "off" else "distill.targets is dense"
    elif cfg.sequences != "data":
        reason = f"distill.sequences is {cfg.sequences}: its texts are not there before the run"
    elif cfg.router not in (None, "frozen") or any(cfg.features.values()):
        reason = "a router that is not frozen and features need the running teacher"
    if reason is not None:
        raise RecipeError(f"there is nothing to store: {reason}", "see docs/distill.md for what is kept")
    return recipe


@contextmanager
def _context(recipe: Recipe, terminal: Terminal) -> Iterator[Context]:
    from lessen.progress import watcher
    from lessen.runtime import pick_device

    with (
        stoppable("the same command goes on", quiet=terminal.quiet) as check,
        watcher(live=terminal.live, quiet=terminal.quiet, verbose=terminal.verbose, plain=terminal.plain) as emit,
    ):
        yield Context(
            out_dir=Path(recipe.output_dir or f"runs/{recipe.name}"),
            cache_dir=Path(recipe.cache_dir) if recipe.cache_dir else default_cache_dir(),
            device=pick_device(recipe.device), seed=recipe.seed, stage="cache", emit=emit, check=check,
        )  # fmt: skip


def _asked(recipe: Recipe, ctx: Context) -> tuple[TokenCache, Score, Pairs | Blocks, Any]:
    """Return the cache of a recipe, its teacher, what is asked of it, and the runtime."""
    from lessen import data, models
    from lessen.data.rows import rows_of
    from lessen.distill.tokens.score import opened_cache
    from lessen.runtime import runtime

    splits = data.load(recipe.data, recipe.task, recipe.seed)
    teacher = teacher_of(recipe, splits, ctx)
    place = runtime(ctx, recipe.distill.train.precision)
    opened = models.open_model(teacher, str(place.device))
    rows: Any = rows_of(splits, "train", opened.processor, ctx.cache_dir)
    cache, score = opened_cache(teacher, opened, rows, recipe.distill, place, ctx)
    return cache, score, rows, place


def _build(recipe: Recipe, terminal: Terminal) -> int:
    from lessen.distill.tokens.score import filled

    with _context(recipe, terminal) as ctx:
        cache, score, rows, place = _asked(recipe, ctx)
        facts = filled(cache, rows, score, place, ctx)
    terminal.answer(facts)
    terminal.text(
        f"{cache.path}: {facts['pieces_computed']} of {facts['pieces_asked']} texts computed; {facts['tokens']} tokens "
        f"of {facts['bytes_per_token']:.1f} bytes, {facts['dense_fp16_ratio']:.1f} times smaller than fp16 logits"
    )
    return 0


def _verify(recipe: Recipe, count: int, terminal: Terminal) -> int:
    with _context(recipe, terminal) as ctx:
        cache, score, rows, _ = _asked(recipe, ctx)
        missing = len(cache.missing(rows))
        if missing:
            raise ArtifactError(
                f"{cache.path} lacks {missing} of {len(cache.pieces(rows).ids)} texts", "`lessen cache build` goes on"
            )
        found = cache.verify(rows, score, count=count, seed=int(time.time()))
    terminal.answer({"folder": str(cache.path), "mean": found.mean, "largest": found.largest, "tokens": found.tokens})
    terminal.text(
        f"{cache.path}: what is stored differs from the teacher by {found.mean:.3%} of the probability on average, "
        f"{found.largest:.3%} at worst, over {found.tokens} tokens"
    )
    return 0


def _audit(path: Path, terminal: Terminal) -> int:
    """Check one cache by itself: every checksum and every value."""
    if not (path / "manifest.json").is_file():
        raise ArtifactError(f"{path} is not a cache (no manifest.json)", "`lessen cache info` lists the caches")
    if path.parent.name != "teacher-tokens":
        raise RecipeError(
            f"{path} holds answers to classifications", "`lessen run` verifies these whenever it uses them"
        )
    from lessen.distill.tokens.cache import TokenCache

    parts = _json(path / "manifest.json").get("of")
    if not isinstance(parts, dict) or not {"vocab", "targets", "values"} <= set(parts):
        raise ArtifactError(f"{path / 'manifest.json'} cannot be read", "delete this folder; it is computed again")
    cache = TokenCache(path, parts)
    cache.read(Context(out_dir=path, stage="cache"))
    flaws = cache.flaws()
    if flaws:
        named = "; ".join(f"{name}: {what}" for name, what in flaws.items())
        raise ArtifactError(f"{path}: {named}", "`lessen cache build` computes damaged shards again; delete others")
    facts = cache.facts()
    terminal.answer({"folder": str(path), "flaws": flaws, **facts})
    terminal.text(
        f"{path}: {facts['tokens']} tokens, every checksum and value is right; "
        "`lessen cache verify RECIPE` also asks the teacher"
    )
    return 0


def _info(args: argparse.Namespace, terminal: Terminal) -> int:
    root = Path(args.target).expanduser() if args.target else default_cache_dir()
    if args.target and not root.is_dir():
        raise ArtifactError(f"there is no folder {root}", "name a cache_dir, or the folder of a cache")
    single = [root] if (root / "manifest.json").is_file() else []
    folders = single or [file.parent for kind in KINDS for file in sorted((root / kind).glob("*/manifest.json"))]
    rows = [_listed(folder) for folder in folders]
    terminal.answer({"caches": rows})
    if not rows:
        terminal.say(f"no teacher caches in {root}")
        return 0
    from lessen.cli.runs import cell

    shown = [{**row, "age": _age(row["age_seconds"])} for row in rows]
    terminal.table(LISTED, [[cell(row[name]) for name in LISTED] for row in shown])
    return 0


def _listed(folder: Path) -> dict[str, Any]:
    """Return what a cache says of itself; only its lists are read."""
    manifest, shards = _json(folder / "manifest.json"), [_json(file) for file in folder.glob("shard-*.json")]
    of, about = manifest.get("of", {}), manifest.get("about", {})
    tokens = sum(sum(body.get("positions", ())) for body in shards) or None
    files = list(folder.glob("shard-*"))
    size = sum(file.stat().st_size for file in files)
    notes = [_json(file) for file in folder.glob("asked-*.json")]
    kept = of.get("k") or of.get("draws")
    return {
        "folder": str(folder),
        "teacher": about.get("source") or str(of.get("teacher"))[:12],
        "kind": f"{of['targets']} {kept}" if "targets" in of else KINDS["teacher"],
        "rows": sum(len(body.get("keys", body.get("ids", ()))) for body in shards),
        "tokens": tokens,
        "bytes": size,
        "bytes_per_token": size / tokens if tokens else None,
        "smaller_than_fp16": 2 * of["vocab"] * tokens / size if tokens and "vocab" in of else None,
        "age_seconds": time.time() - max(f.stat().st_mtime for f in [*files, folder / "manifest.json"]),
        "state": (("complete" if all(n.get("complete") for n in notes) else "partial") if notes else None),
    }


def _age(seconds: float) -> str:
    unit = next((name for name, size in SECONDS.items() if seconds >= size), None)
    return f"{seconds:.0f} s" if unit is None else f"{seconds / SECONDS[unit]:.0f} {unit}"


def _json(file: Path) -> dict[str, Any]:
    """Return a JSON object, empty where the file is damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
