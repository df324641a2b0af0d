"""Sessions that answer with tokens, without a model: what measuring sequences asks of a runtime (runtimes.decode)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from lessen.data import Split, Splits
from lessen.data.sequences import Blocks, Pairs, cut
from lessen.info import ModelInfo
from lessen.recipe import Data
from lessen.runtimes import decode

Array = np.ndarray[Any, Any]


class Bigram:
    """A language model whose next token depends on the last one alone.

    Args:
        table: logits [V, V], of the next token by the last.
    """

    def __init__(self, table: Array) -> None:
        self.table = np.asarray(table, dtype=np.float32)
        self.vocab = self.table.shape[1]

    def logits(self, batch: dict[str, Array]) -> Array:
        return self.table[batch.get("decoder_input_ids", batch["input_ids"])]

    def score(self, batch: dict[str, Array]) -> tuple[Array, Array]:
        return decode.scored(self.logits(batch), batch["targets"])

    def start(self, batch: dict[str, Array]) -> tuple[Array, Any]:
        return self.table[batch["input_ids"][:, -1]], None

    def step(self, state: Any, ids: Array) -> tuple[Array, Any]:
        return self.table[ids], None

    def reorder(self, state: Any, rows: Array) -> Any:
        return state


class Copier:
    """A sequence to sequence model that says its source, but every `wrong`-th token, counted over the source's ids.

    Args:
        sure: logit of the token it would say.
        wrong: source token ids divisible by it are said as the next id; 0: none.
    """

    def __init__(self, vocab: int, *, sure: float = 6.0, wrong: int = 0) -> None:
        self.vocab, self.sure, self.wrong = vocab, sure, wrong

    def _said(self, batch: dict[str, Array]) -> Array:
        ids = batch["input_ids"]
        keep = (ids % self.wrong != 0) | (ids < 3) if self.wrong else np.ones(ids.shape, dtype=bool)
        return np.where(keep, ids, (ids + 1) % self.vocab)

    def _at(self, said: Array, position: int) -> Array:
        logits = np.zeros((len(said), self.vocab), dtype=np.float32)
        logits[np.arange(len(said)), said[:, min(position, said.shape[1] - 1)]] = self.sure
        return logits

    def logits(self, batch: dict[str, Array]) -> Array:
        said = self._said(batch)
        return np.stack([self._at(said, t) for t in range(batch["decoder_input_ids"].shape[1])], axis=1)

    def score(self, batch: dict[str, Array]) -> tuple[Array, Array]:
        return decode.scored(self.logits(batch), batch["targets"])

    def start(self, batch: dict[str, Array]) -> tuple[Array, Any]:
        said = self._said(batch)
        return self._at(said, 0), (said, 1)

    def step(self, state: Any, ids: Array) -> tuple[Array, Any]:
        said, at = state
        return self._at(said, at), (said, at + 1)

    def reorder(self, state: Any, rows: Array) -> Any:
        return state[0][rows], state[1]


def blocks(documents: list[list[int]], *, block: int = 64, counted: list[list[bool]] | None = None) -> Blocks:
    """Return documents of given tokens as a language model reads them, each piece a row."""
    pieces, masks, owner = [], [], []
    for at, tokens in enumerate(documents):
        mask = counted[at] if counted else [True] * (len(tokens) - 1)
        for piece, part in cut(np.asarray(tokens, dtype=np.int32), np.asarray(mask), block):
            pieces.append(piece)
            masks.append(part)
            owner.append(at)
    processor: Any = SimpleNamespace(pad_id=0)
    ids = np.asarray([f"p{i}" for i in range(len(pieces))])
    rows = [(i,) for i in range(len(pieces))]
    return Blocks(processor, pieces, masks, ids, np.asarray(owner), rows, block)


def artifact(session: Any, processor: Any, task: str, labels: tuple[str, ...] = ()) -> Any:
    """Return what measuring asks of an artifact, answered by a session."""
    info = ModelInfo.model_validate({"family": "f", "task": task, "source": "s", "labels": labels})
    manifest = SimpleNamespace(runtime="test")
    return SimpleNamespace(open=lambda device: session, processor=processor, info=info, manifest=manifest)


def splits(task: str, inputs: list[str], labels: Any, words: tuple[str, ...] = (), **more: Any) -> Splits:
    """Return the same samples as every part."""
    ids = np.asarray([f"{i:016x}" for i in range(len(inputs))])
    whole = {part: Split(part, ids, inputs, labels) for part in ("train", "validation", "test")}
    settings = Data(max_length=48, max_target_length=48)
    return Splits(task, words, False, **whole, facts={}, digest="d", settings=settings, **more)


def objects(values: list[Any]) -> Array:
    """Return an array of Python objects, tuples among them."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def pairs_of(processor: Any, sources: list[list[int]], targets: list[list[int]]) -> Pairs:
    """Return pairs of given tokens."""
    made = [[np.asarray(ids, dtype=np.int32) for ids in side] for side in (sources, targets)]
    n = len(sources)
    return Pairs(processor, made[0], made[1], np.asarray([f"{i}" for i in range(n)]), np.full(n, -1), 0)
