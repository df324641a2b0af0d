"""Texts of tasks that generate, as token ids: pairs, documents in pieces, and the prompts that generating starts from.

Imports no torch. Tokens are kept on disk by content: of the tokenizer, of the texts, and of what is learned of them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen import recipe
from lessen.context import digest
from lessen.data import cache
from lessen.data.clean import ID_DIGITS
from lessen.data.sequences import Blocks, Pairs, cut, pack
from lessen.data.split import Split, Splits
from lessen.data.table import PARTS, Spans
from lessen.errors import DataError, ModelError, RecipeError

if TYPE_CHECKING:
    from lessen.processors import TextProcessor

Array = np.ndarray[Any, Any]


def sequences_of(
    splits: Splits, part: str | Split, processor: TextProcessor, cache_dir: Path | None, start_id: int | None = None
) -> Pairs | Blocks:
    """Run a part of the data through a tokenizer, or take its tokens from the cache on disk.

    Sources and rows are cut to data.max_length (or the tokenizer's own longest length, where that is less), targets to
    data.max_target_length with their end token; documents are cut into pieces, of which none is lost.

    Args:
        part: train, validation, test, the name of a held-out text, or a split.
        cache_dir: none: nothing is kept.
        start_id: seq2seq: what the decoder reads first; the padding id when absent.

    Raises:
        DataError: there is no such part, or nothing in it is to be predicted.
        ModelError: the tokenizer has no end token.
    """
    split = _part(splits, part)
    if splits.task == "seq2seq":
        return _pairs(split, splits.labels, processor, splits.settings, cache_dir, start_id)
    return _blocks(split, processor, splits.settings, cache_dir)


def prompts_of(
    split: Split, processor: TextProcessor, settings: recipe.Data, prompt_tokens: int
) -> list[tuple[Array, int]]:
    """Return what a model reads before it generates: (int32 ids, index in the split), in the split's order.

    Of pairs, the source as `sequences_of` reads it. Of documents, the start token and the text up to what is learned
    first, or else the first `prompt_tokens` tokens; documents of no more tokens leave nothing to say and are left out.
    A prompt longer than a row keeps its end.

    Raises:
        DataError: no document is long enough.
    """
    if split.labels.dtype != object or not len(split) or isinstance(split.labels[0], str):
        sources = processor.cut_to(_longest(processor, settings)).encode(split.inputs)
        return [(ids, at) for at, ids in enumerate(sources)]
    longest, start = _longest(processor, settings), _start(processor)
    out = []
    for at, (ids, learned) in enumerate(_tokens(split.inputs, split.labels, processor)):
        if split.labels[at]:
            cut_at = int(learned[0])
        elif len(ids) <= prompt_tokens:
            continue
        else:
            cut_at = prompt_tokens
        prompt = np.concatenate([[start], ids[:cut_at]]).astype(np.int32)
        out.append((prompt[-longest:], at))
    if not out:
        raise DataError(
            f"no document of {split.name} has more than {prompt_tokens} tokens", "lower distill.prompt_tokens"
        )
    return out


def document_bytes(split: Split) -> Array:
    """Return the UTF-8 bytes of what is learned (and scored) of each document, int64 [n]."""
    scored = (
        "".join(text[start:end] for start, end in spans) if spans else text
        for text, spans in zip(split.inputs, split.labels, strict=True)
    )
    return np.asarray([len(text.encode()) for text in scored], dtype=np.int64)


def _part(splits: Splits, part: str | Split) -> Split:
    if isinstance(part, Split):
        return part
    if part in splits.held_out:
        return splits.held_out[part]
    if part not in PARTS:
        raise DataError(f"there is no part {part!r}", f"choose one of {', '.join((*PARTS, *splits.held_out))}")
    split: Split = getattr(splits, part)
    return split


def _longest(processor: TextProcessor, settings: recipe.Data) -> int:
    return min(settings.max_length, processor.max_length)


def _end(processor: TextProcessor) -> int:
    if processor.eos_id is None:
        raise ModelError("the tokenizer has no end token", "set eos_token in its tokenizer_config.json")
    return processor.eos_id


def _start(processor: TextProcessor) -> int:
    return processor.bos_id if processor.bos_id is not None else _end(processor)


def _pairs(
    split: Split,
    words: tuple[str, ...],
    processor: TextProcessor,
    settings: recipe.Data,
    cache_dir: Path | None,
    start_id: int | None,
) -> Pairs:
    classes = split.labels.dtype != object
    said = [words[int(k)] for k in split.labels] if classes else [str(target) for target in split.labels]
    longest, most = _longest(processor, settings), settings.max_target_length
    end = _end(processor)
    key = {
        "form": "pairs 1", "processor": processor.digest, "texts": _content([*split.inputs, *said]), "end": end,
        "longest": [longest, most],
    }  # fmt: skip
    n = len(split)

    def encode() -> list[Array]:
        return [*processor.cut_to(longest).encode(split.inputs), *_targets(said, processor, most)]

    items = cache.lists(key, 2 * n, encode, cache_dir)
    labels = np.asarray(split.labels if classes else np.full(n, -1), dtype=np.int64)
    start = processor.pad_id if start_id is None else start_id
    return Pairs(processor, items[:n], items[n:], split.ids, labels, start)


def _targets(texts: Sequence[str], processor: TextProcessor, most: int) -> list[Array]:
    """Return the ids of targets as the tokenizer's template has them; the end token comes last, and survives a cut."""
    end = _end(processor)
    bare = processor.tokenizer.num_special_tokens_to_add(False)
    ends = processor.encode([""])[0][-1:].tolist() == [end]
    room = most if ends else most - 1
    if room <= bare:
        raise RecipeError(
            f"data.max_target_length is {most}; special tokens alone take {most - room + bare}",
            f"give {most - room + bare + 1} or more",
        )
    found = processor.cut_to(room).encode(texts)
    return found if ends else [np.append(ids, np.int32(end)) for ids in found]


def _blocks(split: Split, processor: TextProcessor, settings: recipe.Data, cache_dir: Path | None) -> Blocks:
    start, end, block = _start(processor), _end(processor), _longest(processor, settings)
    key = {
        "form": "documents 1", "processor": processor.digest, "texts": _content(split.inputs),
        "learned": digest(split.labels.tolist()), "ends": [start, end],
    }  # fmt: skip
    n = len(split)

    def encode() -> list[Array]:
        found = _tokens(split.inputs, split.labels, processor)
        return [*(ids for ids, _ in found), *(learned for _, learned in found)]

    items = cache.lists(key, 2 * n, encode, cache_dir)
    pieces: list[tuple[Array, Array]] = []
    document: list[int] = []
    for at, (ids, learned) in enumerate(zip(items[:n], items[n:], strict=True)):
        tokens = np.concatenate([[start], ids, [end]]).astype(np.int32)
        found = cut(tokens, _counted(len(ids), learned), block)
        pieces += found
        document += [at] * len(found)
    if not pieces:
        raise DataError(f"nothing in {split.name} is to be predicted", "check data.supervise")
    ids = np.asarray([_piece_id(piece, counted) for piece, counted in pieces])
    rows = pack([len(piece) - 1 for piece, _ in pieces], block) if settings.pack else [(p,) for p in range(len(pieces))]
    return Blocks(
        processor,
        pieces=[piece for piece, _ in pieces],
        counted=[counted for _, counted in pieces],
        piece_ids=ids,
        document=np.asarray(document, dtype=np.int64),
        rows=rows,
        block=block,
    )


def _tokens(texts: Sequence[str], spans: Iterable[Spans], processor: TextProcessor) -> list[tuple[Array, Array]]:
    """Return each document's ids, and where in them what is learned starts and ends: int32 [start, end, start, ...].

    What is learned is tokenized apart from what is not, so that no token straddles, and a prompt given alone becomes
    the tokens that training saw. Nothing marked (everything is learned): the second is empty.
    """
    parts: list[str] = []
    made: list[tuple[list[int], set[int]]] = []
    for text, marked in zip(texts, spans, strict=True):
        edges = sorted({0, len(text), *(edge for span in marked for edge in span)})
        parts += [text[a:b] for a, b in itertools.pairwise(edges)]
        made.append((edges, {start for start, _ in marked}))
    encoded = iter([ids for ids, _ in processor.tokens(parts)])
    out = []
    for edges, starts in made:
        ids, learned, size = [np.zeros(0, dtype=np.int32)], [], 0
        for edge in edges[:-1]:
            ids.append(next(encoded))
            if edge in starts:
                learned += [size, size + len(ids[-1])]
            size += len(ids[-1])
        out.append((np.concatenate(ids), np.asarray(learned, dtype=np.int32)))
    return out


def _counted(tokens: int, learned: Array) -> Array:
    """Return which predictions count, bool [tokens + 1]: each token's and the end token's.

    The end token counts where what is learned reaches the end of the document.
    """
    if not len(learned):
        return np.ones(tokens + 1, dtype=bool)
    counted = np.zeros(tokens + 1, dtype=bool)
    for start, end in learned.reshape(-1, 2):
        counted[start:end] = True
    counted[tokens] = learned[-1] == tokens
    return counted


def _piece_id(piece: Array, counted: Array) -> str:
    content = np.asarray(piece, dtype="<i4").tobytes() + counted.tobytes()
    return hashlib.sha256(content).hexdigest()[:ID_DIGITS]


def _content(texts: Sequence[str]) -> str:
    hashed = hashlib.sha256()
    for text in texts:
        raw = text.encode()
        hashed.update(len(raw).to_bytes(8, "little"))
        hashed.update(raw)
    return hashed.hexdigest()
