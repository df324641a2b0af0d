"""What is looked up in a cache of token targets: the pieces of documents (Blocks), or pairs (Pairs). Imports no torch.

A piece alone and the same piece in a packed row have the same answers, since pieces never attend to each other and
positions start at 0 in each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lessen.data.sequences import Blocks, Pairs

Array = np.ndarray[Any, Any]
Data = Pairs | Blocks


@dataclass(frozen=True)
class Pieces:
    """The pieces of data, by index.

    Attributes:
        keys: what each is found by: its id and a hash of what is read and predicted, bytes [pieces].
        ids: content hashes.
        tokens: supervised positions, int64.
        lengths: tokens that the teacher reads, int64.
    """

    keys: Array
    ids: Array
    tokens: Array
    lengths: Array


def pieces_of(data: Data) -> Pieces:
    """Return the pieces of Blocks, or the pairs of Pairs."""
    if isinstance(data, Blocks):
        ids = np.asarray(data.piece_ids)
        read = ([p, c] for p, c in zip(data.pieces, data.counted, strict=True))
        tokens = np.asarray([int(counted.sum()) for counted in data.counted], dtype=np.int64)
        lengths = np.asarray([len(piece) - 1 for piece in data.pieces], dtype=np.int64)
    else:
        ids, tokens, lengths = np.asarray(data.ids), data.tokens, data.lengths
        start = np.asarray([data.start_id])
        read = ([s, t, start] for s, t in zip(data.sources, data.targets, strict=True))
    keys = [f"{i}-{_hash(arrays)}".encode() for i, arrays in zip(ids, read, strict=True)]
    return Pieces(np.asarray(keys, dtype=np.bytes_), ids, tokens, lengths)


def alone(data: Data) -> Data:
    """Return the data with one piece to a row."""
    return data.alone() if isinstance(data, Blocks) else data


def of_rows(data: Data, rows: Array) -> Array:
    """Return the pieces of rows, in the order in which `data.batch(rows)` reads them."""
    if isinstance(data, Blocks):
        return np.asarray([piece for row in rows for piece in data.rows[int(row)]], dtype=np.int64)
    return np.asarray(rows, dtype=np.int64)


def shards(order: Array, tokens: Array, most: int) -> Iterator[Array]:
    """Cut pieces into groups of about `most` supervised positions; the last of a group may reach over."""
    if len(order):
        number = np.concatenate([[0], np.cumsum(tokens[order])[:-1] // most])
        yield from np.split(order, np.flatnonzero(np.diff(number)) + 1)


def batches(order: Array, lengths: Array, most: int) -> Iterator[Array]:
    """Cut pieces, shortest first, into batches of at most `most` tokens with their padding, or of one piece."""
    start = 0
    while start < len(order):
        size = 1
        while start + size < len(order) and lengths[order[start + size]] * (size + 1) <= most:
            size += 1
        yield order[start : start + size]
        start += size


def _hash(arrays: list[Array]) -> str:
    whole = hashlib.blake2b(digest_size=12)
    for array in arrays:
        whole.update(len(array).to_bytes(4, "little"))
        whole.update(np.ascontiguousarray(array, dtype=np.int32).tobytes())
    return whole.hexdigest()
