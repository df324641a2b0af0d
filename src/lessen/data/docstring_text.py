"""Docstrings out of Python source, without importing it, and with tell-tale names masked."""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "testing", "_vendor", "vendored", "externals", "_internal_tests", "idle_test"}
)
SHORTEST, LONGEST = 40, 600  # characters of a text; longer ones are cut


def docstrings_of(source: str) -> Iterator[str]:
    """Yield the cleaned docstrings of a module and of the classes and functions in it.

    Raises:
        SyntaxError: the source is not Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's source
        tree = ast.parse(source)
    pending: list[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef] = [tree]
    while pending:
        node = pending.pop()
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            yield inspect.cleandoc(first.value.value)
        pending.extend(n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef))


def mask(names: Iterable[str]) -> re.Pattern[str]:
    """Match any of the names as a whole word, also inside dotted paths and snake_case, in any case."""
    longest_first = sorted(set(names), key=lambda name: (-len(name), name))
    return re.compile(r"(?<![a-z0-9])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![a-z0-9])", re.IGNORECASE)


def documents_of(
    folder: Path, files: Iterable[Path], enough: float = float("inf"), more: Iterable[str] = ()
) -> list[str]:
    """Return docstrings whole and as they are written, and more texts, each once.

    Files and the other texts come in the order of a hash, until there are `enough` documents: the choice is a sample,
    the same on every machine, and a part of any larger one.
    """
    units: dict[str, Path | str] = {name_hash(f.relative_to(folder).as_posix()): f for f in files}
    units |= {name_hash(text): text for text in more}
    found: dict[str, None] = {}
    for _, unit in sorted(units.items()):
        if len(found) >= enough:
            break
        for text in [unit] if isinstance(unit, str) else _docstrings(unit):
            if len(text) >= SHORTEST:
                found.setdefault(text)
    return list(found)[: len(found) if enough == float("inf") else int(enough)]


def _docstrings(file: Path) -> list[str]:
    try:
        return list(docstrings_of(file.read_text(encoding="utf-8")))
    except (SyntaxError, ValueError, OSError):
        return []  # not Python of this version, or another encoding: templates and the like


def texts_of(
    folder: Path, files: Iterable[Path], masked: re.Pattern[str], word: str, enough: float = float("inf")
) -> dict[str, str]:
    """Return the texts of source files by a hash of what they say; those that say the same come once.

    Files are read in the order of a hash of their paths, and only until there are `enough` texts, which keeps the
    reading of a large package short and the choice the same on every machine.
    """
    texts: dict[str, str] = {}
    for file in sorted(files, key=lambda f: name_hash(f.relative_to(folder).as_posix())):
        if len(texts) >= enough:
            break
        for docstring in _docstrings(file):
            text = _cut(" ".join(masked.sub(word, docstring[: 5 * LONGEST]).split()))
            if len(text) >= SHORTEST:
                texts.setdefault(name_hash(text.lower()), text)
    return texts


def _cut(text: str) -> str:
    """Return the first words of a text, `LONGEST` characters at most; half a word could be a masked name."""
    return text if len(text) <= LONGEST else text[: LONGEST + 1].rpartition(" ")[0]


def source_files(root: Path) -> list[Path]:
    """Return the Python files of a package's folder, or the module itself, tests left out."""
    if root.is_file():
        return [root]
    return [
        file
        for file in root.rglob("*.py")
        if not SKIPPED_FOLDERS.intersection(file.relative_to(root).parts) and not file.name.startswith("test_")
    ]


def name_hash(text: str) -> str:
    """Return a hash that is the same in every run and on every machine."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
