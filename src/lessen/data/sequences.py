"""Sequences as a model reads them: source and target pairs, and documents packed into rows. Imports no torch.

The shift of a language model is made here and nowhere else: `targets[t]` is the token that position t predicts, or
IGNORE where nothing is to be predicted (padding, prompts, the end of a piece).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lessen.processors import TextProcessor

Array = np.ndarray[Any, Any]
IGNORE = -100


@dataclass(frozen=True, eq=False)
class Pairs:
    """Sources and targets of a sequence-to-sequence task.

    Attributes:
        sources: int32 token ids of each source, special tokens included.
        targets: int32 token ids of each target, its end token included.
        ids: content hashes, one per pair.
        labels: the target's class where the targets are label words, else -1, int64 [n].
        start_id: what the decoder reads first.
    """

    processor: TextProcessor
    sources: Sequence[Array]
    targets: Sequence[Array]
    ids: Array
    labels: Array
    start_id: int
    augment: str = "none"

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.ids)

    @cached_property
    def lengths(self) -> Array:
        """Tokens of source and target together: what rows are bucketed by."""
        return np.asarray([len(s) + len(t) for s, t in zip(self.sources, self.targets, strict=True)], dtype=np.int64)

    @cached_property
    def tokens(self) -> Array:
        """Supervised tokens of each pair."""
        return np.asarray([len(t) for t in self.targets], dtype=np.int64)

    def batch(self, rows: Array, view: int | None = None) -> dict[str, Array]:
        """Return input_ids and attention_mask [b, s], decoder_input_ids and targets [b, t], all int64."""
        inputs = self.processor.collate([self.sources[int(r)] for r in rows])
        targets = [self.targets[int(r)] for r in rows]
        width = max(len(t) for t in targets)
        read = np.full((len(rows), width), self.processor.pad_id, dtype=np.int64)
        said = np.full((len(rows), width), IGNORE, dtype=np.int64)
        for at, target in enumerate(targets):
            said[at, : len(target)] = target
            read[at, : len(target)] = [self.start_id, *target[:-1]]
        return {**inputs, "decoder_input_ids": read, "targets": said}


@dataclass(frozen=True, eq=False)
class Blocks:
    """Documents of a language model, cut into pieces, several pieces to a row.

    A piece of L + 1 tokens has L positions: position t reads token t and predicts token t + 1. Neighbouring pieces of a
    document share one token, so that each of its tokens is predicted once. Pieces never attend to each other, and
    positions start at 0 in each, so that a packed row computes what its pieces compute alone.

    Attributes:
        pieces: int32 token ids [L + 1] of each piece.
        counted: bool [L] of each piece: whether the prediction of a position counts.
        piece_ids: content hashes, one per piece; the same content always has the same.
        document: index of the document (row of the split) of each piece.
        rows: pieces of each row, by index.
        block: positions of a row at most.
    """

    processor: TextProcessor
    pieces: Sequence[Array]
    counted: Sequence[Array]
    piece_ids: Array
    document: Array
    rows: Sequence[tuple[int, ...]]
    block: int
    augment: str = "none"

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    @property
    def ids(self) -> Array:
        """The first piece's id of each row, for messages."""
        return np.asarray([self.piece_ids[row[0]] for row in self.rows])

    @property
    def labels(self) -> Array:
        """No labels: -1 for each row."""
        return np.full(len(self), -1, dtype=np.int64)

    @cached_property
    def lengths(self) -> Array:
        """Positions of each row."""
        return np.asarray([sum(len(self.pieces[p]) - 1 for p in row) for row in self.rows], dtype=np.int64)

    @cached_property
    def tokens(self) -> Array:
        """Supervised tokens of each row."""
        return np.asarray([sum(int(self.counted[p].sum()) for p in row) for row in self.rows], dtype=np.int64)

    def batch(self, rows: Array, view: int | None = None) -> dict[str, Array]:
        """Return the inputs of rows, padded on the right, and their targets.

        Returns:
            input_ids, position_ids, targets: int64 [b, t]; attention_mask: int64 [b, t] where each row is one piece,
            else bool [b, 1, t, t], true where a position may attend (a padding position only to itself).
        """
        chosen = [self.rows[int(r)] for r in rows]
        width = int(self.lengths[np.asarray(rows, dtype=np.int64)].max())
        ids = np.full((len(chosen), width), self.processor.pad_id, dtype=np.int64)
        positions = np.zeros((len(chosen), width), dtype=np.int64)
        segments = np.zeros((len(chosen), width), dtype=np.int64)
        targets = np.full((len(chosen), width), IGNORE, dtype=np.int64)
        for row, pieces in enumerate(chosen):
            at = 0
            for number, piece in enumerate(pieces, start=1):
                tokens, counted = self.pieces[piece], self.counted[piece]
                span = slice(at, at + len(tokens) - 1)
                ids[row, span] = tokens[:-1]
                positions[row, span] = np.arange(len(tokens) - 1)
                segments[row, span] = number
                targets[row, span] = np.where(counted, tokens[1:], IGNORE)
                at = span.stop
        mask = (segments > 0).astype(np.int64)
        if any(len(pieces) > 1 for pieces in chosen):
            mask = attends(segments)
        return {"input_ids": ids, "position_ids": positions, "attention_mask": mask, "targets": targets}

    def alone(self) -> Blocks:
        """Return the same pieces, one to a row."""
        rows = [(p,) for p in range(len(self.pieces))]
        return Blocks(
            self.processor, self.pieces, self.counted, self.piece_ids, self.document, rows, self.block, self.augment
        )


def attends(segments: Array) -> Array:
    """Return which positions attend to which, bool [b, 1, t, t]: earlier ones of the same segment, and oneself.

    Args:
        segments: number of each position's piece, 0 for padding, [b, t].
    """
    width = segments.shape[1]
    same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] > 0)
    causal = np.tril(np.ones((width, width), dtype=bool))
    itself = np.eye(width, dtype=bool)
    return np.asarray(((same & causal) | itself)[:, None])


def cut(tokens: Array, counted: Array, block: int) -> list[tuple[Array, Array]]:
    """Return the pieces of a document: (tokens [L + 1], counted [L]) with L at most `block`.

    Args:
        tokens: int32 [n + 1] of the document, from its start token.
        counted: bool [n]: whether token t + 1 counts.
    """
    starts = range(0, len(tokens) - 1, block)
    pieces = [(tokens[at : at + block + 1], counted[at : at + block]) for at in starts]
    return [(piece, mask) for piece, mask in pieces if mask.any()]


def pack(lengths: Sequence[int], block: int) -> list[tuple[int, ...]]:
    """Return rows of pieces whose lengths add up to at most `block`: first fit, longest first; every piece once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    rows: list[list[int]] = []
    room: dict[int, list[int]] = {}  # free positions -> rows with exactly that
    for piece in order:
        free = next((f for f in range(lengths[piece], block + 1) if room.get(f)), None)
        row = room[free].pop() if free is not None else len(rows)
        if free is None:
            rows.append([])
        rows[row].append(piece)
        room.setdefault((block if free is None else free) - lengths[piece], []).append(row)
    return [tuple(row) for row in rows]
