"""Running text: a file or a folder of .txt, .md and .gz files, cut into documents."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from lessen import recipe
from lessen.data.files import existing, read_text
from lessen.data.parts import part_of
from lessen.data.table import Table
from lessen.errors import DataError

SUFFIXES = (".txt", ".md", ".gz")
HEADING = re.compile(r"^ = (?!= ).*(?<! =) = *$", re.MULTILINE)  # WikiText: " = Title = ", not " = = Section = = "
_PART = re.compile(r"train(ing)?|valid(ation)?|val|dev|test(ing)?", re.IGNORECASE)


def read(cfg: recipe.Data, task: str) -> Table:
    """Read the documents of a file or folder.

    What a document is, `documents` says: the file, a line, a paragraph (up to a blank line), what follows a WikiText
    heading, or auto: by heading where there are some, else the files of a folder, else the paragraphs of a file.
    Files of a folder that are all named train, validation (valid, val, dev) or test keep their parts, and so do those
    in folders of these names.

    Raises:
        DataError: there is no text, or `supervise` asks for responses, of which text has none.
    """
    if task != "causal-lm":
        raise DataError(f"source text holds documents without labels, the task is {task}", "set task to causal-lm")
    if cfg.supervise == "response":
        raise DataError(
            f"data.supervise is response, and {cfg.path} is running text", "set data.supervise to all, or give chats"
        )
    root = existing(cfg.path)
    files = text_files(root) if root.is_dir() else [root]
    if not files:
        raise DataError(f"{root} holds no {', '.join(SUFFIXES)} file", "give a file, or another data.source")
    texts = [read_text(file, cfg.encoding).replace("\r\n", "\n") for file in files]
    how = cfg.documents if cfg.documents != "auto" else _choose(texts, root.is_dir())
    parts = _parts(root, files)
    inputs, places, own = [], [], []
    for file, text, part in zip(files, texts, parts or [""] * len(files), strict=True):
        for number, document in enumerate(split(text, how), 1):
            inputs.append(document)
            places.append(f"document {number} of {file}")
            own.append(part)
    return Table(
        kind="text",
        inputs=inputs,
        labels=[""] * len(inputs),
        places=places,
        parts=own if parts else None,
        facts={"path": str(root), "encoding": cfg.encoding, "files": len(files), "documents": how},
        form="documents",
    )


def text_files(folder: Path) -> list[Path]:
    """Return the text files of a folder and its subfolders, sorted; hidden ones are left out."""
    return sorted(
        file
        for file in folder.rglob("*")
        if is_text(file) and file.is_file() and not any(name.startswith(".") for name in file.relative_to(folder).parts)
    )


def is_text(file: Path) -> bool:
    """Whether a file's name says that it holds running text; a packed table is none."""
    inner = Path(file.stem).suffix.lower() if file.suffix.lower() == ".gz" else file.suffix.lower()
    return inner in (".txt", ".md") or (inner == "" and file.suffix.lower() == ".gz")


def split(text: str, how: str) -> list[str]:
    """Return the documents of a text, none of them blank.

    Args:
        how: file, line, paragraph or heading; what stands before the first heading is a document too.
    """
    if how == "line":
        found = text.split("\n")
    elif how == "paragraph":
        found = re.split(r"\n[ \t]*(?:\n[ \t]*)+", text)
    elif how == "heading":
        starts = [match.start() for match in HEADING.finditer(text)]
        cuts = [0, *starts, len(text)]
        found = [text[a:b] for a, b in itertools.pairwise(cuts)]
    else:
        found = [text]
    return [document.strip("\n") for document in found if document.strip()]


def _choose(texts: Sequence[str], folder: bool) -> str:
    if any(HEADING.search(text) for text in texts):
        return "heading"
    return "file" if folder else "paragraph"


def _parts(root: Path, files: Sequence[Path]) -> list[str] | None:
    """Return each file's part where all of them, or the folders they are in, are named after parts."""
    if not root.is_dir():
        return None
    tops = [file.relative_to(root).parts[0].partition(".")[0] for file in files]
    if not all(_PART.fullmatch(top) for top in tops):
        return None
    parts = [part_of(top) or "" for top in tops]
    return parts if "train" in parts else None
