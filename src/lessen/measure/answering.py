"""How fast a model generates: the time to its first token, and of each further one.

Every artifact reads prompts of the same number of tokens (sequence to sequence: the same sources) and writes the same
number of new tokens, greedy, an end token among them or not. `first_token_ms` is from the prompt to the first token;
`token_ms` is of each further token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.errors import DataError
from lessen.measure import inputs
from lessen.measure.metric import Metric, Metrics, measured, missing

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.data import Split
    from lessen.recipe import Measure

PROMPT = 32  # tokens that a language model reads first
TOKENS = 32  # new tokens of a timed answer at most
WARM_CALLS = 2  # whole answers per batch size
MIN_CALLS = 10  # whole answers per artifact and batch size, over all rounds
P95_TOKENS = 40  # tokens below which a percentile would rest on one or two of them
UNITS = {
    "answer_tokens": "tokens", "first_token_ms": "ms", "first_token_p95_ms": "ms", "token_ms": "ms",
    "token_p95_ms": "ms", "tokens_per_s": "per_s", "batch_first_token_ms": "ms", "batch_token_ms": "ms",
    "batch_tokens_per_s": "per_s",
}  # fmt: skip
_CONTEXTS = ("n_positions", "max_position_embeddings")


@dataclass(frozen=True)
class Shape:
    """What every artifact is given and asked for."""

    prompt: int  # tokens of a language model's prompt
    tokens: int  # new tokens


def shape(artifacts: Iterable[Artifact], cfg: Measure) -> Shape:
    """Return prompt and answer lengths that fit the shortest context among the artifacts."""
    contexts = [n for a in artifacts if a.info.task == "causal-lm" and (n := _context(a)) is not None]
    room = min(contexts, default=PROMPT + TOKENS)
    prompt = min(PROMPT, max(1, room // 2))
    return Shape(prompt, max(2, min(TOKENS, cfg.max_new_tokens, room - prompt)))


def probe(test: Split, artifact: Artifact, batch_size: int, asked: Shape) -> inputs.Probe:
    """Encode typical test samples into batches of one shape: inputs, sources, or prompts of a language model."""
    if artifact.info.task != "causal-lm":
        return inputs.probe(test, artifact.processor, batch_size)
    processor: Any = artifact.processor
    start = processor.eos_id if processor.bos_id is None else processor.bos_id
    rows = inputs.typical_rows(test, batch_size)
    found = processor.tokens([test.inputs[i] for i in rows])
    stream = np.concatenate([ids for ids, _ in found]).astype(np.int64)
    if not len(stream):
        raise DataError("the test documents have no tokens", "give texts")
    # documents follow each other, so that every prompt has all its tokens
    count = max(1, min(inputs.POOL, len(stream) // asked.prompt) // batch_size) * batch_size
    prompts = np.resize(stream, (count, asked.prompt))
    prompts[:, 0] = start
    batches = [
        {"input_ids": part, "attention_mask": np.ones_like(part)} for part in np.split(prompts, count // batch_size)
    ]
    return inputs.Probe(batches, batch_size, asked.prompt, "tokens")


def summarise(
    times: Mapping[int, Sequence[Sequence[Sequence[float]]]], tokens: int, batch_size: int, error: str | None
) -> Metrics:
    """Return the metrics of tokens.

    Args:
        times: ms of each token, by batch size: rounds: calls: tokens.
        tokens: new tokens of an answer.
    """
    if error or 1 not in times or batch_size not in times:
        return {name: missing(unit, error or "no round was finished") for name, unit in UNITS.items()}
    one, many = times[1], times[batch_size]
    return {
        "answer_tokens": measured(tokens, "tokens"),
        "first_token_ms": _percentile(_first(one), 50),
        "first_token_p95_ms": _percentile(_first(one), 95),
        "token_ms": _percentile(_further(one), 50),
        "token_p95_ms": _percentile(_further(one), 95),
        "tokens_per_s": _rate(one, tokens),
        "batch_first_token_ms": _percentile(_first(many), 50),
        "batch_token_ms": _percentile(_further(many), 50),
        "batch_tokens_per_s": _rate(many, tokens * batch_size),
    }


def _first(rounds: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    return [[call[0] for call in calls] for calls in rounds]


def _further(rounds: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    return [[ms for call in calls for ms in call[1:]] for calls in rounds]


def _rate(rounds: Sequence[Sequence[Sequence[float]]], tokens: int) -> Metric:
    """Return tokens a second of whole answers, prompt included."""
    calls = [[sum(call) for call in calls] for calls in rounds]
    each = [tokens * len(c) * 1e3 / sum(c) for c in calls]
    flat = [ms for c in calls for ms in c]
    low, high = np.percentile(each, [10, 90])
    return measured(tokens * len(flat) * 1e3 / sum(flat), "per_s", n=len(flat), spread=(float(low), float(high)))


def _percentile(rounds: list[list[float]], percent: int) -> Metric:
    flat = [ms for r in rounds for ms in r]
    if percent > 50 and len(flat) < P95_TOKENS:
        return missing("ms", f"{len(flat)} were timed, a {percent}th percentile needs {P95_TOKENS}")
    low, high = np.percentile([np.percentile(r, percent) for r in rounds], [10, 90])
    return measured(float(np.percentile(flat, percent)), "ms", n=len(flat), spread=(float(low), float(high)))


def _context(artifact: Artifact) -> int | None:
    """Return the longest text that a model reads, where its configuration says it."""
    file = artifact.path / "config.json"
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return next((int(config[name]) for name in _CONTEXTS if config.get(name)), None)
