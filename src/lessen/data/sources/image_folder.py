"""A folder with one subfolder per class, or with train, validation and test folders of these."""

from __future__ import annotations

from pathlib import Path

from lessen import recipe
from lessen.data.files import existing
from lessen.data.images import SUFFIXES
from lessen.data.parts import part_of
from lessen.data.table import Table, holds
from lessen.errors import DataError


def read(cfg: recipe.Data, task: str) -> Table:
    """List the images of a folder, sorted by path; they are decoded when they are used.

    Raises:
        DataError: there is no folder, or it holds no images in subfolders.
    """
    holds("image", task, "image_folder")
    root = existing(cfg.path)
    if not root.is_dir():
        raise DataError(f"{root} is a file", "give the folder that holds one subfolder per class")
    found = [(file, label, part) for folder, part in _roots(root) for file, label in _classes(folder)]
    if not found:
        raise DataError(
            f"{root} has no images in subfolders",
            f"put images ({', '.join(sorted(SUFFIXES))}) into one folder per class",
        )
    parts = [part for _, _, part in found if part is not None]
    return Table(
        kind="image",
        inputs=[file for file, _, _ in found],
        labels=[label for _, label, _ in found],
        places=[str(file) for file, _, _ in found],
        parts=parts or None,
        facts={"path": str(root), "other_files": sum(1 for f in root.rglob("*") if f.is_file()) - len(found)},
    )


def has_images(root: Path) -> bool:
    """Whether a folder holds images in class folders."""
    return any(True for folder, _ in _roots(root) for _ in _classes(folder))


def _roots(root: Path) -> list[tuple[Path, str | None]]:
    """Return the folders that hold class folders: the root, or its train, validation and test folders."""
    named = [(folder, part_of(folder.name)) for folder in _folders(root)]
    if any(part == "train" and _folders(folder) for folder, part in named):
        return [(folder, part) for folder, part in named if part is not None]
    return [(root, None)]


def _classes(root: Path) -> list[tuple[Path, str]]:
    return [
        (file, folder.name)
        for folder in _folders(root)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file() and not file.name.startswith(".")
    ]


def _folders(root: Path) -> list[Path]:
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith((".", "__")))
