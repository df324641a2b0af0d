"""Text from a model that answers one token at a time: greedy and beam search, and the score of given tokens.

Search is the same for every runtime, which states how a sequence starts, goes on and is reordered. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lessen.data.sequences import IGNORE
from lessen.errors import ArtifactError
from lessen.info import Floats

Batch = dict[str, np.ndarray[Any, Any]]
Ids = NDArray[np.int64]
WORST = np.float32(-1e9)  # transformers' score of what may not be chosen
CHUNK = 256  # positions whose logits exist at a time when tokens are scored


class Decoder(Protocol):
    """An open model that generates.

    Batches: seq2seq input_ids, attention_mask, and decoder_input_ids where tokens are scored; causal-lm input_ids and
    attention_mask (prompts, padded on the left) or those of `Blocks.batch`.
    """

    vocab: int  # tokens that the tokenizer has; the model's rows beyond are padding and never answered

    def start(self, batch: Batch) -> tuple[Floats, Any]:
        """Read sources or prompts; return the logits of the next token [b, vocab], and a state."""
        ...

    def step(self, state: Any, ids: Ids) -> tuple[Floats, Any]:
        """Read one more token of each row, int64 [b]; return the next logits and state. The old state is used up."""
        ...

    def reorder(self, state: Any, rows: Ids) -> Any:
        """Return a state whose rows are those of another, int64 [any number]; a row may come several times."""
        ...

    def logits(self, batch: Batch) -> Floats:
        """Return the logits of every position of a batch of `Pairs` or `Blocks`, [b, t, vocab]."""
        ...

    def score(self, batch: Batch) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return, at each target, its negative log-probability (nats) and whether it is the likeliest, [b, t].

        Both are 0 and False where the target is IGNORE.
        """
        ...


def generate(
    session: Decoder, batch: Batch, *, max_new_tokens: int, beams: int = 1, eos_id: int | None, pad_id: int
) -> list[list[int]]:
    """Return the likeliest continuation of each row: greedy, or by beam search.

    The tokens are those of transformers' `generate(do_sample=False, num_beams=beams)`, early_stopping False and
    length_penalty 1.

    Args:
        batch: sources, or prompts padded on the left.
        max_new_tokens: tokens of a text at most, the end token included.
        eos_id: ends a text; None: every text has `max_new_tokens`.
        pad_id: what a finished row reads on while others go on.

    Returns:
        token ids without start, prompt and end token.

    Raises:
        ArtifactError: the model answers no number.
    """
    if max_new_tokens < 1 or beams < 1:
        raise ValueError(f"max_new_tokens {max_new_tokens} and beams {beams} are 1 or more")
    found = _greedy if beams == 1 else _beam_search
    return [_cut(row, eos_id) for row in found(session, batch, max_new_tokens, beams, eos_id, pad_id)]


def _cut(row: Ids, eos_id: int | None) -> list[int]:
    ended = np.flatnonzero(row == eos_id) if eos_id is not None else np.empty(0)
    return [int(i) for i in (row[: ended[0]] if len(ended) else row)]


def _greedy(session: Decoder, batch: Batch, most: int, beams: int, eos_id: int | None, pad_id: int) -> Ids:
    logits, state = session.start(batch)
    said = np.full((len(logits), most), pad_id, dtype=np.int64)
    going = np.ones(len(logits), dtype=bool)
    for at in range(most):
        said[:, at] = np.where(going, _checked(logits).argmax(axis=1), pad_id)
        going &= said[:, at] != eos_id
        if at + 1 == most or not going.any():
            break
        logits, state = session.step(state, said[:, at])
    return said


@dataclass
class _Beams:
    """The beams of a search, all [batch, beams] first; scores are sums of log-probabilities, fp32."""

    running: Ids  # tokens so far [batch, beams, most]
    scores: Floats
    done: Ids  # finished texts, the best first
    done_scores: Floats  # divided by their lengths
    finished: NDArray[np.bool_]
    hopeful: NDArray[np.bool_]  # [batch, 1]: a running beam could still beat a finished text


def _beam_search(session: Decoder, batch: Batch, most: int, beams: int, eos_id: int | None, pad_id: int) -> Ids:
    """Search as transformers does (generation/utils.py, `_beam_search`, version 5.23)."""
    logits, state = session.start(batch)
    count = len(logits)
    first = np.repeat(np.arange(count), beams)
    logits, state = logits[first], session.reorder(state, first)
    shape = (count, beams)
    found = _Beams(
        running=np.full((*shape, most), pad_id, dtype=np.int64),
        scores=np.where(np.arange(beams) == 0, np.float32(0), WORST)[None].repeat(count, axis=0),
        done=np.full((*shape, most), pad_id, dtype=np.int64),
        done_scores=np.full(shape, WORST),
        finished=np.zeros(shape, dtype=bool),
        hopeful=np.ones((count, 1), dtype=bool),
    )
    for at in range(most):
        log_p = log_softmax(_checked(logits)).reshape(count, beams, -1) + found.scores[:, :, None]
        came_from, ended = _advance_(found, log_p, at, eos_id)
        if ended.all() or not found.hopeful.any():
            break
        rows = (came_from + np.arange(count)[:, None] * beams).reshape(-1)
        logits, state = session.step(session.reorder(state, rows), found.running[:, :, at].reshape(-1))
    return found.done[:, 0]


def _advance_(found: _Beams, log_p: Floats, at: int, eos_id: int | None) -> tuple[Ids, NDArray[np.bool_]]:
    """Take the best continuations of one step, in place.

    Args:
        log_p: score of every continuation, [batch, beams, vocab].
        at: tokens generated before this step.

    Returns:
        the beam that each running beam came from [batch, beams]; which candidates ended [batch, 2 beams].
    """
    count, beams, vocab = log_p.shape
    flat = log_p.reshape(count, -1)
    order = _top(flat, 2 * beams)
    scores = np.take_along_axis(flat, order, axis=1)
    source, token = order // vocab, order % vocab
    texts = np.take_along_axis(found.running, source[:, :, None], axis=1)
    texts[:, :, at] = token
    ended = np.full(scores.shape, at + 1 == found.running.shape[2]) | (token == eos_id)

    running = scores + ended.astype(np.float32) * WORST
    chosen = _top(running, beams)
    best = (np.arange(2 * beams) < beams)[None]  # only these may be returned; the others are there to go on with
    new = scores / np.float32(at + 1)
    new = new + (~found.hopeful).astype(np.float32) * WORST + (~(ended & best)).astype(np.float32) * WORST
    merged = np.concatenate([found.done_scores, new], axis=1)
    kept = _top(merged, beams)
    found.done = np.take_along_axis(np.concatenate([found.done, texts], axis=1), kept[:, :, None], axis=1)
    found.done_scores = np.take_along_axis(merged, kept, axis=1)
    found.finished = np.take_along_axis(np.concatenate([found.finished, ended & best], axis=1), kept, axis=1)
    found.running = np.take_along_axis(texts, chosen[:, :, None], axis=1)
    found.scores = np.take_along_axis(running, chosen, axis=1)

    possible = found.scores[:, :1] / np.float32(at + 1)
    worst = np.where(found.finished, found.done_scores.min(axis=1, keepdims=True), WORST)
    found.hopeful &= (possible > worst).any(axis=1, keepdims=True)
    return np.take_along_axis(source, chosen, axis=1), ended


def _top(values: Floats, count: int) -> Ids:
    """Return the columns of the largest values of each row, largest first, [rows, count]."""
    count = min(count, values.shape[1])
    part = np.argpartition(-values, count - 1, axis=1)[:, :count]
    part.sort(axis=1)  # of equal values the first column wins
    order = np.argsort(-np.take_along_axis(values, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, order, axis=1)


def log_softmax(logits: Floats) -> Floats:
    """Return log-probabilities over the last axis, in the logits' precision."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def scored(logits: Floats, targets: Ids) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return negative log-probabilities and hits of targets [b, t] by logits [b, t, vocab]; see `Decoder.score`."""
    counted = targets != IGNORE
    at = np.where(counted, targets, 0)[..., None]
    log_p = log_softmax(np.asarray(logits, dtype=np.float64))
    nll = np.where(counted, -np.take_along_axis(log_p, at, axis=-1)[..., 0], 0.0)
    return nll, counted & (logits.argmax(axis=-1) == at[..., 0])


def apart(batch: Batch) -> tuple[Batch, list[tuple[int, slice]]]:
    """Return a batch of `Blocks` with one piece to a row, and the (row, positions) that each piece had.

    A packed row attends within its pieces alone and counts positions from 0 in each, so that a piece by itself
    computes the same.
    """
    ids, mask = batch["input_ids"], batch["attention_mask"]
    places: list[tuple[int, slice]] = []
    for row in range(len(ids)):
        if mask.ndim == 2:
            places.append((row, slice(0, int(mask[row].sum()))))
            continue
        starts = np.flatnonzero(batch["position_ids"][row] == 0)
        for start, end in zip(starts, [*starts[1:], ids.shape[1]], strict=True):
            if end - start > 1 or batch["targets"][row, start] != IGNORE:  # else it is padding
                places.append((row, slice(int(start), int(end))))
    width = max(span.stop - span.start for _, span in places)
    made = {name: np.zeros((len(places), width), dtype=np.int64) for name in ("input_ids", "attention_mask")}
    for at, (row, span) in enumerate(places):
        made["input_ids"][at, : span.stop - span.start] = ids[row, span]
        made["attention_mask"][at, : span.stop - span.start] = 1
    return made, places


def _checked(logits: Floats) -> Floats:
    if np.isnan(logits).any():
        raise ArtifactError("the model's logits are not numbers (NaN)", "its weights are damaged: make it again")
    return logits
