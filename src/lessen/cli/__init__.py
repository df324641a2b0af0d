"""The command line: argv -> a command -> an exit code. torch is imported once a command needs it."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence

from lessen import __version__
from lessen.cli.parser import SWITCHES, module, overview, parser_of
from lessen.cli.terminal import Terminal
from lessen.errors import as_lessen

NOISY = ("torch.utils._pytree", "torch.onnx")  # warn of their own insides when they are imported
QUIET_LIBRARIES = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    terminal = Terminal(json="--json" in words, debug="--debug" in words, lines="--jsonl" in words)
    try:
        return _main(words)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if terminal.debug:
            traceback.print_exc()
        return terminal.fail(as_lessen(error))


def _main(words: list[str]) -> int:
    leading, rest = _split(words)
    if not rest or rest[0] in ("--help", "-h", "help"):
        if len(rest) > 1:
            return _main([*leading, rest[1], "--help"])
        print(overview())
        return 0
    if rest[0] in ("--version", "-V"):
        print(_version())
        return 0
    return _command(rest[0], [*rest[1:], *leading])


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return (switches before the command, the command and what follows)."""
    known = {*SWITCHES, "-v", "-q"}
    at = next((i for i, word in enumerate(words) if word not in known), len(words))
    return words[:at], words[at:]


def _command(name: str, words: list[str]) -> int:
    for key, value in QUIET_LIBRARIES.items():
        os.environ.setdefault(key, value)
    parser = parser_of(name, every_flag="--help-all" in words)
    if "--help" in words or "-h" in words or "--help-all" in words:
        print(parser.format_help(), end="")
        return 0
    args = parser.parse_args(parser.canonical(words))
    terminal = Terminal(args.json, args.quiet, args.verbose, args.no_color, args.debug)
    for noisy in () if args.verbose else NOISY:
        logging.getLogger(noisy).setLevel(logging.ERROR)
    code: int = getattr(module(name), f"do_{name.replace('-', '_')}")(args, terminal)
    sys.stdout.flush()
    return code


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    def of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "absent"

    python = ".".join(map(str, sys.version_info[:3]))
    return f"lessen {__version__} (python {python}, torch {of('torch')}, onnxruntime {of('onnxruntime')})"
