"""A folder is a registry: the name in the recipe is the name of the file."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from lessen.errors import UnknownNameError

_ROOT = Path(__file__).parent


def names(folder: str) -> tuple[str, ...]:
    """List the files of a folder such as "distill.objectives", sorted; nothing is imported."""
    path = _ROOT.joinpath(*folder.split("."))
    return tuple(sorted(m.name for m in pkgutil.iter_modules([str(path)]) if not m.name.startswith("_")))


def find(folder: str, name: str) -> ModuleType:
    """Import one file of a folder by name; no other file of it is imported.

    Raises:
        UnknownNameError: there is no such file; the message lists those there are.
    """
    require(folder, name)
    return importlib.import_module(f"lessen.{folder}.{name}")


def require(folder: str, name: str) -> None:
    """Raise UnknownNameError unless `folder` has a file of this name."""
    known = names(folder)
    if name not in known:
        raise UnknownNameError(f"{folder} has no {name!r}", f"choose one of {', '.join(known)}")


def stated(folder: str, name: str) -> dict[str, Any]:
    """Return the constants and functions that a plugin's file states, read from its source: it may import torch."""
    path = _ROOT.joinpath(*folder.split("."), f"{name}.py")
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = True
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            value = node.value
            found[node.targets[0].id] = value.value if isinstance(value, ast.Constant) else None
    return found
