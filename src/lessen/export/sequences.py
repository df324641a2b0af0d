"""Whether two artifacts that generate answer alike: logits of starts and steps, scores, and whole texts.

Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.data.sequences import IGNORE, Blocks, Pairs
from lessen.errors import ArtifactError
from lessen.info import Floats
from lessen.runtimes import decode
from lessen.runtimes.decode import Batch, Decoder

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Splits

ROWS = 8  # validation samples that exports are compared on
STEPS = 4  # tokens read one by one
NEW_TOKENS = 24  # of a generated text
_SEED = 0


def samples(artifact: Artifact, splits: Splits | None, session: Any = None) -> Pairs | Blocks:
    """Return a model's validation sequences; made-up ones of its kind where there are no data.

    Args:
        session: the open artifact, whose decoder's first token is taken; none: the padding id.
    """
    start_id = getattr(session, "start_id", None)
    text: Any = artifact.processor
    if splits is not None:
        from lessen.data.encoding import sequences_of

        return sequences_of(splits, "validation", text, None, start_id)
    rng = np.random.default_rng(_SEED)
    lengths = np.linspace(2, max(2, min(48, text.max_length)), ROWS).astype(int)
    rows = [rng.integers(0, text.vocab_size, n + 1).astype(np.int32) for n in lengths]
    ids = np.array([str(i) for i in range(ROWS)])
    if artifact.info.task == "seq2seq":
        none = np.full(ROWS, -1, dtype=np.int64)
        return Pairs(text, rows, rows[::-1], ids, none, text.pad_id if start_id is None else start_id)
    counted = [np.ones(n, dtype=bool) for n in lengths]
    alone = [(i,) for i in range(ROWS)]
    return Blocks(text, rows, counted, ids, np.arange(ROWS), alone, int(lengths[-1]))


def prompts(data: Pairs | Blocks, count: int) -> Batch:
    """Return sources, or the beginnings of documents padded on the left, of different lengths."""
    if isinstance(data, Pairs):
        return data.processor.collate([data.sources[i] for i in range(min(count, len(data)))])
    pieces = [data.pieces[i] for i in range(min(count, len(data.pieces)))]
    most = max(1, data.processor.max_length // 2)  # the rest is for what follows
    items = [piece[: max(1, min(len(piece) - 1, most, 2 + 3 * i))] for i, piece in enumerate(pieces)]
    return padded_left(items, data.processor.pad_id)


def padded_left(items: list[Any], pad_id: int) -> Batch:
    """Return input_ids and attention_mask [b, longest] of prompts, which end together."""
    width = max(len(item) for item in items)
    ids = np.full((len(items), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(items), width), dtype=np.int64)
    for row, item in enumerate(items):
        ids[row, width - len(item) :] = item
        mask[row, width - len(item) :] = 1
    return {"input_ids": ids, "attention_mask": mask}


def differences(source: Artifact, other: Artifact, splits: Splits | None) -> dict[str, float]:
    """Return the largest absolute difference of a logit: at starts, at steps, reordered, and of all positions."""
    a, b = _opened(source), _opened(other)
    data = samples(source, splits, a)
    found: dict[str, float] = {}
    for count in sorted({1, 3, min(ROWS, len(data))}):
        batch = prompts(data, count)
        shape = f"batch {count}, length {batch['input_ids'].shape[1]}"
        one = _walk(a, batch, None)
        two = _walk(b, batch, [logits.argmax(axis=1) for logits in one])
        found[f"{shape}, start"] = _apart(one[0], two[0])
        found[f"{shape}, {STEPS} steps"] = max(_apart(x, y) for x, y in zip(one[1:], two[1:], strict=True))
    batch = data.batch(np.arange(min(ROWS, len(data))))
    counted = batch["targets"] != IGNORE
    found[f"{int(counted.sum())} supervised positions"] = _apart(a.logits(batch)[counted], b.logits(batch)[counted])
    return found


def _walk(session: Decoder, batch: Batch, said: list[Any] | None) -> list[Floats]:
    """Return the logits after the start and after each of a few steps, the last two with the rows turned round."""
    logits, state = session.start(batch)
    found = [logits]
    for at in range(STEPS):
        if at == STEPS // 2:
            state = session.reorder(state, np.arange(len(logits))[::-1].copy())
        ids = found[-1].argmax(axis=1) if said is None else said[at]
        ids = ids[::-1].copy() if at == STEPS // 2 else ids
        logits, state = session.step(state, ids)
        found.append(logits)
    return found


def texts(source: Artifact, made: Artifact, splits: Splits | None, tolerance: float) -> dict[str, Any]:
    """Generate greedily with both, and return how many texts agree token for token.

    Raises:
        ArtifactError: texts part where the source prefers its token by more than twice the tolerance.
    """
    session = _opened(source)
    data = samples(source, splits, session)
    batch, text = prompts(data, ROWS), data.processor
    new = NEW_TOKENS
    if isinstance(data, Blocks):  # absolute positions end where the model's longest text does
        new = min(new, max(1, text.max_length - batch["input_ids"].shape[1]))
    how: dict[str, Any] = {"max_new_tokens": new, "eos_id": text.eos_id, "pad_id": text.pad_id}
    want, got = decode.generate(session, batch, **how), decode.generate(_opened(made), batch, **how)
    parted = [row for row in range(len(want)) if want[row] != got[row]]
    for row in parted:
        margin = _margin(session, batch, row, want[row], got[row], how["eos_id"])
        if not margin <= 2 * tolerance:
            raise ArtifactError(
                f"{made.path.name} generates another text than its source for validation sample {row + 1}: "
                f"the source prefers its token by {margin:.3g}, allowed is {2 * tolerance:g}",
                "raise export.tolerance if you accept that",
            )
    return {"texts": len(want), "texts_identical": len(want) - len(parted), "texts_max_new_tokens": new}


def _margin(session: Decoder, batch: Batch, row: int, want: list[int], got: list[int], eos: int | None) -> float:
    """Return by how much a session prefers its own token where two texts part."""
    ends = [] if eos is None else [eos]
    mine, other = [*want, *ends], [*got, *ends]
    at = next(i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b)
    logits, state = session.start({name: values[row : row + 1] for name, values in batch.items()})
    for token in mine[:at]:
        logits, state = session.step(state, np.array([token], dtype=np.int64))
    return float(logits[0, mine[at]] - logits[0, other[at]])


def _apart(a: Floats, b: Floats) -> float:
    return float(np.abs(a - b).max())


def _opened(artifact: Artifact) -> Decoder:
    session: Any = artifact.open()
    return session  # type: ignore[no-any-return]
