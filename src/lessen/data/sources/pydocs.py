"""Python's own documentation: docstrings of the standard library, labelled with what the module is for; as documents,
the language reference too.

Needs no network. Seven families of modules whose source every installation has (packagers leave tkinter and idlelib
out, so these are not among them). Names of the modules are masked, since they would give the family away.
"""

from __future__ import annotations

import platform
import re
import sysconfig
from pathlib import Path

from lessen import recipe
from lessen.data.docstring_text import SKIPPED_FOLDERS, documents_of, mask, source_files, texts_of
from lessen.data.table import Table, holds
from lessen.errors import DataError

EMBEDDED = True
MASK = "module"
LEFT_OUT = SKIPPED_FOLDERS | {
    "site-packages", "dist-packages", "idlelib", "lib2to3", "tkinter", "turtledemo", "pydoc_data",
}  # fmt: skip
FAMILIES: dict[str, tuple[str, ...]] = {
    "concurrency": (
        "asyncio", "multiprocessing", "threading", "concurrent", "subprocess", "selectors", "queue", "sched",
        "contextvars", "signal",
    ),
    "debugging": (
        "unittest", "doctest", "pdb", "bdb", "trace", "traceback", "timeit", "profile", "cProfile", "pstats",
        "tracemalloc", "warnings", "faulthandler", "logging", "dis",
    ),
    "files": (
        "tarfile", "zipfile", "shutil", "pathlib", "tempfile", "gzip", "bz2", "lzma", "glob", "fileinput", "_pyio",
        "codecs", "filecmp", "linecache", "fnmatch", "configparser", "csv", "shelve", "tomllib", "plistlib", "json",
    ),
    "language": (
        "importlib", "inspect", "typing", "ast", "enum", "functools", "dataclasses", "contextlib", "abc", "types",
        "pkgutil", "runpy", "zipimport", "symtable", "tokenize", "code", "codeop", "copy", "weakref",
    ),
    "mail": ("email", "mailbox", "smtplib", "imaplib", "poplib", "mimetypes", "quopri", "base64"),
    "numbers": (
        "statistics", "random", "fractions", "_pydecimal", "decimal", "numbers", "datetime", "_pydatetime", "calendar",
        "ipaddress", "bisect", "heapq", "uuid", "secrets", "colorsys", "hashlib", "hmac",
    ),
    "web": (
        "http", "urllib", "xmlrpc", "wsgiref", "ftplib", "socket", "socketserver", "ssl", "html", "xml", "netrc",
        "webbrowser", "cgi",
    ),
}  # fmt: skip


def read(cfg: recipe.Data, task: str) -> Table:
    """Return docstrings of the standard library labelled with the family of their module; causal-lm: all documents.

    Args:
        cfg: `labels` chooses families, `limit` the most texts of each (all); causal-lm: the most documents.

    Raises:
        DataError: a family is unknown, or its source is not installed.
    """
    holds("text", task, "pydocs")
    if task == "causal-lm":
        return _documents(cfg)
    unknown = [name for name in cfg.labels if name not in FAMILIES]
    if unknown:
        raise DataError(f"source pydocs has no family {unknown[0]!r}", f"choose among {', '.join(FAMILIES)}")
    stdlib = Path(sysconfig.get_path("stdlib"))
    masked = mask(name for modules in FAMILIES.values() for name in modules)
    found = {name: _texts(stdlib, FAMILIES[name], masked) for name in cfg.labels or FAMILIES}
    rows: list[tuple[str, str]] = []
    for family, texts in found.items():
        others = [found[other] for other in found if other != family]
        own = sorted(key for key in texts if not any(key in other for other in others))
        if not own:
            raise DataError(f"the source of the standard library is not at {stdlib}", "choose another data.source")
        rows += [(texts[key], family) for key in own[: cfg.limit]]
    return Table(
        kind="text",
        inputs=[text for text, _ in rows],
        labels=[family for _, family in rows],
        places=[f"docstring {i + 1} of {family}" for i, (_, family) in enumerate(rows)],
        facts={"path": "Python standard library", "versions": {"python": platform.python_version()}},
    )


def _documents(cfg: recipe.Data) -> Table:
    """Return the topics of the language reference and all docstrings of the standard library, nothing masked."""
    from pydoc_data import topics

    if cfg.labels:
        raise DataError("data.labels chooses families of pydocs; documents have none", "leave data.labels out")
    stdlib = Path(sysconfig.get_path("stdlib"))
    roots = [root for root in stdlib.iterdir() if root.name not in LEFT_OUT and (root.is_dir() or root.suffix == ".py")]
    files = [file for root in roots for file in source_files(root)]
    texts = documents_of(stdlib, files, cfg.limit or float("inf"), topics.topics.values())
    return Table(
        kind="text",
        inputs=texts,
        labels=[""] * len(texts),
        places=[f"document {i + 1} of pydocs" for i in range(len(texts))],
        facts={"path": "Python documentation", "versions": {"python": platform.python_version()}},
        form="documents",
    )


def _texts(stdlib: Path, modules: tuple[str, ...], masked: re.Pattern[str]) -> dict[str, str]:
    roots = [path for name in modules for path in (stdlib / name, stdlib / f"{name}.py") if path.exists()]
    return texts_of(stdlib, [file for root in roots for file in source_files(root)], masked, MASK)
