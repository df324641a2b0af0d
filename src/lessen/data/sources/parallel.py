"""Line-aligned text files in two languages: line n of one translates line n of the other."""

from __future__ import annotations

from pathlib import Path

from lessen import recipe
from lessen.data.files import existing, read_text
from lessen.data.parts import part_of
from lessen.data.table import Table, join
from lessen.errors import DataError


def read(cfg: recipe.Data, task: str) -> Table:
    """Read a folder of `<part>.<language>[.gz]` files, or one file and its twin in the other language.

    Args:
        cfg: `languages` are the endings of source and target files. A folder's files named train, validation (val,
            dev) and test, whatever follows, keep their parts; without train, the only pair of files is split.

    Raises:
        DataError: the languages are not given, a file has no twin, or the two have different numbers of lines.
    """
    if task != "seq2seq":
        raise DataError(f"source parallel holds sources with targets, the task is {task}", "set task to seq2seq")
    root = existing(cfg.path)
    if cfg.languages is None:
        found = f"; its files end in {', '.join(sorted(endings(root)))}" if root.is_dir() else ""
        raise DataError(f"data.languages is not set for {root}{found}", "give (source, target), for example [en, de]")
    if cfg.languages[0] == cfg.languages[1]:
        raise DataError(f"data.languages is {cfg.languages[0]} twice", "give two endings")
    names = _folder(root, cfg.languages) if root.is_dir() else {_stem(root, cfg.languages): None}
    folder = root if root.is_dir() else root.parent
    tables = [(part or "", _pairs(folder, name, cfg)) for name, part in names.items()]
    table = join(tables)
    facts = {
        "path": str(root),
        "languages": list(cfg.languages),
        "encoding": cfg.encoding,
        "files": {name: len(one) for name, (_, one) in zip(names, tables, strict=True)},
    }
    own = table.parts if any(names.values()) else None
    return Table("text", table.inputs, table.labels, table.places, own, facts=facts, form="pairs")


def endings(folder: Path) -> set[str]:
    """Return what the files of a folder end in, `.gz` aside."""
    return {_plain(file).rpartition(".")[2] for file in _files(folder) if "." in _plain(file)}


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))


def _plain(file: Path) -> str:
    return file.name[:-3] if file.name.lower().endswith(".gz") else file.name


def _folder(folder: Path, languages: tuple[str, str]) -> dict[str, str | None]:
    """Return the names of a folder's pairs of files, without the language, with their parts."""
    plain = [_plain(file) for file in _files(folder)]
    names = sorted({name.removesuffix(f".{e}") for name in plain for e in languages if name.endswith(f".{e}")})
    if not names:
        there = ", ".join(sorted(endings(folder))) or "nothing"
        raise DataError(
            f"{folder} has no files ending in .{languages[0]} or .{languages[1]}; there is {there}",
            "check data.languages",
        )
    parts = {name: part_of(name) for name in names}
    if "train" in parts.values():
        return {name: part for name, part in parts.items() if part is not None}
    if len(names) > 1:
        raise DataError(
            f"{folder} holds several pairs of files and none is named train: {', '.join(names[:10])}",
            "give one of the files as data.path",
        )
    return {names[0]: None}


def _stem(file: Path, languages: tuple[str, str]) -> str:
    for ending in languages:
        if _plain(file).endswith(f".{ending}"):
            return _plain(file).removesuffix(f".{ending}")
    raise DataError(f"{file} ends in neither of data.languages {', '.join(languages)}", "check data.languages")


def _pairs(folder: Path, name: str, cfg: recipe.Data) -> Table:
    first, second = (_twin(folder, name, language) for language in cfg.languages or ())
    sources, targets = _lines(first, cfg.encoding), _lines(second, cfg.encoding)
    if len(sources) != len(targets):
        raise DataError(
            f"{first} has {len(sources)} lines, {second.name} has {len(targets)}",
            "line n of one must be the translation of line n of the other",
        )
    return Table(
        kind="text",
        inputs=[line if line.strip() else None for line in sources],
        labels=[line if line.strip() else None for line in targets],
        places=[f"line {i + 1} of {first}" for i in range(len(sources))],
        facts={"path": str(first)},
        form="pairs",
    )


def _twin(folder: Path, name: str, language: str) -> Path:
    for ending in ("", ".gz"):
        path = folder / f"{name}.{language}{ending}"
        if path.is_file():
            return path
    raise DataError(f"{folder} has no {name}.{language} or {name}.{language}.gz", "both languages are needed")


def _lines(path: Path, encoding: str) -> list[str]:
    """Split at line feeds alone: other separators stand inside sentences, and would shift one side."""
    return [line.removesuffix("\r") for line in read_text(path, encoding).removesuffix("\n").split("\n")]
