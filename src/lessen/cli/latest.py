"""`latest` stands for a run wherever one is named: the one in runs/ that was started last."""

from __future__ import annotations

from pathlib import Path

from lessen.errors import ArtifactError
from lessen.folder import read_state

LATEST = "latest"


def run_folder(path: Path, root: Path | None = None) -> Path:
    """Return the folder of a run that is named on the command line; a folder called `latest` is meant itself.

    Args:
        root: where runs lie; runs/ when absent.

    Raises:
        ArtifactError: `latest` is given and there is no run.
    """
    if str(path) != LATEST or path.exists():
        return path
    root = root or Path("runs")
    found = [
        (str(read_state(file.parent).get("started")), str(file.parent))
        for file in root.rglob("run.json")
        if (file.parent / "recipe.json").is_file() and _is_whole(file.parent.relative_to(root))
    ]
    if not found:
        raise ArtifactError(f"there is no latest run: {root} holds none", "`lessen demo` makes one; or name a folder")
    return Path(max(found)[1])


def _is_whole(place: Path) -> bool:
    """Whether a folder is a run of its own: neither hidden nor a fold of another."""
    return not any(part.startswith((".", "fold-")) for part in place.parts)
