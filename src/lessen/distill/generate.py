"""Texts that models make for training: what generating gives, and the student's own texts (on-policy).

On-policy: at a step, texts of the data are replaced by what the student itself says to their prompts; the teacher then
judges that (Agarwal et al. 2024, https://arxiv.org/abs/2306.13649; https://arxiv.org/abs/2502.12947, algorithms 1, 2).
Sequence-level: teacher_texts.py.

A prompt of a pair is its source; of a piece of a document, what comes before the first token that counts; where the
piece begins with such, its first `prompt_tokens` tokens, of a short piece the first half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessorList

from lessen.data.sequences import IGNORE, Blocks, Pairs
from lessen.errors import RecipeError
from lessen.models.modes import evaluating
from lessen.terms import Batch

if TYPE_CHECKING:
    from lessen.distill.sequences import Said, TeacherSide
    from lessen.recipe import Distill
    from lessen.runtime import Runtime

Array = np.ndarray[Any, Any]


def respond(
    module: nn.Module,
    processor: Any,
    prompts: Sequence[Array],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    seeds: Sequence[int],
    start_id: int | None = None,
) -> dict[str, Array]:
    """Return what a model says to prompts, as a batch to learn from.

    Args:
        module: of a model that generates; in evaluation mode meanwhile.
        processor: its tokenizer: padding, end token, size of the vocabulary.
        prompts: token ids; seq2seq: sources.
        max_new_tokens: of a text at most, the end token included.
        temperature: of the sampling from the whole vocabulary; 0: the likeliest token.
        seeds: one a prompt; with the prompt it decides the text, whatever else is in the batch.
        start_id: seq2seq: what the decoder reads first; the model's own where absent.

    Returns:
        what `Blocks.batch` (pieces alone in their rows) or `Pairs.batch` returns of prompts and texts; targets are the
        tokens of the texts alone, the end token included where there is one.

    Raises:
        RecipeError: prompts and texts are longer than the model reads.
    """
    said = continuations(
        module, processor, prompts, max_new_tokens=max_new_tokens, temperature=temperature, seeds=seeds,
        start_id=start_id,
    )  # fmt: skip
    stock: Any = module
    start = _start(stock, start_id) if stock.config.is_encoder_decoder else None
    return examples(prompts, said, processor, start)


def continuations(
    module: nn.Module,
    processor: Any,
    prompts: Sequence[Array],
    *,
    max_new_tokens: int,
    beams: int = 1,
    temperature: float = 0.0,
    seeds: Sequence[int] = (),
    start_id: int | None = None,
) -> list[Array]:
    """Return the int32 tokens that follow each prompt, up to and with the end token; arguments as in `respond`.

    Greedy or by beams as transformers' `generate`; the model's own settings of generation, such as a penalty of
    repetition, are left aside. Sampling inverts the distribution at one uniform number a token (inverse transform).
    """
    stock: Any = module
    device = next(module.parameters()).device
    many = stock.config.is_encoder_decoder
    inputs = _padded(prompts, processor.pad_id, left=not many)
    _refuse_long(stock, inputs["input_ids"].shape[1], max_new_tokens)
    first = 1 if many else inputs["input_ids"].shape[1]
    stops = _stops(stock, processor)
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, num_beams=beams, do_sample=False, use_cache=True,
        eos_token_id=sorted(stops) or None, pad_token_id=processor.pad_id,
        decoder_start_token_id=_start(stock, start_id) if many else None,
    )  # fmt: skip
    rules = LogitsProcessorList([_Known(processor.vocab_size)])
    if temperature > 0:
        uniform = np.stack([np.random.default_rng(seed).random(max_new_tokens) for seed in seeds])
        rules.append(_Draw(torch.from_numpy(uniform).to(device), temperature, first))
    with evaluating(module), _settings(stock, settings), torch.no_grad():
        out = stock.generate(
            **{name: torch.from_numpy(values).to(device) for name, values in inputs.items()},
            generation_config=settings,
            logits_processor=rules,
        )
    return [_until(row[first:].astype(np.int32), stops) for row in out.cpu().numpy()]


def examples(
    prompts: Sequence[Array], said: Sequence[Array], processor: Any, start_id: int | None = None
) -> dict[str, Array]:
    """Return prompts and what was said to them as a batch, padded on the right; only what was said is a target.

    Args:
        start_id: seq2seq: what the decoder reads first; None: a language model, prompt and text are one sequence.
    """
    if start_id is not None:
        inputs = _padded(prompts, processor.pad_id, left=False)
        read = [np.concatenate([[start_id], text[:-1]]) for text in said]
        decoder = _padded(read, processor.pad_id, left=False)["input_ids"]
        return {**inputs, "decoder_input_ids": decoder, "targets": _padded(said, IGNORE, left=False)["input_ids"]}
    whole = [np.concatenate([prompt, text]) for prompt, text in zip(prompts, said, strict=True)]
    inputs = _padded([row[:-1] for row in whole], processor.pad_id, left=False)
    mask = inputs["attention_mask"]
    targets = np.full(mask.shape, IGNORE, dtype=np.int64)
    for row, (prompt, text) in enumerate(zip(prompts, said, strict=True)):
        targets[row, len(prompt) - 1 : len(prompt) - 1 + len(text)] = text
    return {**inputs, "position_ids": np.arange(mask.shape[1]) * mask, "targets": targets}


def prompts_in(data: Pairs | Blocks, rows: Array, prompt_tokens: int) -> list[tuple[str, Array]]:
    """Return (id, int32 tokens) of each prompt in rows: one a pair, one a piece; see the module's first lines."""
    if isinstance(data, Pairs):
        return [(str(data.ids[int(r)]), data.sources[int(r)]) for r in rows]
    pieces = [piece for row in rows for piece in data.rows[int(row)]]
    return [(str(data.piece_ids[p]), prompt_of(data.pieces[p], data.counted[p], prompt_tokens)) for p in pieces]


def prompt_of(piece: Array, counted: Array, prompt_tokens: int) -> Array:
    """Return the prompt in a piece: token ids [L + 1] of which prediction t counts where counted[t], [L]."""
    if counted[0]:
        return piece[: min(prompt_tokens, max(1, len(counted) // 2))]
    return piece[: int(np.argmax(counted)) + 1]


@dataclass
class OnPolicy:
    """A teacher's side that judges the student's own texts, at a share of the steps that the seed chooses.

    What is drawn depends on the seed, the step and the prompt alone, not on micro-batches or processes.
    """

    side: TeacherSide
    data: Pairs | Blocks
    processor: Any
    place: Runtime
    cfg: Distill
    seed: int
    tokens: dict[str, int] = field(default_factory=lambda: {"steps": 0, "texts": 0, "tokens": 0, "ended": 0})

    def prepare(self, module: nn.Module, batches: Sequence[Batch], step: int) -> list[Batch]:
        """Return the data's batches, or what the student says to their prompts."""
        given = list(batches)
        if own_step(self.seed, step, self.cfg.student_frac):
            self.tokens["steps"] += 1
            given = [self._own(module, batch, step) for batch in given]
        return self.side.prepare(module, given, step)

    def __call__(self, batch: Batch) -> Said:
        """Return what the teacher says to a batch."""
        return self.side(batch)

    def facts(self) -> dict[str, int]:
        """Return steps on own texts since the process began, their texts and tokens, and how many texts ended."""
        return dict(self.tokens)

    def _own(self, module: nn.Module, batch: Batch, step: int) -> Batch:
        found = prompts_in(self.data, batch.rows, self.cfg.prompt_tokens)
        times: dict[str, int] = {}  # the same prompt twice in a batch is answered twice
        seeds = []
        for name, _ in found:
            times[name] = times.get(name, -1) + 1
            seeds.append(_hash(f"{self.seed}/{step}/{name}/{times[name]}"))
        with self.place.autocast():
            arrays = respond(
                module, self.processor, [ids for _, ids in found], max_new_tokens=self.cfg.max_new_tokens,
                temperature=self.cfg.sampling_temperature, seeds=seeds, start_id=getattr(self.data, "start_id", None),
            )  # fmt: skip
        self._count(arrays["targets"], _stops(module, self.processor))
        inputs = {name: torch.from_numpy(values).to(self.place.device) for name, values in arrays.items()}
        targets = inputs.pop("targets")
        return Batch(inputs, targets, batch.rows, batch.epoch, None, float((targets != IGNORE).sum()))

    def _count(self, targets: Array, stops: frozenset[int]) -> None:
        self.tokens["texts"] += len(targets)
        self.tokens["tokens"] += int((targets != IGNORE).sum())
        self.tokens["ended"] += int(np.isin(targets, sorted(stops)).any(axis=1).sum())


def own_step(seed: int, step: int, share: float) -> bool:
    """Whether a step learns from the student's own texts: the seed draws, with probability `share`, at each step."""
    return _hash(f"{seed}/{step}/whose texts") / 2**56 < share


class _Known:
    """Never answers with rows of the vocabulary that the tokenizer does not have."""

    def __init__(self, vocab: int) -> None:
        self.vocab = vocab

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return logits or log-probabilities [rows, vocabulary], normalized again where some rows are unused."""
        if scores.shape[1] <= self.vocab:
            return scores
        unused = torch.arange(scores.shape[1], device=scores.device) >= self.vocab
        return scores.masked_fill(unused, -torch.inf).log_softmax(dim=-1)


class _Draw:
    """Leaves one token a row: the one where the cumulative distribution passes the row's uniform number."""

    def __init__(self, uniform: Tensor, temperature: float, first: int) -> None:
        self.uniform, self.temperature, self.first = uniform, temperature, first

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return 0 for the token drawn, −inf for all others."""
        reach = (scores.double() / self.temperature).softmax(dim=-1).cumsum(dim=-1)
        level = self.uniform[:, input_ids.shape[1] - self.first, None] * reach[:, -1:]
        drawn = torch.searchsorted(reach, level, right=True).clamp(max=scores.shape[1] - 1)
        return torch.full_like(scores, -torch.inf).scatter(1, drawn, 0.0)


@contextmanager
def _settings(stock: Any, settings: GenerationConfig) -> Iterator[None]:
    """Let a model generate by these settings alone: what they leave open is else taken from its own."""
    own = stock.generation_config
    stock.generation_config = settings
    try:
        yield
    finally:
        stock.generation_config = own


def _padded(rows: Sequence[Array], fill: int, *, left: bool) -> dict[str, Array]:
    width = max(len(row) for row in rows)
    ids, mask = np.full((len(rows), width), fill, dtype=np.int64), np.zeros((len(rows), width), dtype=np.int64)
    for at, row in enumerate(rows):
        span = slice(width - len(row), width) if left else slice(0, len(row))
        ids[at, span], mask[at, span] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


def _until(row: Array, stops: frozenset[int]) -> Array:
    """Return a row up to and with its first end token."""
    ended = np.flatnonzero(np.isin(row, sorted(stops)))
    return row[: ended[0] + 1] if len(ended) else row


def _stops(module: Any, processor: Any) -> frozenset[int]:
    """Return the tokens that end a text: the tokenizer's, and those that the model came with."""
    own = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
    found = {processor.eos_id, *(own if isinstance(own, list) else [own])} - {None}
    return frozenset(int(i) for i in found)


def _start(module: Any, start_id: int | None) -> int:
    if start_id is not None:
        return start_id
    own = getattr(module.generation_config, "decoder_start_token_id", None)
    return int(module.config.decoder_start_token_id if own is None else own)


def _refuse_long(module: Any, prompt: int, more: int) -> None:
    """Raise where a model with a table of positions would be asked for one beyond it."""
    most = getattr(module.config, "max_position_embeddings", None)
    if not module.config.is_encoder_decoder and most is not None and prompt + more - 1 > most:
        raise RecipeError(
            f"a prompt of {prompt} tokens and {more} new ones are more than the {most} positions of the model",
            "lower distill.max_new_tokens or data.max_length",
        )


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
