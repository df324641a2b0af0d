"""Where an artifact answers; one file each."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from lessen.errors import UnavailableError


def need(module: str, pip: str) -> Any:
    """Import an optional package.

    Args:
        module: what is imported, e.g. "onnxruntime.quantization".
        pip: what installs it, e.g. "onnxruntime>=1.31".

    Raises:
        UnavailableError: it is not installed; the hint is the pip line.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).partition(".")[0]
        if importlib.util.find_spec(missing) is not None:
            raise  # it is there, a part of it is not: a broken installation, not an absent package
        what = pip if missing == module.partition(".")[0] else missing
        raise UnavailableError(f"{missing} is not installed here", f'pip install "{what}"') from None
