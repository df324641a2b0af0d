"""Parts of a model by pattern, as `prune.ignore` and `quantize.ignore` name them. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from lessen.errors import RecipeError

OFFERED = 3  # near names that an error lists


def matching(names: Iterable[str], patterns: Sequence[str], setting: str) -> frozenset[str]:
    """Return the modules that patterns match, and every module below them.

    Args:
        names: of all modules, as in `module.named_modules()`.
        patterns: of whole names, as in the shell: `*` also stands for dots; "bert.encoder.layer.0" names that layer.
        setting: where the patterns stand in the recipe; for the error.

    Raises:
        RecipeError: a pattern matches nothing; the hint tells near names.
    """
    there = [name for name in names if name]
    found: set[str] = set()
    for pattern in patterns:
        some = {name for name in there if fnmatchcase(name, pattern)}
        if not some:
            raise RecipeError(f"{setting}: no module of this model matches {pattern!r}", _hint(pattern, there))
        found |= some
    return frozenset(name for name in there if name in found or any(above in found for above in _above(name)))


def _above(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _hint(pattern: str, names: Sequence[str]) -> str:
    deeper = [name for name in names if fnmatchcase(name, f"*.{pattern}")]
    if deeper:
        return f"names are matched whole: *.{pattern} matches {', '.join(deeper[:OFFERED])}"
    near = difflib.get_close_matches(pattern, names, n=OFFERED, cutoff=0.5)
    if near:
        return f"did you mean {', '.join(near)}?"
    tops = dict.fromkeys(name.partition(".")[0] for name in names)
    return f"names begin with {', '.join(tops)}; patterns are those of the shell, * also stands for dots"
