"""safetensors: weights, widths and tokenizer, the folder that `lessen.load` reopens to the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lessen.artifact import MANIFEST

if TYPE_CHECKING:
    from lessen.artifact import Artifact

RUNTIME = None  # the source's own


def refuse(source: Artifact) -> str | None:
    """Return why this artifact cannot be written as safetensors, or None."""
    if (source.path / "model.safetensors").is_file():
        return None
    return f"{source.path} has no torch weights; export the artifact it was made from, or use format onnx"


def fill(source: Artifact, folder: Path) -> None:
    """Copy the model folder's own files (those of its manifest) into a folder."""
    for name in source.manifest.files:
        if name != MANIFEST:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path / name, target)


def types(folder: Path) -> set[str]:
    """Return the floating-point types of the stored weights: F32, BF16, F16 ..."""
    return {name for name in facts(folder)["weights"]["by_type"] if name.startswith(("F", "BF"))}


def facts(folder: Path) -> dict[str, Any]:
    """Return how the weights are stored: elements by type."""
    from safetensors import safe_open

    by_type: dict[str, int] = {}
    with safe_open(str(folder / "model.safetensors"), framework="np") as stream:
        for name in stream.keys():  # noqa: SIM118
            part = stream.get_slice(name)
            size = 1
            for side in part.get_shape():
                size *= side
            by_type[part.get_dtype()] = by_type.get(part.get_dtype(), 0) + size
    return {"weights": {"elements": sum(by_type.values()), "by_type": by_type}}
