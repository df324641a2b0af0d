"""How near a model's distributions over tokens are to its teacher's, where both read the same tokens.

Both are fed the same true tokens of the first test documents (measure.generate); only some positions' distributions
exist at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lessen.context import Context
from lessen.data.sequences import IGNORE, Blocks, Pairs
from lessen.measure import stats
from lessen.measure.metric import Metrics, measured, missing

if TYPE_CHECKING:
    from lessen.recipe import Measure

Array = NDArray[Any]
UNITS = {"token_agreement": "share", "kl_to_teacher": "nats"}
LOGITS = 1 << 25  # numbers of a batch's logits at most, where a single row has not more
CHUNK = 256  # positions compared at a time, in fp64


def incomparable(ours: Pairs | Blocks, theirs: Pairs | Blocks) -> str | None:
    """Return why two models' distributions cannot be held against each other, None where they can."""
    first, second = (data.processor.tokenizer.get_vocab(with_added_tokens=True) for data in (ours, theirs))
    if first != second:
        return "the tokenizers differ: their tokens cannot be compared one by one"
    left, right = (data.pieces if isinstance(data, Blocks) else data.targets for data in (ours, theirs))
    if len(left) != len(right) or not all(np.array_equal(a, b) for a, b in zip(left, right, strict=True)):
        return "the models read the texts in other tokens"
    return None


def nearness(teacher: Any, student: Any, data: Pairs | Blocks, cfg: Measure, ctx: Context) -> Metrics:
    """Return the share of tokens on which both have the same likeliest token, and KL(teacher || student) per token.

    Args:
        teacher, student: open artifacts (runtimes.decode.Decoder).
        data: the test split as both read it.
    """
    rows = data.alone() if isinstance(data, Blocks) else data
    owner = rows.document[[r[0] for r in rows.rows]] if isinstance(rows, Blocks) else np.arange(len(rows))
    wanted = np.unique(owner)[: cfg.generate]
    sums = np.zeros((len(wanted), 3))  # tokens, agreements, KL of each document
    vocab = int(data.processor.vocab_size)
    for at in _batches(np.flatnonzero(np.isin(owner, wanted)), rows.lengths, vocab):
        ctx.check()
        batch = rows.batch(at)
        there = batch["targets"] != IGNORE
        p, q = (session.logits(batch)[there][:, :vocab] for session in (teacher, student))
        places = np.searchsorted(wanted, owner[at])[np.nonzero(there)[0]]
        for start in range(0, len(p), CHUNK):
            part = slice(start, start + CHUNK)
            np.add.at(sums, places[part], compared(p[part], q[part]))
    return _metrics(sums[sums[:, 0] > 0], cfg, ctx)


def _metrics(sums: Array, cfg: Measure, ctx: Context) -> Metrics:
    n = len(sums)
    if not n or not np.isfinite(sums).all():
        reason = "a distribution is not finite" if n else "no token is to be predicted"
        return {name: missing(unit, reason) for name, unit in UNITS.items()}
    drawn = stats.resampled_sums(sums, cfg.bootstrap if n > 1 else 0, ctx.seed)
    values = {"token_agreement": drawn[:, 1] / drawn[:, 0], "kl_to_teacher": drawn[:, 2] / drawn[:, 0]}
    return {
        name: measured(float(v[0]), UNITS[name], n=n, ci95=stats.interval(v[1:]) if n > 1 else None)
        for name, v in values.items()
    }


def compared(teacher: Array, student: Array) -> Array:
    """Return 1, whether the likeliest tokens agree, and KL(teacher || student) in nats, by row of logits, [n, 3]."""
    width = min(teacher.shape[1], student.shape[1])  # of the tokens that both have
    p, q = _log_softmax(teacher[:, :width]), _log_softmax(student[:, :width])
    share = np.exp(p)
    with np.errstate(invalid="ignore"):  # -inf - -inf, where the share is 0
        gap = np.where(share > 0, share * (p - q), 0.0)
    return np.stack([np.ones(len(p)), p.argmax(axis=1) == q.argmax(axis=1), gap.sum(axis=1)], axis=1)


def _batches(rows: Array, lengths: Array, vocab: int) -> list[Array]:
    """Return rows of similar length, so that a batch's logits are at most LOGITS numbers."""
    order = rows[np.argsort(lengths[rows], kind="stable")[::-1]]
    out, at = [], 0
    while at < len(order):
        count = min(32, max(1, LOGITS // (vocab * max(1, int(lengths[order[at]])))))
        out.append(order[at : at + count])
        at += count
    return out


def _log_softmax(logits: Array) -> Array:
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=1, keepdims=True)))
