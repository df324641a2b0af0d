"""How likely a model finds a text: teacher-forced scores of every token, summed by document (or pair).

Perplexity is exp(total NLL / scored tokens), never a mean over documents or batches; nothing is capped. Bits per byte
(total NLL / ln 2 / UTF-8 bytes of the scored texts) compares models of different tokenizers; the end token's NLL is in
the total, and it has no bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lessen.data.sequences import Blocks, Pairs
from lessen.measure import stats
from lessen.measure.metric import Metrics, measured, missing

if TYPE_CHECKING:
    from lessen.data import Split, Splits

Reals = NDArray[np.float64]
Ints = NDArray[np.int64]
UNITS = {
    "nll_per_token": "nats", "perplexity": "perplexity", "bits_per_byte": "bits", "token_accuracy": "share",
    "tokens_scored": "tokens",
}  # fmt: skip
POSITIONS = 8192  # of a scored batch at most, where a single row is not longer


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of each document, or pair: all [n]; documents without a scored token have zeros."""

    nll: Reals  # summed over its scored tokens, nats
    hits: Ints  # tokens that were the likeliest
    tokens: Ints  # tokens scored
    bytes: Ints  # UTF-8 bytes of the scored text

    @property
    def finite(self) -> bool:
        """Whether every document's score is a number."""
        return bool(np.isfinite(self.nll).all())

    @property
    def columns(self) -> Reals:
        """NLL, tokens, bytes, hits as columns, [n, 4]."""
        return np.stack([self.nll, self.tokens, self.bytes, self.hits], axis=1).astype(np.float64)


def score(
    session: Any,
    data: Pairs | Blocks,
    texts: Sequence[str],
    *,
    documents: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Scored:
    """Score the documents (pairs) of a text, each token once.

    Args:
        session: an open artifact (runtimes.decode.Decoder).
        texts: the scored text of each document, for its bytes.
        documents: the first so many; all when absent.
        check: is called before every batch and may raise Cancelled.
    """
    n = len(texts) if documents is None else min(documents, len(texts))
    rows = data.alone() if isinstance(data, Blocks) else data  # a row is a piece, of any document
    owner = rows.document[[r[0] for r in rows.rows]] if isinstance(rows, Blocks) else np.arange(len(rows))
    nll, hits, tokens = np.zeros(n), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for batch in _batches(np.flatnonzero(owner < n), rows.lengths):
        check()
        losses, right = session.score(rows.batch(batch))
        np.add.at(nll, owner[batch], np.asarray(losses, dtype=np.float64).sum(axis=1))
        np.add.at(hits, owner[batch], np.asarray(right, dtype=np.int64).sum(axis=1))
        np.add.at(tokens, owner[batch], rows.tokens[batch])
    size = np.asarray([len(text.encode()) if tokens[i] else 0 for i, text in enumerate(texts[:n])], dtype=np.int64)
    return Scored(nll, hits, tokens, size)


def scored_texts(splits: Splits, split: Split, data: Pairs | Blocks) -> list[str]:
    """Return what is scored of each document: its supervised parts; of each pair: its target, as far as it is read."""
    if isinstance(data, Blocks):
        return [
            "".join(text[start:end] for start, end in spans) if spans else text
            for text, spans in zip(split.inputs, split.labels, strict=True)
        ]
    words = target_texts(splits, split)
    longest = splits.settings.max_target_length
    return [
        word if len(target) < longest else data.processor.decode(target)
        for word, target in zip(words, data.targets, strict=True)
    ]


def target_texts(splits: Splits, split: Split) -> list[str]:
    """Return the reference of each pair: its target, or the word of its label."""
    labels = split.labels
    return [splits.labels[int(k)] for k in labels] if splits.labels else [str(target) for target in labels]


def metrics(scored: Scored, *, bootstrap: int, seed: int) -> Metrics:
    """Return NLL per token, perplexity, bits per byte and token accuracy, with intervals over documents."""
    n = int((scored.tokens > 0).sum())
    if not n or not scored.finite:
        broken = int((~np.isfinite(scored.nll)).sum())
        reason = (
            f"the NLL of {broken} of {len(scored.nll)} documents is not finite" if n else "no token is to be predicted"
        )
        return {name: missing(unit, reason) for name, unit in UNITS.items()}
    sums = stats.resampled_sums(scored.columns[scored.tokens > 0], bootstrap if n > 1 else 0, seed)
    nll, size = sums[:, 0] / sums[:, 1], np.where(sums[:, 2] > 0, sums[:, 2], np.nan)
    values = {
        "nll_per_token": nll,
        "bits_per_byte": sums[:, 0] / math.log(2) / size,
        "token_accuracy": sums[:, 3] / sums[:, 1],
    }
    out = {
        name: measured(float(v[0]), UNITS[name], n=n, ci95=stats.interval(v[1:]) if n > 1 else None)
        for name, v in values.items()
    }
    found = out["nll_per_token"].ci95
    ends = (exp(found[0]), exp(found[1])) if found else None
    out["perplexity"] = measured(exp(float(nll[0])), UNITS["perplexity"], n=n, ci95=ends)
    out["tokens_scored"] = measured(int(scored.tokens.sum()), "tokens", n=n)
    return {name: out[name] for name in UNITS}


def of_text(name: str, text: str) -> str:
    """Return the name of a metric of a held-out text: perplexity_wikitext."""
    return f"{name}_{re.sub(r'[^0-9A-Za-z]+', '_', text)}"


def exp(value: float) -> float:
    """Return e to the value, infinity where that is beyond the largest number."""
    return math.exp(value) if value < 709.78 else math.inf


def _batches(rows: Ints, lengths: Ints) -> Iterator[Ints]:
    """Yield rows of similar length, at most POSITIONS of padded length together."""
    order = rows[np.argsort(lengths[rows], kind="stable")[::-1]]
    at = 0
    while at < len(order):
        count = max(1, POSITIONS // max(1, int(lengths[order[at]])))
        yield order[at : at + min(count, 64)]
        at += min(count, 64)
