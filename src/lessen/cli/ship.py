"""lessen predict and export."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.cli.parser import Parser
from lessen.cli.terminal import Terminal
from lessen.errors import ConflictError, RecipeError

if TYPE_CHECKING:
    from lessen.artifact import Artifact

Answering = Callable[[list[Any]], list[dict[str, Any]]]
CHUNK = 1024  # rows read and answered at a time, so that output flows


def add_predict(parser: Parser) -> None:
    """Add the arguments of `lessen predict`."""
    parser.add_argument(
        "artifact", metavar="ARTIFACT", type=Path, help="a model folder, or a run or latest: its final artifact"
    )
    parser.add_argument(
        "--input", required=True, type=Path, metavar="FILE",
        help="CSV, TSV, JSON lines or text (one a line); an image, or a folder of images",
    )  # fmt: skip
    parser.add_argument("--column", help="column of the text, by name or number; found by its usual names when absent")
    parser.add_argument("--no_header", action="store_true", help="the first row of a CSV or TSV file is data")
    parser.add_argument("--batch_size", type=int, default=32, metavar="N", help="rows in a forward pass (default 32)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the runtime; all when absent")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N (default cpu)")
    parser.add_argument(
        "--max_new_tokens", type=int, default=64, metavar="N", help="models that generate: tokens of an answer"
    )
    parser.add_argument("--beams", type=int, default=1, metavar="N", help="models that generate: beams; 1: greedy")


def do_predict(args: argparse.Namespace, terminal: Terminal) -> int:
    """Print one JSON line a row, in the order of the input; with --json one object that holds them all."""
    from lessen.artifact import Artifact
    from lessen.cli import inputs

    if args.batch_size < 1:
        raise RecipeError(f"--batch_size is {args.batch_size}", "give 1 or more")
    artifact = Artifact(shipped(args.artifact))
    artifact.verify()
    rows = inputs.read(args.input, artifact.processor.kind, args.column, header=not args.no_header)
    answer = _generating(artifact, args) if artifact.info.generates else _classifying(artifact, args)
    answers = []
    for start in range(0, len(rows), CHUNK):
        for line in answer([inputs.content(row) for row in rows[start : start + CHUNK]]):
            terminal.text(json.dumps(line, ensure_ascii=False))
            if terminal.json:
                answers.append(line)
    terminal.answer({"artifact": str(artifact.path), "rows": answers})
    return 0


def _classifying(artifact: Artifact, args: argparse.Namespace) -> Answering:
    from lessen.artifact import Classifier

    model = Classifier(artifact, args.device, args.threads)
    return lambda part: [vars(answer) for answer in model.predict(part, args.batch_size)]


def _generating(artifact: Artifact, args: argparse.Namespace) -> Answering:
    from lessen.generator import Generator

    model = Generator(artifact, args.device, args.threads)
    if artifact.info.labels:
        return lambda part: [vars(answer) for answer in model.predict(part, args.batch_size)]
    return lambda part: [
        {"text": text} for text in model.generate(part, args.max_new_tokens, args.beams, args.batch_size)
    ]


def add_export(parser: Parser) -> None:
    """Add the arguments of `lessen export`."""
    parser.add_argument(
        "artifact", metavar="ARTIFACT", type=Path, help="a model folder, or a run or latest: its last torch artifact"
    )
    parser.add_argument(
        "--format", action="append", required=True, help="huggingface, onnx, safetensors; may be repeated"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="one folder per format is made below it"
    )
    parser.add_argument(
        "--tolerance", type=float, default=1e-4, metavar="X", help="largest allowed difference of a logit"
    )
    parser.add_argument("--force", action="store_true", help="replace what is there")


def do_export(args: argparse.Namespace, terminal: Terminal) -> int:
    """Write an artifact in other formats; answers are compared on made-up inputs."""
    from lessen import plugins, recipe
    from lessen.artifact import Artifact
    from lessen.cli.interrupt import stoppable
    from lessen.context import Context
    from lessen.export import export
    from lessen.progress import watcher

    for name in args.format:
        plugins.require("export.formats", name)
        if (args.output / name).exists() and not args.force:
            raise ConflictError(f"{args.output / name} exists", "choose another --output, or --force to replace it")
    source = Artifact(shipped(args.artifact, torch_only=True))
    source.verify()
    cfg = recipe.Export.model_validate({"formats": tuple(args.format), "tolerance": args.tolerance})
    args.output.mkdir(parents=True, exist_ok=True)
    with (
        stoppable("run the command again", quiet=terminal.quiet) as check,
        watcher(live=terminal.live, quiet=terminal.quiet, verbose=terminal.verbose, plain=terminal.plain) as emit,
    ):
        ctx = Context(out_dir=args.output, stage="export", emit=emit, check=check)
        made = export(source, cfg, None, ctx, out=args.output)
    terminal.answer({"artifacts": [{"path": str(a.path), "runtime": a.manifest.runtime} for a in made]})
    for artifact in made:
        terminal.text(str(artifact.path))
    return 0


def shipped(path: Path, *, torch_only: bool = False) -> Path:
    """Return a model folder: the path itself, or the artifact that a run's report names.

    Args:
        torch_only: the newest artifact of the run that torch can open, from which formats are written.
    """
    from lessen.artifact import MANIFEST
    from lessen.cli.latest import run_folder

    path = run_folder(path)
    if (path / MANIFEST).is_file() or not (path / "report.json").is_file():
        return path
    from lessen.cli.runs import read_report

    report = read_report(path)
    opened = [row for row in report.main if row.runtime == "eager"]
    row = (opened[-1] if opened else None) if torch_only else report.final
    if row is None or row.artifact is None:
        raise RecipeError(f"{path} holds no {'torch ' if torch_only else ''}artifact", "name a model folder")
    return path / row.artifact
