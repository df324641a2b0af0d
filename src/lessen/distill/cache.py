"""Teacher answers on disk, so that the teacher reads each sample once and not once an epoch.

A row is found by its sample's content, never by its place in a batch or an epoch: shuffling, resuming, other folds and
other numbers of processes move nothing. Raw logits are kept, at temperature 1 by nature: every temperature of every
objective is exact from them.

Layout of <cache_dir>/teacher/<first 24 digits of the fingerprint>::

    manifest.json           the fingerprint and what it was made of
    shard-<digest>.json     ids of the rows and the SHA-256 of the tensor file
    shard-<digest>.safetensors   logits, fp32 [rows, outputs]

A shard is written whole or not at all, its JSON last, so an interrupted build goes on where it stopped and two
processes that build the same cache do no harm. What depends on a random view is never cached (see teaching.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from lessen.context import Context, digest, file_digest, write_atomic
from lessen.errors import ArtifactError, TrainingError
from lessen.events import Progress

if TYPE_CHECKING:
    import torch

    from lessen.artifact import Artifact
    from lessen.data.batches import Encoded
    from lessen.info import Floats

FORMAT = 1
SHARD_ROWS = 4096
BATCH_ROWS = 64
VERIFIED_ROWS = 8
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "pillow")

Score = Callable[[np.ndarray[Any, Any]], "Floats"]  # rows of the Encoded -> logits [rows, outputs]


def libraries() -> dict[str, str]:
    """Return the versions of what computes answers."""
    return {name: version(name) for name in LIBRARIES}


def fingerprint(teacher: Artifact, dtype: torch.dtype) -> dict[str, Any]:
    """Return everything that teacher answers depend on, besides the sample.

    Args:
        dtype: the precision of the matrix products (float32, bfloat16).
    """
    return {
        "format": FORMAT,
        "teacher": teacher.digest,
        "processor": teacher.processor.digest,
        "dtype": str(dtype).removeprefix("torch."),
        "transform": "none",
        "values": "raw logits, temperature 1",
        "libraries": libraries(),
    }


def claim(folder: Path, parts: dict[str, Any], about: dict[str, Any] | None = None) -> None:
    """Write the manifest of a new cache, or check the one that is there.

    Args:
        parts: what the fingerprint is made of, plain JSON values.
        about: what people want to know of it; no part of the fingerprint.

    Raises:
        ArtifactError: the folder belongs to another teacher, precision or version; names both fingerprints.
    """
    manifest, ours = folder / "manifest.json", digest(parts)
    if not manifest.is_file():
        body = {"fingerprint": ours, "of": parts, **({"about": about} if about else {})}
        write_atomic(manifest, json.dumps(body, indent=1))
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        there, of = found["fingerprint"], dict(found["of"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ArtifactError(f"{manifest} cannot be read", "delete this folder; it is computed again") from None
    if there != ours or digest(of) != there:
        names = dict.fromkeys([*parts, *of])
        differing = ", ".join(k for k in names if of.get(k) != parts.get(k)) or "the manifest itself"
        raise ArtifactError(
            f"teacher cache {folder} has fingerprint {there}, this run needs {ours} (differs in: {differing})",
            "delete this folder, or choose another cache_dir",
        )


def write_shard(folder: Path, name: str, tensors: bytes, body: dict[str, Any]) -> None:
    """Write the tensor file of a shard, then its list, each whole or not at all: without its list it does not exist."""
    file = folder / f"{name}.safetensors"
    write_atomic(file, tensors)
    write_atomic(folder / f"{name}.json", json.dumps({**body, "sha256": file_digest(file)}))


def read_shard(file: Path) -> tuple[dict[str, Any], Path]:
    """Return the list of a shard and its tensor file, whose checksum is right.

    Raises:
        ValueError, OSError, KeyError: the shard is damaged.
    """
    body: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    tensors = file.with_suffix(".safetensors")
    if file_digest(tensors) != body["sha256"]:
        raise ValueError("checksum differs")
    return body, tensors


@dataclass
class Cache:
    """The cached answers of one teacher."""

    path: Path
    parts: dict[str, Any]
    rows: dict[str, Floats] = field(default_factory=dict)  # sample id -> logits [outputs]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parts."""
        return digest(self.parts)

    def read(self, ctx: Context) -> None:
        """Read the rows there are; a damaged shard is left out with a warning and its rows are computed again.

        Raises:
            ArtifactError: the folder belongs to another teacher, precision or version; names both fingerprints.
        """
        claim(self.path, self.parts)
        for file in sorted(self.path.glob("shard-*.json")):
            try:
                ids, logits = self._shard(file)
            except (OSError, ValueError, KeyError, SafetensorError) as error:
                ctx.say(f"teacher cache: {file.name} is damaged ({error}); its rows are computed again", "warning")
                continue
            self.rows.update(zip(ids, logits, strict=True))

    def fill(self, data: Encoded, score: Score, ctx: Context) -> int:
        """Compute the rows that are missing, in batches of similar length, and return how many there were."""
        missing = np.array([i for i, sample in enumerate(data.ids) if str(sample) not in self.rows], dtype=np.int64)
        order = missing[np.argsort(data.lengths[missing], kind="stable")]
        for start in range(0, len(order), SHARD_ROWS):
            self._write(data, order[start : start + SHARD_ROWS], start, len(order), score, ctx)
        return len(order)

    def table(self, ids: Sequence[str]) -> Floats:
        """Return logits [n, outputs] of samples, in their order."""
        return np.stack([self.rows[str(i)] for i in ids])

    def verify(
        self, data: Encoded, score: Score, *, count: int = VERIFIED_ROWS, seed: int = 0, tolerance: float | None = None
    ) -> float:
        """Score random rows again and return the largest difference, relative to the spread of the logits.

        Args:
            tolerance: largest difference allowed; 0.1 % (bf16: 5 %, since padding and batch change its rounding).

        Raises:
            ArtifactError: the cache does not say what the teacher says.
        """
        if tolerance is None:
            tolerance = 1e-3 if self.parts["dtype"] == "float32" else 5e-2
        rows = np.random.default_rng(seed).permutation(len(data))[:count]
        kept, live = self.table([data.ids[i] for i in rows]), score(rows)
        scale = max(float(np.abs(live).max()), float(np.finfo(np.float32).tiny))
        worst = float(np.abs(kept - live).max()) / scale if len(rows) else 0.0
        if not worst <= tolerance:
            raise ArtifactError(
                f"teacher cache {self.path} differs from the teacher by {worst:.2%} of its largest logit",
                "delete this folder, or set distill.cache to off",
            )
        return worst

    def _shard(self, file: Path) -> tuple[list[str], Floats]:
        body, tensors = read_shard(file)
        logits = load_file(tensors)["logits"]
        if len(logits) != len(body["ids"]):
            raise ValueError(f"{len(logits)} rows for {len(body['ids'])} ids")
        return list(body["ids"]), logits

    def _write(
        self, data: Encoded, rows: np.ndarray[Any, Any], done: int, total: int, score: Score, ctx: Context
    ) -> None:
        parts = []
        for start in range(0, len(rows), BATCH_ROWS):
            ctx.check()
            parts.append(score(rows[start : start + BATCH_ROWS]))
            ctx.emit(Progress(stage=ctx.stage, step=done + start, total_steps=total, unit="teacher answers"))
        logits = np.concatenate(parts).astype(np.float32)
        ids = [str(data.ids[i]) for i in rows]
        bad = [ids[i] for i in np.flatnonzero(~np.isfinite(logits).all(axis=1))]
        if bad:
            raise TrainingError(
                f"{ctx.stage}: the teacher's answer is not finite for {len(bad)} samples ({', '.join(bad[:4])} ...)",
                "use precision fp32, or another teacher",
            )
        raw = save({"logits": np.ascontiguousarray(logits)})
        write_shard(self.path, f"shard-{digest(ids)[:16]}", raw, {"ids": ids})
        self.rows.update(zip(ids, logits, strict=True))


def open_cache(folder: Path, parts: dict[str, Any], ctx: Context) -> Cache:
    """Return the cache of a fingerprint, with what is there read."""
    cache = Cache(folder / "teacher" / digest(parts)[:24], parts)
    cache.read(ctx)
    return cache
