"""Names that people give to the parts of a data set."""

from __future__ import annotations

import re

_NAMED = re.compile(r"(training|train|validation|valid|val|dev|testing|test)(?:[-_. \d].*)?", re.IGNORECASE)
_PART = {"tr": "train", "va": "validation", "de": "validation", "te": "test"}


def part_of(name: str) -> str | None:
    """Return train, validation or test for a file's or folder's name such as dev or train-00000-of-00001."""
    match = _NAMED.fullmatch(name)
    return _PART[match[1][:2].lower()] if match else None
