"""One file of stored token targets: written whole, read memory-mapped.

Tensors of a shard, for n positions (supervised tokens of its pieces, end to end) with v kept tokens in all::

    index     uint16 [v] where the vocabulary has at most 65,536 tokens, else int32
    log_p     float16 [v], or float32
    counts    uint16 [n], kept tokens of each position; sampled only: else every position keeps `width`
    tail      float32 [n], log of the mass of all other tokens; top_k only
    entropy   float16 [n], of the teacher's whole distribution, nats
    kept      float16 [n], probability of the kept tokens together

float16 is rounded to nearest: 11 bits, so a log-probability of −8 is off by at most 0.004, a probability by 0.4 % of
itself. `widened` therefore shifts what it reads so that the buckets of a position add up to 1 again; divergences of
them stay at least 0.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lessen.distill.tokens.targets import SparseTargets

Array = np.ndarray[Any, Any]
DTYPES = {"U16": np.uint16, "I32": np.int32, "F16": np.float16, "F32": np.float32}
SMALL_VOCABULARY = 65536
VALUES = ("index", "log_p")  # tensors with one entry a kept token; the others have one a position
MASS_TOLERANCE = 5e-3  # float16 rounds probabilities by at most that
OPEN_FILES = 256  # mapped at a time: each holds a file descriptor


@dataclass(frozen=True)
class Scored:
    """A teacher's answer at n positions; index, log_p and tail as in SparseTargets.

    Attributes:
        index: int64 [n, k]; −1 in unused places.
        log_p: float32 [n, k]; −inf in unused places.
        tail: float32 [n]; None: sampled.
        entropy, kept: float32 [n].
    """

    index: Array
    log_p: Array
    tail: Array | None
    entropy: Array
    kept: Array

    def __len__(self) -> int:
        """Return the number of positions."""
        return len(self.index)


@dataclass(frozen=True)
class Form:
    """How targets are stored: size of the vocabulary, sampled or top_k, float32 or float16."""

    vocab: int
    sampled: bool
    exact: bool = False

    def bytes_per_token(self, kept: int) -> int:
        """Return what a position takes on disk, in bytes, where it keeps this many tokens."""
        return kept * ((2 if self.vocab <= SMALL_VOCABULARY else 4) + (4 if self.exact else 2)) + (
            6 if self.sampled else 8
        )

    def tensors(self, scored: Scored) -> dict[str, Array]:
        """Return what is written of some positions."""
        used = scored.index >= 0
        index = scored.index.astype(np.uint16 if self.vocab <= SMALL_VOCABULARY else np.int32)  # −1 is never read
        with np.errstate(over="ignore"):  # below −65504: a probability of 0
            log_p = np.where(used, scored.log_p, -np.inf).astype(np.float32 if self.exact else np.float16)
        out = {"entropy": scored.entropy.astype(np.float16), "kept": scored.kept.astype(np.float16)}
        if self.sampled:
            return {**out, "index": index[used], "log_p": log_p[used], "counts": used.sum(axis=1).astype(np.uint16)}
        assert scored.tail is not None  # noqa: S101  top_k always has one
        return {**out, "index": index.ravel(), "log_p": log_p.ravel(), "tail": scored.tail.astype(np.float32)}


def joined(parts: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the tensors of several groups of positions, end to end."""
    return {name: np.ascontiguousarray(np.concatenate([part[name] for part in parts])) for name in parts[0]}


def widened(tensors: Mapping[str, Array], device: torch.device | None = None) -> SparseTargets:
    """Return stored targets in fp32; they travel to the device as they are stored and widen there.

    The parts of a position are shifted by one constant so that they add up to 1.
    """
    there = {name: _tensor(tensors[name], device) for name in ("index", "log_p", "counts", "tail") if name in tensors}
    index, log_p, tail = there["index"].long(), there["log_p"].float(), there.get("tail")
    if tensors["index"].dtype == np.uint16:
        index &= 0xFFFF  # it came as int16
    if tail is None:
        counts = there["counts"].long()
        used = torch.arange(int(tensors["counts"].max(initial=1)), device=counts.device) < counts[:, None]
        index = index.new_full(used.shape, -1).masked_scatter_(used, index)
        log_p = log_p.new_full(used.shape, -torch.inf).masked_scatter_(used, log_p)
        shift = log_p.logsumexp(dim=1)
    else:
        index, log_p = index.reshape(len(tail), -1), log_p.reshape(len(tail), -1)
        index = index.masked_fill_(log_p == -torch.inf, -1)
        shift = torch.cat([log_p, tail[:, None]], dim=1).logsumexp(dim=1)
    return SparseTargets(index, log_p - shift[:, None], None if tail is None else tail - shift)


def _tensor(values: Array, device: torch.device | None) -> torch.Tensor:
    plain = values.view(np.int16) if values.dtype == np.uint16 else values
    return torch.from_numpy(plain) if device is None else torch.from_numpy(plain).to(device)


def flaw(tensors: Mapping[str, Array], form: Form) -> str | None:
    """Return what in stored targets cannot be a distribution over the vocabulary, or None."""
    told = widened(tensors)
    log_p = torch.from_numpy(tensors["log_p"].astype(np.float32))
    raw = log_p.exp().sum() + (0.0 if told.tail is None else torch.from_numpy(tensors["tail"]).exp().sum())
    if not bool(torch.isfinite(raw)) or not np.isfinite(tensors["entropy"]).all():
        return "a value is not finite"
    if int(told.index.max()) >= form.vocab:
        return f"token {int(told.index.max())} is beyond the vocabulary of {form.vocab}"
    if abs(float(raw) / max(len(told), 1) - 1) > MASS_TOLERANCE:
        return f"probabilities add up to {float(raw) / len(told):.3f}, not 1"
    order = told.index.sort(dim=1).values
    if bool(((order[:, 1:] == order[:, :-1]) & (order[:, 1:] >= 0)).any()):
        return "a token stands twice at a position"
    return None


def distance(stored: SparseTargets, live: Scored) -> Array:
    """Return half the sum of differences of probabilities at each position, [n], tails included.

    A token that only one side keeps is somewhere between 0 and the least likely token that the other keeps (sampled:
    0), so it counts by what it is above that.
    """
    out = np.zeros(len(live), dtype=np.float64)
    for start in range(0, len(live), 64):
        at = slice(start, start + 64)
        ours, theirs = stored.index[at].cpu().numpy(), live.index[at]
        p, q = np.exp(stored.log_p[at].cpu().numpy()), np.exp(live.log_p[at])
        same = (ours[:, :, None] == theirs[:, None, :]) & (ours >= 0)[:, :, None]
        both = np.abs(p - (same * q[:, None, :]).sum(axis=2)) * same.any(axis=2)
        out[at] = both.sum(axis=1)
        out[at] += _above(p, q, same.any(axis=2), theirs >= 0, live.tail is not None)
        out[at] += _above(q, p, same.any(axis=1), ours >= 0, live.tail is not None)
        if stored.tail is not None and live.tail is not None:
            out[at] += np.abs(np.exp(stored.tail[at].cpu().numpy()) - np.exp(live.tail[at]))
    return out / 2


def _above(p: Array, q: Array, shared: Array, there: Array, cut: bool) -> Array:
    """Return how much of p, at tokens that q does not keep, exceeds the least that q keeps."""
    least = np.where(there, q, np.inf).min(axis=1, keepdims=True) if cut else 0.0
    above: Array = (np.maximum(p - least, 0.0) * ~shared).sum(axis=1)
    return above


class Maps:
    """Tensors of shards, mapped from disk; the files used last stay open."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, dict[str, Array]] = OrderedDict()

    def __call__(self, file: Path) -> dict[str, Array]:
        """Return the tensors of a file; nothing is read until they are."""
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file]
        made = self._open[file] = mapped(file)
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)
        return made


def mapped(file: Path) -> dict[str, Array]:
    """Return the tensors of a safetensors file as views of its mapped bytes.

    Raises:
        ValueError: the header and the file do not fit each other.
    """
    raw = np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)
    size = int.from_bytes(raw[:8].tobytes(), "little")
    header = json.loads(raw[8 : 8 + size].tobytes())
    out = {}
    for name, of in header.items():
        if name != "__metadata__":
            first, last = (8 + size + at for at in of["data_offsets"])
            out[name] = raw[first:last].view(DTYPES[of["dtype"]]).reshape(of["shape"])
    return out
