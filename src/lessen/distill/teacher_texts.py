"""Sequence-level distillation: what a teacher's beam search says to the prompts of the data, kept on disk by content.

Source: Kim and Rush 2016, Sequence-Level Knowledge Distillation, https://arxiv.org/abs/1606.07947, section 3.2.

Layout of <cache_dir>/teacher-texts/<first 24 digits of the fingerprint>, written as the cache of answers is::

    manifest.json           the fingerprint and what it was made of
    shard-<digest>.json     ids of the prompts and the SHA-256 of the tensor file
    shard-<digest>.safetensors   tokens int32 [all], end to end; lengths int32 [prompts]
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from lessen.context import Context, digest
from lessen.data.clean import ID_DIGITS
from lessen.data.sequences import Blocks, Pairs, pack
from lessen.distill.cache import claim, libraries, read_shard, write_shard
from lessen.distill.generate import continuations, prompts_in
from lessen.events import Progress
from lessen.models.modes import evaluating

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.models import Model
    from lessen.recipe import Distill
    from lessen.runtime import Runtime

Array = np.ndarray[Any, Any]
Routing = Callable[[], AbstractContextManager[Any]]
FORMAT = 1
FOLDER = "teacher-texts"
BATCH_TEXTS = 16
SHARD_TEXTS = 256


def teach_sequences(
    teacher: Artifact,
    opened: Model,
    data: Pairs | Blocks,
    cfg: Distill,
    place: Runtime,
    ctx: Context,
    *,
    router: str = "none",
    routing: Routing = nullcontext,
    batch: int = BATCH_TEXTS,
) -> list[Array]:
    """Return the teacher's text to each prompt of the data, int32 tokens with the end token where there is one.

    Texts that are on disk are taken from there; the others are generated in batches of prompts of similar length, by
    the first process alone, and written as they come: an interrupted run goes on where it stopped.

    Args:
        opened: the teacher's model, on the runtime's device.
        data: as the teacher's tokenizer cuts it; its prompts in order of `prompts_in`.
        cfg: beams, max_new_tokens, prompt_tokens.
        router: mixture-of-experts teachers: how experts are chosen, for the fingerprint.
        routing: the same, as what is entered around the search.
        batch: prompts at a time.

    Raises:
        RecipeError: prompts and texts are longer than the teacher reads.
        ArtifactError: the folder belongs to another teacher or other settings.
    """
    prompts = prompts_in(data, np.arange(len(data)), cfg.prompt_tokens)
    parts = fingerprint(teacher, opened, data, cfg, place, router)
    folder = ctx.cache_dir / FOLDER / digest(parts)[:24]
    claim(folder, parts)
    if place.rank == 0:
        there = _read(folder, ctx)
        missing = {name: ids for name, ids in prompts if name not in there}
        ctx.say(f"teacher texts: {len(dict(prompts)) - len(missing)} from the cache, {len(missing)} to generate")

        def search(some: Sequence[Array]) -> list[Array]:
            with evaluating(opened.module), place.autocast(), routing():
                return continuations(
                    opened.module, opened.processor, some, max_new_tokens=cfg.max_new_tokens, beams=cfg.beams,
                    start_id=getattr(data, "start_id", None),
                )  # fmt: skip

        _fill(folder, missing, search, batch, ctx)
    place.least(0)  # the others wait
    found = _read(folder, ctx)
    return [found[name] for name, _ in prompts]


def fingerprint(
    teacher: Artifact, opened: Model, data: Pairs | Blocks, cfg: Distill, place: Runtime, router: str
) -> dict[str, Any]:
    """Return everything that a text depends on, besides the prompt's id."""
    return {
        "format": FORMAT,
        "teacher": teacher.digest,
        "router": router,
        "processor": opened.processor.digest,
        "dtype": str(place.dtype).removeprefix("torch."),
        "beams": cfg.beams,
        "max_new_tokens": cfg.max_new_tokens,
        "prompts": "sources" if isinstance(data, Pairs) else f"pieces of {data.block}, {cfg.prompt_tokens} tokens",
        "longest": data.processor.max_length,
        "libraries": libraries(),
    }


def taught(data: Pairs | Blocks, texts: Sequence[Array], prompt_tokens: int) -> Pairs | Blocks:
    """Return the data with the teacher's texts in place of its own; ids follow the content.

    A language model's prompt and text are one piece, cut where a row of the data ends; only the text counts.

    Args:
        texts: what `teach_sequences` returned.
        prompt_tokens: as there.
    """
    prompts = prompts_in(data, np.arange(len(data)), prompt_tokens)
    if isinstance(data, Pairs):
        ids = [_id(name.encode(), text) for (name, _), text in zip(prompts, texts, strict=True)]
        return Pairs(
            data.processor, data.sources, list(texts), np.asarray(ids), np.full(len(ids), -1), data.start_id,
            data.augment,
        )  # fmt: skip
    order = [piece for row in data.rows for piece in row]
    pieces, counted = [], []
    for (_, prompt), text in zip(prompts, texts, strict=True):
        piece = np.concatenate([prompt, text]).astype(np.int32)[: data.block + 1]
        pieces.append(piece)
        counted.append(np.arange(len(piece) - 1) >= len(prompt) - 1)
    packed = any(len(row) > 1 for row in data.rows)
    rows = pack([len(p) - 1 for p in pieces], data.block) if packed else [(p,) for p in range(len(pieces))]
    ids = [_id(mask.tobytes(), piece) for piece, mask in zip(pieces, counted, strict=True)]
    document = data.document[np.asarray(order, dtype=np.int64)]
    return Blocks(
        data.processor, pieces, counted, np.asarray(ids), document, rows, data.block, data.augment
    )  # fmt: skip


def _fill(
    folder: Path,
    missing: dict[str, Array],
    search: Callable[[Sequence[Array]], list[Array]],
    batch: int,
    ctx: Context,
) -> None:
    """Generate what is missing, shard by shard; what was done when the run is stopped stays."""
    order = sorted(missing, key=lambda name: (len(missing[name]), name))
    done: dict[str, Array] = {}
    try:
        for start in range(0, len(order), batch):
            ctx.check()
            names = order[start : start + batch]
            done.update(zip(names, search([missing[name] for name in names]), strict=True))
            ctx.emit(Progress(stage=ctx.stage, step=start, total_steps=len(order), unit="teacher texts"))
            if len(done) >= SHARD_TEXTS:
                _write(folder, done)
                done = {}
    finally:
        if done:
            _write(folder, done)


def _write(folder: Path, texts: dict[str, Array]) -> None:
    lengths = np.asarray([len(text) for text in texts.values()], dtype=np.int32)
    tokens = np.concatenate(list(texts.values())).astype(np.int32)
    name = f"shard-{digest(list(texts))[:16]}"
    write_shard(folder, name, save({"tokens": tokens, "lengths": lengths}), {"ids": list(texts)})


def _read(folder: Path, ctx: Context) -> dict[str, Array]:
    """Return the texts on disk by the prompt's id; a damaged shard is left out with a warning."""
    found: dict[str, Array] = {}
    for file in sorted(folder.glob("shard-*.json")):
        try:
            body, tensors = read_shard(file)
            held = load_file(tensors)
            texts = np.split(held["tokens"], np.cumsum(held["lengths"])[:-1])
            found.update(zip(body["ids"], texts, strict=True))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            ctx.say(f"teacher texts: {file.name} is damaged ({error}); its texts are generated again", "warning")
    return found


def _id(head: bytes, tokens: Array) -> str:
    return hashlib.sha256(np.asarray(tokens, dtype="<i4").tobytes() + head).hexdigest()[:ID_DIGITS]
