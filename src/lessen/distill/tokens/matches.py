"""Rows of a student and of a teacher with another tokenizer, matched span by span; see align.py."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lessen.data.sequences import Blocks
from lessen.distill.tokens.align import align, ended
from lessen.distill.tokens.words import Vocabularies, byte_offsets, token_bytes, vocabularies
from lessen.errors import ModelError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Match:
    """What a batch of the student compares with the teacher, span by span.

    Attributes:
        pieces: the teacher's pieces to read, rows of `Matches.teacher`.
        student: (row of the batch, position) that predicts each span's first token, int64 [n, 2].
        teacher: (index in `pieces`, position), int64 [n, 2].
        exact: whether the span is the same shared token on both sides, bool [n].
    """

    pieces: Array
    student: Array
    teacher: Array
    exact: Array


@dataclass(frozen=True, eq=False)
class Matches:
    """All spans of the documents of a split that both sides predict.

    Attributes:
        student: the student's rows.
        teacher: the teacher's pieces, one to a row.
        words: what the vocabularies share.
        spans: of each of the student's pieces: position, teacher's piece, its position, exact; int64 [n, 4].
        facts: spans, how many are exact, and the share of the student's supervised tokens that start one.
    """

    student: Blocks
    teacher: Blocks
    words: Vocabularies
    spans: Sequence[Array]
    facts: dict[str, Any]

    def of(self, rows: Array) -> Match:
        """Return what `student.batch(rows)` compares."""
        parts = [np.zeros((0, 5), dtype=np.int64)]
        for number, row in enumerate(rows):
            at = 0
            for piece in self.student.rows[int(row)]:
                spans = np.pad(self.spans[piece], ((0, 0), (1, 0)), constant_values=number)
                spans[:, 1] += at
                parts.append(spans)
                at += len(self.student.pieces[piece]) - 1
        whole = np.concatenate(parts)
        pieces, index = np.unique(whole[:, 2], return_inverse=True)
        return Match(pieces, whole[:, :2], np.stack([index, whole[:, 3]], axis=1), whole[:, 4].astype(bool))


def match(student: Blocks, teacher: Blocks, texts: Sequence[str]) -> Matches:
    """Match two encodings of the same documents.

    Args:
        student, teacher: of the same split; documents whole, each with a start and an end token.
        texts: the documents.

    Raises:
        ModelError: the tokenizers are the same, share nothing or do not give the text back; or pieces of documents
            were left out because nothing in them is learned.
    """
    words = vocabularies(teacher.processor, student.processor)
    sides = [_Side(blocks, texts) for blocks in (student, teacher)]
    spans: list[list[Array]] = [[] for _ in student.pieces]
    for number in range(len(texts)):
        if not all(number in side.pieces for side in sides):
            continue  # nothing in it is learned
        (ours, our_ids), (theirs, their_ids) = (side.document(number) for side in sides)
        found = align(theirs, ours)
        firsts = found.student[:, 0], found.teacher[:, 0]
        exact = found.single & words.same(our_ids[firsts[0]], their_ids[firsts[1]])
        (piece, position, counted), (piece_t, position_t, counted_t) = (
            side.places(number, first) for side, first in zip(sides, firsts, strict=True)
        )
        table = np.stack([position, piece_t, position_t, exact], axis=1)
        for which in np.unique(piece):
            spans[which].append(table[(piece == which) & counted & counted_t])
    whole = [np.concatenate([np.zeros((0, 4), dtype=np.int64), *parts]) for parts in spans]
    total, exact_total = sum(map(len, whole)), sum(int(part[:, 3].sum()) for part in whole)
    facts = {
        "spans": total,
        "exact": exact_total,
        "shared_tokens": len(words.student),
        "student_tokens_compared": total / max(1, int(student.tokens.sum())),
    }
    return Matches(student, teacher.alone(), words, whole, facts)


class _Side:
    """One tokenizer's documents."""

    def __init__(self, blocks: Blocks, texts: Sequence[str]) -> None:
        self.blocks, self.texts = blocks, texts
        self.bytes = token_bytes(blocks.processor)
        self.pieces: dict[int, list[int]] = {}
        for piece, document in enumerate(blocks.document.tolist()):
            self.pieces.setdefault(document, []).append(piece)

    def document(self, number: int) -> tuple[Array, Array]:
        """Return byte offsets and ids of a document's tokens, the end token last."""
        parts = [self.blocks.pieces[piece] for piece in self.pieces[number]]
        if any(a[-1] != b[0] for a, b in itertools.pairwise(parts)):
            raise _incomplete(number)
        ids = np.concatenate([part[1:] for part in parts])
        end = getattr(self.blocks.processor, "eos_id", None)
        if not len(ids) or ids[-1] != end:
            raise _incomplete(number)
        return ended(byte_offsets(ids[:-1], self.bytes, self.texts[number])), ids

    def places(self, number: int, tokens: Array) -> tuple[Array, Array, Array]:
        """Return the piece and the position that predict tokens of a document, and whether that counts."""
        pieces = np.asarray(self.pieces[number])
        starts = np.cumsum([0, *(len(self.blocks.pieces[p]) - 1 for p in pieces)])
        which = np.searchsorted(starts, tokens, side="right") - 1
        position = tokens - starts[which]
        counted = [bool(self.blocks.counted[p][at]) for p, at in zip(pieces[which], position, strict=True)]
        return pieces[which], position, np.asarray(counted, dtype=bool)


def _incomplete(number: int) -> ModelError:
    return ModelError(
        f"document {number + 1} is not whole: some of its pieces were left out, since nothing in them is learned",
        "use data.supervise all with cross_tokenizer align",
    )
