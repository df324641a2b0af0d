"""Data of tasks that generate: pairs and documents, each content once, no content in two splits.

Of pairs, the source decides: of those with the same source (after NFC and collapsing of white space) one stays, the
first by content, whatever its target; translations differ and none is wrong. Of documents, the text decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lessen import recipe
from lessen.context import digest
from lessen.data import auto
from lessen.data.clean import ID_DIGITS, Clean, normal_form, remove_leaks
from lessen.data.split import Split, Splits, assign
from lessen.data.table import PARTS, Table
from lessen.errors import DataError

RESERVED = (*PARTS, "")


def load(table: Table, cfg: recipe.Data, task: str, seed: int) -> Splits:
    """Clean and split a table of pairs or documents; see `lessen.data.load`.

    Raises:
        DataError: too few rows stay, or a held-out text cannot be read.
    """
    if cfg.label_words and table.form == "pairs":
        raise DataError("data.label_words is given, and the data has targets, not labels", "leave one of the two out")
    if cfg.prefix and table.form == "documents":
        raise DataError(f"data.prefix is {cfg.prefix!r}, task is {task}", "a prefix is put before sources of seq2seq")
    if table.form == "documents" and cfg.supervise == "response" and not any(table.spans or ()):
        name = table.facts.get("path", "the data")
        raise DataError(f"data.supervise is response, and {name} has no responses", "set data.supervise to all")
    rows, chosen = _clean(table)
    at = assign(rows, cfg.model_copy(update={"stratify": False}), seed)
    held_out = {name: _held_out(name, path, cfg, task) for name, path in cfg.held_out.items()}
    seen = {normal_form(text) for split in held_out.values() for text in split.inputs}
    train = [i for i in at["train"] if normal_form(rows.inputs[i]) not in seen] if seen else at["train"]
    facts = {**table.facts, **rows.facts, "held_out_removed_from_train": len(at["train"]) - len(train)}
    at["train"] = train
    splits = {part: _split(part, table, [chosen[i] for i in at[part]], cfg.prefix) for part in PARTS}
    for part, split in splits.items():
        if not len(split):
            raise DataError(f"the {part} split has no rows after cleaning", "give more rows")
    return _splits(splits, held_out, cfg, task, seed, facts)


def worded(splits: Splits, cfg: recipe.Data) -> Splits:
    """Return labelled texts as sources whose target is a word for their label.

    Args:
        splits: of the classification; `labels` are the class names.

    Raises:
        DataError: several labels hold at once, or two labels would have the same word.
    """
    if splits.multi_label:
        raise DataError("data.label_columns is given, task is seq2seq", "give one label a row")
    unknown = [name for name in cfg.label_words if name not in splits.labels]
    if unknown:
        raise DataError(
            f"data.label_words has {unknown[0]!r}; the labels are {', '.join(splits.labels)}", "name labels there are"
        )
    words = tuple(cfg.label_words.get(name, name) for name in splits.labels)
    if len({word.strip() for word in words}) < len(words) or not all(word.strip() for word in words):
        raise DataError(f"the label words are {', '.join(map(repr, words))}", "give each label a word of its own")
    parts = {}
    for part in PARTS:
        split: Split = getattr(splits, part)
        inputs = [cfg.prefix + text for text in split.inputs]
        ids = [pair_id(text, words[k]) for text, k in zip(inputs, split.labels.tolist(), strict=True)]
        parts[part] = replace(split, inputs=inputs, ids=_ids(ids))
    per_class = {
        part: {words[splits.labels.index(name)]: n for name, n in counts.items()}
        for part, counts in splits.facts["rows_per_class"].items()
    }
    facts = {**splits.facts, "classes": list(splits.labels), "labels": list(words), "rows_per_class": per_class}
    digests = _digests(parts)
    whole = digest({"task": "seq2seq", "labels": words, "multi_label": False, **digests})
    facts |= {**_sizes(parts), "digests": digests, "digest": whole}
    return Splits("seq2seq", words, False, parts["train"], parts["validation"], parts["test"], facts, whole, cfg)


def pair_id(source: str, target: str) -> str:
    """Return the content hash of a pair, 16 hex digits."""
    return hashlib.sha256(f"{len(source)}:{source}{target}".encode()).hexdigest()[:ID_DIGITS]


def _clean(table: Table) -> tuple[Clean, list[int]]:
    """Return the rows that stay, each content once, and where they stand in the table."""
    kept = _present(table)
    parts = table.parts or [""] * len(table)
    groups: dict[str, dict[str, list[int]]] = {}
    for row in kept:
        groups.setdefault(parts[row], {}).setdefault(normal_form(table.inputs[row]), []).append(row)
    settled = {
        part: {key: (min(rows, key=lambda row: (*_content(table, row), row)), "") for key, rows in found.items()}
        for part, found in groups.items()
    }
    leaked = remove_leaks(settled)
    chosen = sorted(row for found in settled.values() for row, _ in found.values())
    once = [rows for found in groups.values() for rows in found.values()]
    facts = {
        "rows_read": len(table),
        "missing_dropped": len(table) - len(kept),
        "duplicates_removed": len(kept) - len(once),
        "removed_from_train": leaked["train"],
        "removed_from_validation": leaked["validation"],
        "rows_used": len(chosen),
    }
    if table.form == "pairs":
        facts["sources_with_several_targets"] = sum(len({table.labels[row] for row in rows}) > 1 for rows in once)
    rows = Clean(
        inputs=[table.inputs[row] for row in chosen],
        labels=[""] * len(chosen),
        ids=[_id(table, row) for row in chosen],
        places=[table.places[row] for row in chosen],
        parts=[parts[row] for row in chosen],
        facts=facts,
    )
    return rows, chosen


def _present(table: Table) -> list[int]:
    name = table.facts.get("path", "the data")
    if not len(table):
        raise DataError(f"{name} has no rows", "give a file with rows")
    cells = enumerate(zip(table.inputs, table.labels, strict=True))
    kept = [row for row, (x, y) in cells if x is not None and y is not None]
    if kept:
        return kept
    if table.form == "pairs":
        raise DataError(f"no row of {name} has both source and target", "check the columns")
    raise DataError(f"every document of {name} is empty, or has no response to learn", "check the columns")


def _content(table: Table, row: int) -> tuple[str, str]:
    spans = table.spans[row] if table.spans is not None else ()
    return str(table.inputs[row]), str(table.labels[row]) if table.form == "pairs" else str(spans or "")


def _id(table: Table, row: int, prefix: str = "") -> str:
    first, second = _content(table, row)
    return pair_id(prefix + first, second)


def _split(part: str, table: Table, rows: Sequence[int], prefix: str) -> Split:
    if table.form == "pairs":
        labels = _objects([table.labels[row] for row in rows])
    else:
        labels = _objects([table.spans[row] if table.spans is not None else () for row in rows])
    ids = _ids([_id(table, row, prefix) for row in rows])
    return Split(part, ids, [prefix + table.inputs[row] for row in rows], labels)


def _ids(ids: Sequence[str]) -> np.ndarray[Any, Any]:
    return np.asarray(ids, dtype=f"<U{ID_DIGITS}")


def _objects(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Return an object array of values that numpy would otherwise take apart."""
    out = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        out[i] = value
    return out


def _held_out(name: str, path: str, cfg: recipe.Data, task: str) -> Split:
    """Read all documents of a held-out text, repeated ones too: its score is that of the whole file."""
    from lessen.data.sources import text

    if task != "causal-lm":
        raise DataError(f"data.held_out has {name!r}, task is {task}", "held-out texts are for causal-lm")
    if name in RESERVED:
        raise DataError(f"data.held_out has a text named {name!r}", "give it another name, such as wikitext")
    asked = cfg.model_copy(update={"path": path, "documents": "auto", "supervise": "all"})
    table = text.read(asked, task)
    if not len(table):
        raise DataError(f"the held-out text {path} has no documents", "check data.held_out")
    times: dict[str, int] = {}
    ids = []
    for document in table.inputs:
        times[document] = times.get(document, 0) + 1
        ids.append(pair_id(document, "" if times[document] == 1 else f"#{times[document]}"))
    return Split(name, _ids(ids), list(table.inputs), _objects([()] * len(table)))


def _splits(
    splits: dict[str, Split], held_out: dict[str, Split], cfg: recipe.Data, task: str, seed: int, facts: dict[str, Any]
) -> Splits:
    every = {**splits, **held_out}
    digests = _digests(every)
    whole = digest({"task": task, "labels": [], "held_out": sorted(held_out), **digests})
    facts = {
        "source": cfg.source if cfg.source != "auto" else auto.choose(cfg, task),
        **facts,
        "fraction": cfg.fraction,
        "seed": seed,
        "held_out": dict(cfg.held_out),
        **_sizes(every),
        "digests": digests,
        "digest": whole,
    }
    return Splits(task, (), False, splits["train"], splits["validation"], splits["test"], facts, whole, cfg, held_out)


def _digests(splits: dict[str, Split]) -> dict[str, str]:
    return {part: digest({"ids": s.ids.tolist(), "labels": s.labels.tolist()}) for part, s in splits.items()}


def _sizes(splits: dict[str, Split]) -> dict[str, dict[str, int]]:
    """Return rows, characters and UTF-8 bytes of each split; of pairs, those of source and target together."""
    texts = {part: [*s.inputs, *(x for x in s.labels.tolist() if isinstance(x, str))] for part, s in splits.items()}
    return {
        "rows": {part: len(split) for part, split in splits.items()},
        "characters": {part: sum(map(len, found)) for part, found in texts.items()},
        "bytes": {part: sum(len(text.encode()) for text in found) for part, found in texts.items()},
    }
