"""Distil, prune and quantize a model, and prove what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lessen.artifact import Answer, Artifact, Classifier, load
    from lessen.client import Client
    from lessen.errors import LessenError
    from lessen.generator import Generator
    from lessen.recipe import Recipe
    from lessen.runner import run

__all__ = [
    "Answer",
    "Artifact",
    "Classifier",
    "Client",
    "Generator",
    "LessenError",
    "Recipe",
    "__version__",
    "load",
    "run",
]

_HOME = {
    "Answer": "lessen.artifact",
    "Artifact": "lessen.artifact",
    "Classifier": "lessen.artifact",
    "Client": "lessen.client",
    "Generator": "lessen.generator",
    "LessenError": "lessen.errors",
    "Recipe": "lessen.recipe",
    "load": "lessen.artifact",
    "run": "lessen.runner",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import lessen` itself stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'lessen' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
