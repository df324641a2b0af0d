"""Teacher distributions over tokens on disk, so that the teacher reads each text once and not once an epoch.

A piece of a document (Blocks) or a pair (Pairs) is found by its content, never by its place in a row, batch or epoch:
shuffling, packing, batch sizes, resuming and numbers of processes move nothing. Log-probabilities are kept at
temperature 1, as top_k with a tail or as samples (targets.py); the files are described in shards.py.

Layout of <cache_dir>/teacher-tokens/<first 24 digits of the fingerprint>::

    manifest.json           the fingerprint, what it was made of, and the teacher's name
    shard-<digest>.json     keys, positions and values of the pieces, sums for statistics, SHA-256 of the tensor file
    shard-<digest>.safetensors
    asked-<digest>.json     one for each data set that was asked for: pieces, tokens, complete or not

A shard is named by its bytes and its list is written last: an interrupted build goes on where it stopped, and two
processes that build the same cache do no harm.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from safetensors.numpy import save

from lessen.context import Context, digest, write_atomic
from lessen.data.sequences import Blocks
from lessen.distill.cache import claim, libraries, read_shard, write_shard
from lessen.distill.tokens.pieces import Array, Data, Pieces, alone, batches, of_rows, pieces_of, shards
from lessen.distill.tokens.shards import VALUES, Form, Maps, Scored, distance, flaw, joined, widened
from lessen.errors import ArtifactError, ResourceError, TrainingError
from lessen.events import Progress

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.distill.tokens.targets import SparseTargets

Piece = tuple[str, int]  # id, supervised positions
Score = Callable[[dict[str, Array], Sequence[Piece]], Scored]  # a batch with targets, and its rows -> its positions

FORMAT = 1
FOLDER = "teacher-tokens"
SHARD_TOKENS = 1 << 18  # 67 MB at 64 kept tokens
BATCH_TOKENS = 1 << 13  # padding included
VERIFIED_PIECES = 8
STALE_SECONDS = 24 * 3600
PLACE = np.dtype([(n, np.int64) for n in ("shard", "position", "positions", "value", "values")])  # shard −1: nowhere
# Mean and largest distance of two distributions that verify lets pass. float32: what float16 rounds, and the order of
# sums. Below: other batches round states differently, about 0.05 of a logit.
TOLERANCES = {"float32": (2e-3, 2e-2), "bfloat16": (3e-2, 0.35), "float16": (1e-2, 0.15)}


def fingerprint(
    teacher: Artifact, data: Data, dtype: torch.dtype, *, vocab: int, kind: str, size: int, seed: int = 0,
    router: str = "none", exact: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Return everything that stored targets depend on, besides the text.

    Args:
        data: what is asked for; its tokenizer and longest piece count, its texts do not.
        dtype: the precision of the matrix products (float32, bfloat16).
        vocab: tokens that the teacher chooses from.
        kind: top_k or sampled.
        size: tokens kept, or draws.
        seed: of the draws; without influence on top_k.
        router: mixture-of-experts teachers: how experts are chosen, and the digest of a router that learned.
        exact: float32 log-probabilities, not float16.
    """
    return {
        "format": FORMAT,
        "teacher": teacher.digest,
        "router": router,
        "processor": data.processor.digest,
        "dtype": str(dtype).removeprefix("torch."),
        "targets": kind,
        **({"k": size} if kind == "top_k" else {"draws": size, "seed": seed}),
        "vocab": vocab,
        "reads": "each piece alone, positions from 0" if isinstance(data, Blocks) else "source, then target",
        "longest": data.block if isinstance(data, Blocks) else data.processor.max_length,
        "values": f"log-probabilities, temperature 1, {'float32' if exact else 'float16'}",
        "libraries": libraries(),
    }


@dataclass(frozen=True)
class Difference:
    """Distance of stored and live distributions: half the sum of differences of probabilities, 0 to 1."""

    mean: float
    largest: float
    tokens: int


class TokenCache:
    """The stored targets of one teacher; see `open_tokens`."""

    def __init__(self, path: Path, parts: dict[str, Any]) -> None:
        self.path, self.parts = path, parts
        self.form = Form(parts["vocab"], parts["targets"] == "sampled", parts["values"].endswith("float32"))
        self._maps = Maps()
        self._bodies: dict[Path, dict[str, Any]] = {}  # tensor file -> its list
        self.damaged: set[Path] = set()
        self._known: WeakKeyDictionary[Data, Pieces] = WeakKeyDictionary()
        self._index()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parts."""
        return digest(self.parts)

    def read(self, ctx: Context, about: dict[str, Any] | None = None) -> None:
        """Look up what there is; a damaged shard is left out with a warning and its pieces are computed again.

        Args:
            about: the teacher's name and place, for people.

        Raises:
            ArtifactError: the folder belongs to another teacher, tokenizer, k ...; says which.
        """
        claim(self.path, self.parts, about)
        for file in sorted(self.path.glob("shard-*.json")):
            if file.with_suffix(".safetensors") in self._bodies or file in self.damaged:
                continue
            try:
                body, tensors = read_shard(file)
                self._maps(tensors)
            except (OSError, ValueError, KeyError, TypeError) as error:
                ctx.say(f"teacher cache: {file.name} is damaged ({error}); its pieces are computed again", "warning")
                self.damaged.add(file)
                continue
            self._bodies[tensors] = body
        self._index()

    def missing(self, data: Data) -> Array:
        """Return the pieces (pairs) whose targets are not there; of equal ones the first."""
        absent = np.flatnonzero(self._places(data)["shard"] < 0)
        _, first = np.unique(self.pieces(data).keys[absent], return_index=True)
        return np.asarray(absent[np.sort(first)])

    def fill(self, data: Data, score: Score, ctx: Context, *, share: tuple[int, int] = (0, 1)) -> int:
        """Compute what is missing, in batches of similar length, and return how many pieces that were.

        Args:
            score: the teacher; see score.py.
            share: this process's number and how many share the work; call `read` and `note` once all are done.

        Raises:
            TrainingError: the teacher's answer is not finite.
            ResourceError: the disk has too little room.
        """
        self.note(data)
        missing, of = self.missing(data), self.pieces(data)
        order = missing[np.argsort(of.lengths[missing], kind="stable")][share[0] :: share[1]]
        total, done = int(of.tokens[order].sum()), 0
        self._room(total)
        source = alone(data)
        for shard in shards(order, of.tokens, SHARD_TOKENS):
            parts: list[dict[str, Array]] = []
            sums = np.zeros(2)
            for batch in batches(shard, of.lengths, BATCH_TOKENS):
                ctx.check()
                scored = self._scored(source, of, batch, score, ctx.stage)
                sums += scored.entropy.sum(dtype=np.float64), scored.kept.sum(dtype=np.float64)
                parts.append(self.form.tensors(scored))
                done += len(scored)
                ctx.emit(Progress(stage=ctx.stage, step=done, total_steps=total, unit="teacher tokens"))
            self._write(data, shard, parts, sums)
        self._clear()
        self._index()
        self.note(data)
        return len(order)

    def targets(self, data: Data, rows: Array, device: torch.device | None = None) -> SparseTargets:
        """Return the targets of rows, in the row-major order of the supervised positions of `data.batch(rows)`.

        Args:
            device: where they are wanted; they travel as they are stored and widen there.

        Raises:
            ArtifactError: some are not in the cache.
        """
        return widened(self._gather(data, of_rows(data, rows)), device)

    def positions(self, data: Data, rows: Array) -> dict[str, Array]:
        """Return the teacher's entropy (nats) and the kept probability of each supervised position of rows, fp16."""
        return self._gather(data, of_rows(data, rows), ("entropy", "kept"))

    def facts(self) -> dict[str, Any]:
        """Return statistics of what is stored: pieces, tokens, bytes, bytes per token, ratio to dense fp16 logits."""
        bodies = self._bodies.values()
        tokens = sum(sum(body["positions"]) for body in bodies)
        size = sum(f.stat().st_size + f.with_suffix(".json").stat().st_size for f in self._bodies)
        return {
            "pieces": len(self._keys),
            "tokens": tokens,
            "bytes": size,
            "bytes_per_token": size / tokens if tokens else None,
            "dense_fp16_ratio": 2 * self.parts["vocab"] * tokens / size if size else None,
            "entropy_mean": sum(body["entropy"] for body in bodies) / tokens if tokens else None,
            "kept_mean": sum(body["kept"] for body in bodies) / tokens if tokens else None,
        }

    def verify(self, data: Data, score: Score, *, count: int = VERIFIED_PIECES, seed: int = 0) -> Difference:
        """Score random pieces again and return how far the stored distributions are from the live ones.

        Raises:
            ArtifactError: the cache does not say what the teacher says.
        """
        chosen = np.random.default_rng(seed).permutation(len(self.pieces(data).ids))[:count]
        if not len(chosen):
            return Difference(0.0, 0.0, 0)
        live = self._scored(alone(data), self.pieces(data), chosen, score, "cache")
        away = distance(widened(self._gather(data, chosen)), live)
        found = Difference(float(away.mean()), float(away.max()), len(away))
        mean, largest = TOLERANCES[self.parts["dtype"]]
        draw = 1 / self.parts["draws"] if self.form.sampled else 0.0  # one that fell on the other side of an edge
        if not (found.mean <= mean + draw and found.largest <= largest + 4 * draw):
            raise ArtifactError(
                f"teacher cache {self.path} differs from the teacher: by {found.mean:.2%} of the probability on "
                f"average, {found.largest:.2%} at worst, over {found.tokens} tokens",
                "delete this folder, or set distill.cache to off",
            )
        return found

    def flaws(self) -> dict[str, str]:
        """Return what is wrong with shards, by name: their checksums, and values that are no distributions."""
        found = {file.name: "damaged" for file in self.damaged}
        for file in self._files:
            wrong = flaw({name: np.array(t) for name, t in self._maps(file).items()}, self.form)
            if wrong:
                found[file.name] = wrong
        return found

    def note(self, data: Data) -> None:
        """Write down that a data set was asked for, and whether all of it is there; for `lessen cache info`."""
        wanted = np.unique(self.pieces(data).keys)
        body = {
            "pieces": len(wanted),
            "tokens": int(self.pieces(data).tokens.sum()),
            "complete": not len(self.missing(data)),
        }
        name = f"asked-{hashlib.sha256(wanted.tobytes()).hexdigest()[:16]}.json"
        write_atomic(self.path / name, json.dumps(body))

    def _scored(self, source: Data, of: Pieces, chosen: Array, score: Score, stage: str) -> Scored:
        """Return the answers at some pieces of data with one piece to a row."""
        ids, tokens = of.ids[chosen], of.tokens[chosen]
        scored = score(source.batch(chosen), [(str(i), int(n)) for i, n in zip(ids, tokens, strict=True)])
        fine = np.isfinite(scored.entropy) & ~np.isnan(scored.log_p).any(axis=1) & (scored.index >= 0).any(axis=1)
        bad = [str(i) for i in dict.fromkeys(np.repeat(ids, tokens)[~fine])]
        if bad:
            raise TrainingError(
                f"{stage}: the teacher's answer is not finite for {len(bad)} texts ({', '.join(bad[:4])} ...)",
                "use precision fp32, or another teacher",
            )
        return scored

    def _room(self, tokens: int) -> None:
        """Refuse a build that the disk has no room for; how much samples need shows only once they are drawn."""
        if self.form.sampled:
            return
        needed = tokens * self.form.bytes_per_token(self.parts["k"])
        free = shutil.disk_usage(self.path).free
        if needed > free:
            raise ResourceError(
                f"teacher cache {self.path} needs {needed / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB free",
                "lower distill.top_k, use distill.targets sampled, or set cache_dir elsewhere",
            )

    def _write(self, data: Data, chosen: Array, parts: list[dict[str, Array]], sums: Array) -> None:
        tensors, of = joined(parts), self.pieces(data)
        tokens = of.tokens[chosen]
        if self.form.sampled:
            ends = np.cumsum(tensors["counts"], dtype=np.int64)[np.cumsum(tokens) - 1]
            values = np.diff(ends, prepend=0)
        else:
            values = tokens * (len(tensors["index"]) // len(tensors["entropy"]))
        body = {
            "keys": [key.decode() for key in of.keys[chosen]],
            "positions": tokens.tolist(),
            "values": values.tolist(),
            "entropy": float(sums[0]),
            "kept": float(sums[1]),
        }
        raw = save(tensors)
        name = f"shard-{hashlib.sha256(raw).hexdigest()[:24]}"
        write_shard(self.path, name, raw, body)
        self._bodies[self.path / f"{name}.safetensors"] = body

    def _clear(self) -> None:
        """Remove damaged shards, whose pieces are there anew (one that came out the same has its old name), and what
        processes left that were killed while they wrote."""
        for file in self.damaged:
            if file.with_suffix(".safetensors") not in self._bodies:
                file.unlink(missing_ok=True)
                file.with_suffix(".safetensors").unlink(missing_ok=True)
        self.damaged.clear()
        for file in self.path.glob(".*"):
            if file.stat().st_mtime < time.time() - STALE_SECONDS:
                file.unlink(missing_ok=True)

    def _index(self) -> None:
        """Sort the keys of all shards."""
        found = [np.zeros(0, dtype=PLACE)]
        for number, body in enumerate(self._bodies.values()):
            part = np.zeros(len(body["keys"]), dtype=PLACE)
            part["shard"] = number
            for name, sizes in (("position", "positions"), ("value", "values")):
                part[sizes] = body[sizes]
                part[name] = np.cumsum(part[sizes]) - part[sizes]
            found.append(part)
        every = np.array([key.encode() for body in self._bodies.values() for key in body["keys"]], dtype=np.bytes_)
        self._keys, first = np.unique(every, return_index=True)
        self._table = np.concatenate(found)[first]
        self._files = list(self._bodies)
        self._bound: WeakKeyDictionary[Data, Array] = WeakKeyDictionary()

    def pieces(self, data: Data) -> Pieces:
        """Return the pieces of the data; worked out once."""
        if data not in self._known:
            self._known[data] = pieces_of(data)
        return self._known[data]

    def _places(self, data: Data) -> Array:
        """Return where each piece of the data lies."""
        found = self._bound.get(data)
        if found is not None:
            return found
        if data.processor.digest != self.parts["processor"]:
            raise ArtifactError(
                f"teacher cache {self.path} was made with another tokenizer (differs in: processor)",
                "give the data as the teacher's tokenizer cuts it",
            )
        wanted = self.pieces(data).keys
        found = np.zeros(len(wanted), dtype=PLACE)
        found["shard"] = -1
        if len(self._keys):
            at = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
            there = self._keys[at] == wanted
            found[there] = self._table[at[there]]
        self._bound[data] = found
        return found

    def _gather(
        self, data: Data, chosen: Array, names: Sequence[str] = ("index", "log_p", "counts", "tail")
    ) -> dict[str, Array]:
        """Return tensors of pieces end to end: one copy a piece, from the mapped files."""
        places = self._places(data)[chosen]
        absent = int((places["shard"] < 0).sum())
        if absent:
            raise ArtifactError(
                f"{absent} of {len(chosen)} texts are not in teacher cache {self.path}", "fill it first"
            )
        parts: dict[str, list[Array]] = {}
        for shard, position, positions, value, values in places.tolist():
            tensors = self._maps(self._files[shard])
            for name in names:
                if name in tensors:
                    at = slice(value, value + values) if name in VALUES else slice(position, position + positions)
                    parts.setdefault(name, []).append(tensors[name][at])
        return {name: np.concatenate(found) for name, found in parts.items()}


def open_tokens(folder: Path, parts: dict[str, Any], ctx: Context, about: dict[str, Any] | None = None) -> TokenCache:
    """Return the cache of a fingerprint, with what is there looked up.

    Args:
        folder: the cache_dir.
        parts: see `fingerprint`.
        about: the teacher's name and place, for people.
    """
    cache = TokenCache(folder / FOLDER / digest(parts)[:24], parts)
    cache.read(ctx, about)
    return cache
