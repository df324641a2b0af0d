"""The teacher's distribution over tokens, as it is stored or compared: scored without its logits ever being whole.

Draws depend on the seed, the text (its content hash) and the place in it alone, in blocks of DRAW_BLOCK positions, so
that they are the same in every batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from lessen.data.sequences import IGNORE
from lessen.distill.divergence import wide
from lessen.distill.outputs import Frozen
from lessen.distill.tokens.cache import TokenCache, fingerprint, open_tokens
from lessen.distill.tokens.shards import Scored
from lessen.distill.tokens.targets import SparseTargets, entropy, sampled, top_k
from lessen.errors import RecipeError, TrainingError
from lessen.models import language

if TYPE_CHECKING:
    from torch import nn

    from lessen.artifact import Artifact
    from lessen.context import Context
    from lessen.distill.tokens.cache import Piece, Score
    from lessen.distill.tokens.pieces import Array, Data
    from lessen.models import Model
    from lessen.models.language import Head
    from lessen.recipe import Distill
    from lessen.runtime import Runtime

DRAW_BLOCK = 128

Routing = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Keep:
    """What is kept of a distribution: `size` tokens (top_k), or as many draws (sampled) with a seed."""

    kind: Literal["top_k", "sampled"]
    size: int
    seed: int = 0


def keep(cfg: Distill, seed: int) -> Keep:
    """Return what a recipe stores.

    Raises:
        RecipeError: it wants the whole distribution, which is not stored.
    """
    if cfg.targets == "dense":
        raise RecipeError("distill.targets is dense: whole distributions are not stored", "use top_k or sampled")
    return Keep("sampled", cfg.draws, seed) if cfg.targets == "sampled" else Keep("top_k", cfg.top_k)


def teacher_targets(
    module: nn.Module,
    head: Head,
    inputs: Mapping[str, Tensor],
    mask: Tensor,
    how: Keep,
    pieces: Sequence[Piece] | None = None,
    *,
    chunk: int = 256,
) -> SparseTargets:
    """Return a teacher's targets at the supervised positions of a batch, row-major, on its device.

    Args:
        module: in evaluation mode.
        inputs: what the module is called with; on its device.
        mask: bool [b, t], the supervised positions.
        pieces: id and number of supervised positions of each piece, in their order; sampled needs them for its seeds.
        chunk: positions whose logits exist at a time.

    Raises:
        TrainingError: an answer is not finite.
    """
    parts = list(_chunks(module, head, inputs, mask, how, pieces, chunk))
    if parts and bool(torch.cat([part.entropy for part in parts]).isnan().any()):
        raise TrainingError("the teacher's answer is not finite", "use precision fp32, or another teacher")
    return _joined([part.targets for part in parts])


def scorer(
    module: nn.Module, head: Head, how: Keep, place: Runtime, *, chunk: int = 256, routing: Routing = nullcontext
) -> Score:
    """Return what fills and verifies a cache: the teacher in eval mode, without gradients, in the runtime's precision.

    Args:
        module, head, how, chunk: as in `teacher_targets`.
        routing: mixture-of-experts teachers: which experts speak; entered for each batch.
    """
    frozen = Frozen(module, place)

    def score(batch: dict[str, Array], pieces: Sequence[Piece]) -> Scored:
        inputs = {name: torch.from_numpy(values).to(place.device) for name, values in batch.items()}
        mask = inputs.pop("targets") != IGNORE
        frozen.module.eval()
        with torch.inference_mode(), place.autocast(), routing():
            parts = list(_chunks(frozen.module, head, inputs, mask, how, pieces, chunk))
            told = _joined([part.targets for part in parts])
            entropies, kept = (torch.cat([getattr(part, n) for part in parts]) for n in ("entropy", "kept"))
        tail = None if told.tail is None else told.tail.cpu().numpy()
        return Scored(
            told.index.cpu().numpy(), told.log_p.cpu().numpy(), tail, entropies.cpu().numpy(), kept.cpu().numpy()
        )

    return score


def stored(
    teacher: Artifact,
    opened: Model,
    data: Data,
    cfg: Distill,
    place: Runtime,
    ctx: Context,
    *,
    router: str | None = None,
    routing: Routing = nullcontext,
) -> tuple[TokenCache, dict[str, Any]]:
    """Return a cache that holds all of `data`, and facts for the manifest; several processes share the work.

    Args:
        opened: the teacher's model, on the runtime's device.
        data: as the teacher's tokenizer cuts it.
        router: name and version of the routing, where the artifact does not say it all: a router that learned on.
        routing: as in `scorer`.

    Raises:
        TrainingError: the teacher's answer is not finite.
        ArtifactError: what is stored is not what this teacher says.
    """
    cache, score = opened_cache(teacher, opened, data, cfg, place, ctx, router=router, routing=routing)
    return cache, filled(cache, data, score, place, ctx)


def filled(cache: TokenCache, data: Data, score: Score, place: Runtime, ctx: Context) -> dict[str, Any]:
    """Compute what is missing, verify, and return facts; raises as `stored`."""
    place.least(0)  # all processes share what is missing now
    asked = len(cache.missing(data))
    cache.fill(data, score, ctx, share=(place.rank, place.world))
    place.least(0)
    cache.read(ctx)
    cache.note(data)
    away = cache.verify(data, score, seed=ctx.seed)
    facts = {
        "from": "cache",
        "folder": str(cache.path),
        "fingerprint": cache.fingerprint,
        "targets": {name: cache.parts[name] for name in ("targets", "k", "draws", "seed") if name in cache.parts},
        "dtype": cache.parts["dtype"],
        "pieces_asked": len(cache.pieces(data).ids),
        "pieces_computed": asked,
        "verified": {"mean": away.mean, "largest": away.largest, "tokens": away.tokens},
        **cache.facts(),
    }
    ctx.say(
        f"teacher targets: {asked} texts computed, {facts['pieces_asked'] - asked} from the cache; "
        f"{facts['bytes_per_token']:.0f} bytes a token (fingerprint {cache.fingerprint[:12]})"
    )
    return facts


def opened_cache(
    teacher: Artifact,
    opened: Model,
    data: Data,
    cfg: Distill,
    place: Runtime,
    ctx: Context,
    *,
    router: str | None = None,
    routing: Routing = nullcontext,
) -> tuple[TokenCache, Score]:
    """Return the cache of a recipe as it is, and what fills and verifies it; arguments as in `stored`."""
    how, head = keep(cfg, ctx.seed), language.head(opened)
    parts = fingerprint(
        teacher, data, place.dtype, vocab=head.vocab, kind=how.kind, size=how.size, seed=how.seed,
        router=router or cfg.router or "none",
    )  # fmt: skip
    about = {"teacher": str(teacher.path), "source": teacher.info.source, "family": teacher.info.family}
    score = scorer(opened.module, head, how, place, chunk=cfg.chunk_tokens, routing=routing)
    return open_tokens(ctx.cache_dir, parts, ctx, about), score


@dataclass(frozen=True)
class _Chunk:
    """Targets of some positions; entropy is NaN where an answer is not finite."""

    targets: SparseTargets
    entropy: Tensor
    kept: Tensor


def _chunks(
    module: nn.Module,
    head: Head,
    inputs: Mapping[str, Tensor],
    mask: Tensor,
    how: Keep,
    pieces: Sequence[Piece] | None,
    chunk: int,
) -> Iterator[_Chunk]:
    """Yield the targets of the supervised positions; logits of at most `chunk` of them exist (samples: DRAW_BLOCK)."""
    states = language.states(module, inputs)[mask]
    if how.kind == "top_k":
        spans = [(slice(at, at + chunk), 0) for at in range(0, len(states), chunk)]
    else:
        spans = list(_blocks(pieces or (), how.seed))
    for span, seed in spans or [(slice(0, 0), 0)]:
        logits = head.logits(states[span])[:, : head.vocab]
        fine = wide(logits).amax(dim=1).isfinite()
        spread = entropy(logits).masked_fill(~fine, torch.nan)
        if how.kind == "top_k":
            targets = top_k(logits, how.size)
            yield _Chunk(targets, spread, targets.mass)
            continue
        generator = torch.Generator(logits.device).manual_seed(seed)
        targets = sampled(logits.masked_fill(~fine[:, None], 0.0), how.size, generator)  # NaN has none; entropy tells
        log_p = torch.log_softmax(wide(logits), dim=1).gather(1, targets.index.clamp_min(0))
        kept = log_p.exp().masked_fill(targets.index < 0, 0.0).sum(dim=1)
        yield _Chunk(targets, spread, kept)


def _blocks(pieces: Sequence[Piece], seed: int) -> Iterator[tuple[slice, int]]:
    """Yield the positions that are drawn together, and the seed of their draws."""
    start = 0
    for name, count in pieces:
        for at in range(0, count, DRAW_BLOCK):
            text = f"{seed} {name} {at // DRAW_BLOCK}"
            number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
            yield slice(start + at, start + min(at + DRAW_BLOCK, count)), number
        start += count


def _joined(parts: Sequence[SparseTargets]) -> SparseTargets:
    """Return targets end to end, padded to the same width."""
    width = max(part.index.shape[1] for part in parts)
    index = torch.cat([functional.pad(part.index, (0, width - part.index.shape[1]), value=-1) for part in parts])
    log_p = torch.cat(
        [functional.pad(part.log_p, (0, width - part.log_p.shape[1]), value=-torch.inf) for part in parts]
    )
    tails = [part.tail for part in parts if part.tail is not None]
    return SparseTargets(index, log_p, torch.cat(tails) if tails else None)
