"""Docstrings of installed packages: which library is this from? Needs no network, imports none of the packages.

The texts are read out of the source files. Every library's names are masked in all of them, a text that stands in
two libraries is left out, and the choice and its order are those of a content hash: the same on every machine that
has the same versions.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from lessen import recipe
from lessen.data.docstring_text import documents_of, mask, source_files, texts_of
from lessen.data.table import Table, holds
from lessen.errors import DataError

EMBEDDED = True
LIBRARIES = ("numpy", "scipy", "sklearn", "torch", "pandas", "transformers")  # dependencies of lessen
PER_LIBRARY = 1_400
SPARE = 1.1  # texts read beyond that, since some stand in two libraries
MASK = "library"

ALIASES: dict[str, tuple[str, ...]] = {  # names that give a library away: its own and its usual abbreviations
    "numpy": ("numpy", "np", "npt", "numpydoc", "numpypy"),
    "scipy": ("scipy", "sp", "spla"),
    "sklearn": ("sklearn", "scikit-learn", "scikit learn", "scikits", "scikit"),
    "torch": (
        "torch",
        "pytorch",
        "libtorch",
        "torchscript",
        "torchvision",
        "torchelastic",
        "torchrun",
        "aten",
        "caffe2",
    ),
    "pandas": ("pandas", "pd"),
    "transformers": ("transformers", "transformer", "huggingface", "hugging face", "hf", "tf", "tensorflow"),
}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def read(cfg: recipe.Data, task: str) -> Table:
    """Return docstrings labelled with their library; causal-lm: docstrings whole, nothing masked.

    Args:
        cfg: `labels` names other installed packages, `limit` the most texts of each (1,400); causal-lm: of all
            together.

    Raises:
        DataError: a package is not installed, or has no docstrings.
    """
    holds("text", task, "docstrings")
    libraries = cfg.labels or LIBRARIES
    if task == "causal-lm":
        return _documents(libraries, cfg.limit or PER_LIBRARY * len(libraries))
    limit = cfg.limit or PER_LIBRARY
    masked = mask(name for library in libraries for name in ALIASES.get(library, (library,)))
    found: dict[str, dict[str, str]] = {}
    for library in libraries:
        folder = _folder(library)
        found[library] = texts_of(folder, source_files(folder), masked, MASK, limit * SPARE)
    rows: list[tuple[str, str]] = []
    for library, texts in found.items():
        others = [found[other] for other in found if other != library]
        own = sorted(key for key in texts if not any(key in other for other in others))
        if not own:
            raise DataError(f"package {library} has no docstrings of its own", "choose other data.labels")
        rows += [(texts[key], library) for key in own[:limit]]
    return Table(
        kind="text",
        inputs=[text for text, _ in rows],
        labels=[library for _, library in rows],
        places=[f"docstring {i + 1} of {library}" for i, (_, library) in enumerate(rows)],
        facts={"path": "installed packages", "versions": {library: _version(library) for library in libraries}},
    )


def _documents(libraries: tuple[str, ...], limit: int) -> Table:
    """Return the same number of documents of each library, as far as there are so many."""
    texts: dict[str, str] = {}
    for left, library in zip(range(len(libraries), 0, -1), libraries, strict=True):
        folder = _folder(library)
        share = -(-(limit - len(texts)) // left)
        for text in documents_of(folder, source_files(folder), share):
            texts.setdefault(text, library)
    if not texts:
        raise DataError(f"packages {', '.join(libraries)} have no docstrings", "choose other data.labels")
    return Table(
        kind="text",
        inputs=list(texts),
        labels=[""] * len(texts),
        places=[f"docstring {i + 1}, of {library}" for i, library in enumerate(texts.values())],
        facts={"path": "installed packages", "versions": {library: _version(library) for library in libraries}},
        form="documents",
    )


def _folder(library: str) -> Path:
    """Find a package on disk without importing it."""
    spec = importlib.util.find_spec(library) if library.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"{library!r} is no installed package; the source docstrings reads {', '.join(LIBRARIES)} unless told",
            "drop data.labels, or name installed packages",
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(library, library))
    except importlib.metadata.PackageNotFoundError:
        return None
