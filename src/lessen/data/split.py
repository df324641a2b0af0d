"""Train, validation and test: disjoint by content, stratified, and decided by hashes.

Which split a row falls into depends on its content and the seed, not on the order of the file: the rows of a class
are ordered by SHA-256 of seed and id, the first go to test, the next to validation, the rest to train. A smaller
`fraction` is a subset of a larger one.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lessen import recipe
from lessen.data.clean import Clean
from lessen.data.table import PARTS, Label
from lessen.errors import DataError

Array = np.ndarray[Any, Any]
MIXED = "rows of rare label combinations"


@dataclass(frozen=True, eq=False)
class Split:
    """Samples of one split.

    Attributes:
        name: train, validation, test, or that of a held-out text.
        ids: content hashes, 16 hex digits, unique.
        inputs: texts, or uint8 RGB images [height, width, 3] that are decoded on access; seq2seq: sources with their
            prefix; causal-lm: documents.
        labels: int64 [n], or float32 0/1 [n, labels] where several labels hold at once; seq2seq: object [n] of target
            strings, or int64 [n] where `Splits.labels` are the words to answer; causal-lm: object [n] of tuples of
            (start, end), the characters that are learned, () for all.
    """

    name: str
    ids: Array
    inputs: Sequence[Any]
    labels: Array

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.ids)

    def take(self, rows: Any) -> Split:
        """Return these samples, in this order."""
        at = np.arange(len(self))[np.asarray(rows)] if len(rows) else np.zeros(0, dtype=np.int64)
        pick = getattr(self.inputs, "take", None)
        inputs = pick(at.tolist()) if pick is not None else [self.inputs[i] for i in at.tolist()]
        return Split(self.name, self.ids[at], inputs, self.labels[at])


@dataclass(frozen=True, eq=False)
class Splits:
    """The data of a run.

    Attributes:
        labels: class names in the order of the model's outputs; seq2seq: the words that stand for them, if any.
        facts: for the report: source, rows read, what was dropped, counts per class and split, digests.
        digest: SHA-256 of ids and labels of all splits, in order, held-out texts included.
        settings: what the data were read with.
        held_out: causal-lm: further documents by name, which only measuring reads.
    """

    task: str
    labels: tuple[str, ...]
    multi_label: bool
    train: Split
    validation: Split
    test: Split
    facts: dict[str, Any]
    digest: str
    settings: recipe.Data = field(default_factory=recipe.Data)
    held_out: dict[str, Split] = field(default_factory=dict)


def assign(rows: Clean, cfg: recipe.Data, seed: int) -> dict[str, list[int]]:
    """Return the rows of train, validation and test.

    Rows whose part the source gives stay there; what is missing is carved from the others. `validation_frac` and
    `test_frac` are shares of the rows that are carved, per class where stratified. With folds, every row is tested
    in exactly one fold.

    Raises:
        DataError: a class has too few rows.
    """
    given = {part: [i for i, p in enumerate(rows.parts) if p == part] for part in PARTS}
    pool = [i for i, p in enumerate(rows.parts) if p in ("", "train")]
    if cfg.folds > 1 and (given["validation"] or given["test"]):
        raise DataError(
            f"data.folds is {cfg.folds} and the data has its own validation or test part; folds are cut from one table",
            "set data.folds to 1, or give the table alone",
        )
    out: dict[str, list[int]] = {part: [] for part in PARTS}
    carve = tuple(part for part in ("test", "validation") if not given[part])
    for number, (name, members) in enumerate(_strata(rows.labels, pool, cfg, _least(cfg, len(carve))).items()):
        _check_size(name, len(members), cfg, len(carve))
        for part, chosen in _carve(by_hash(members, rows.ids, seed), number, carve, cfg).items():
            out[part] += _fraction(chosen, cfg.fraction)
    for part in ("validation", "test"):
        for members in _grouped(rows.labels, given[part]).values():
            out[part] += _fraction(by_hash(members, rows.ids, seed), cfg.fraction)
    return {part: by_hash(chosen, rows.ids, seed) for part, chosen in out.items()}


def by_hash(members: Sequence[int], ids: Sequence[str], seed: int) -> list[int]:
    """Return rows in the order of SHA-256(seed:id)."""
    return sorted(members, key=lambda i: hashlib.sha256(f"{seed}:{ids[i]}".encode()).digest())


def _carve(ordered: list[int], number: int, carve: Sequence[str], cfg: recipe.Data) -> dict[str, list[int]]:
    """Cut the ordered rows of one stratum; at least one row goes to every part."""
    n = len(ordered)
    sizes = {"test": round(cfg.test_frac * n), "validation": round(cfg.validation_frac * n)}
    rest, out = ordered, {}
    if cfg.folds > 1:
        fold = cfg.fold or 0
        out["test"] = [row for rank, row in enumerate(ordered) if (rank + number) % cfg.folds == fold]
        rest = [row for rank, row in enumerate(ordered) if (rank + number) % cfg.folds != fold]
        carve = ("validation",)
    for done, part in enumerate(carve):
        still = len(carve) - done  # parts to fill after this one, train included
        size = max(1, min(sizes[part], len(rest) - still))
        out[part], rest = rest[:size], rest[size:]
    return {**out, "train": rest}


def _fraction(ordered: list[int], share: float) -> list[int]:
    """Return the first rows of a stratum's part: a smaller share is a subset of a larger one."""
    return ordered[: max(1, round(share * len(ordered)))]


def _strata(labels: Sequence[Label], pool: Sequence[int], cfg: recipe.Data, least: int) -> dict[str, list[int]]:
    """Group rows by what is to be spread evenly: the class, or the combination of labels where it is frequent."""
    if not cfg.stratify:
        return {"all": list(pool)}
    groups = _grouped(labels, pool)
    if not any(isinstance(label, tuple) for label in groups):
        return {str(label): members for label, members in groups.items()}
    common = {str(label): members for label, members in groups.items() if len(members) >= least}
    rare = [row for label, members in groups.items() if str(label) not in common for row in members]
    if rare and len(rare) < least and common:  # too few to spread: they go with the most frequent combination
        largest = max(common, key=lambda name: len(common[name]))
        common[largest] = common[largest] + rare
        return common
    return {**common, MIXED: rare} if rare else common


def _grouped(labels: Sequence[Label], members: Sequence[int]) -> dict[Label, list[int]]:
    groups: dict[Label, list[int]] = defaultdict(list)
    for row in members:
        groups[labels[row]].append(row)
    return {label: groups[label] for label in sorted(groups, key=str)}


def _least(cfg: recipe.Data, carved: int) -> int:
    """Return the rows that a class needs, so that each part holds one of it (folds: train and validation two)."""
    return max(cfg.folds, 3 if cfg.folds > 2 else 4) if cfg.folds > 1 else 1 + carved


def _check_size(name: str, there: int, cfg: recipe.Data, carved: int) -> None:
    need = _least(cfg, carved)
    if there >= need:
        return
    what = "the data" if not cfg.stratify else name if name == MIXED else f"class {name!r}"
    aim = f"{cfg.folds} folds" if cfg.folds > 1 else "a train, validation and test split"
    raise DataError(
        f"{what} has {there} rows after duplicates were removed; {need} are needed for {aim}",
        "add rows, remove the class, or give separate validation and test files",
    )
