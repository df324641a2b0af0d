"""An artifact that generates: texts from texts, label words, perplexity. Imports no torch by itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen import plugins
from lessen.artifact import Answer, Artifact
from lessen.data.sequences import Blocks, Pairs, cut
from lessen.errors import ArtifactError, DataError, RecipeError

if TYPE_CHECKING:
    from lessen.info import Floats
    from lessen.processors import TextProcessor

BATCH = 16


class Generator:
    """An open artifact of a model that generates.

    Example:
        >>> import lessen
        >>> model = lessen.load("runs/demo/final")                             # doctest: +SKIP
        >>> model.generate(["translate English to French: a cup of tea"])      # doctest: +SKIP
    """

    def __init__(self, artifact: Artifact, device: str = "cpu", threads: int | None = None) -> None:
        if not artifact.info.generates:
            raise ArtifactError(f"{artifact.path} is a {artifact.info.task} model", "open it with lessen.load")
        self.artifact = artifact
        self.session: Any = artifact.open(device, threads)
        self._decode: Any = plugins.find("runtimes", "decode")

    @property
    def processor(self) -> TextProcessor:
        """The tokenizer."""
        found: Any = self.artifact.processor
        return found  # type: ignore[no-any-return]

    def generate(
        self, texts: Sequence[str], max_new_tokens: int = 64, beams: int = 1, batch_size: int = BATCH
    ) -> list[str]:
        """Return the likeliest answer to each source, or continuation of each prompt, without the prompt.

        Args:
            texts: sources, before which the prefix is put that the model was trained with (info.prefix); or prompts.
            max_new_tokens: tokens of an answer at most, the end token included. Prompt and continuation together are
                no longer than the model's longest text: of a long prompt the end is read, half that length at least,
                and a continuation ends there.
            beams: of the search; 1: greedy.

        Raises:
            RecipeError: a number is not positive.
        """
        for name, value in (("max_new_tokens", max_new_tokens), ("beams", beams), ("batch_size", batch_size)):
            if value < 1:
                raise RecipeError(f"{name} is {value}", "give 1 or more")
        items = self._prompts(texts, max_new_tokens)
        out = [""] * len(items)
        for rows in _by_length(items, batch_size):
            given = [items[row] for row in rows]
            found = self._decode.generate(
                self.session,
                self._padded(given),
                max_new_tokens=min(max_new_tokens, self._room(given)),
                beams=beams,
                eos_id=self.processor.eos_id,
                pad_id=self.processor.pad_id,
            )
            for row, ids in zip(rows, found, strict=True):
                out[row] = self.processor.decode(ids)
        return out

    def predict(self, texts: Sequence[str], batch_size: int = BATCH) -> list[Answer]:
        """Return the label word of each text, and the probability of every label word among them.

        Formula: p(label) = softmax over labels of the log-probability of the word's tokens and the end token.

        Raises:
            ArtifactError: the model's task has no label words.
        """
        info = self.artifact.info
        probabilities = info.probabilities(self.label_scores(texts, batch_size))
        return [
            Answer(info.labels[int(decided)], dict(zip(info.labels, map(float, row), strict=True)))
            for decided, row in zip(info.decide(probabilities), probabilities, strict=True)
        ]

    def label_scores(self, texts: Sequence[str], batch_size: int = BATCH) -> Floats:
        """Return the log-probability of every label word for each text, fp32 [n, labels].

        Raises:
            ArtifactError: the model's task has no label words.
        """
        labels, processor = self.artifact.info.labels, self.processor
        if not labels or self.artifact.info.task != "seq2seq":
            raise ArtifactError(
                f"{self.artifact.path} answers with free texts, not with one of some label words", "use generate"
            )
        end = self._end_id
        words = [ids if ids[-1] == end else np.append(ids, np.int32(end)) for ids in processor.encode(labels)]
        items = self._prompts(texts, 1)
        out = np.zeros((len(items), len(labels)), dtype=np.float32)
        for rows in _by_length(items, max(1, batch_size // len(labels))):
            sources = [items[row] for row in rows for _ in labels]
            pairs = Pairs(
                processor, sources, words * len(rows), np.arange(len(sources)), np.full(len(sources), -1),
                self.session.start_id,
            )  # fmt: skip
            nll, _ = self.session.score(pairs.batch(np.arange(len(pairs))))
            out[rows] = -nll.sum(axis=1).reshape(len(rows), len(labels))
        return out

    def perplexity(self, texts: Sequence[str], batch_size: int = BATCH) -> float:
        """Return exp(negative log-probability / tokens) over all tokens of the texts, their end tokens included.

        Texts longer than the model's longest are scored in pieces.

        Raises:
            ArtifactError: the model reads sources: its answers have a probability, texts alone have none.
            DataError: there is no token to score.
        """
        if self.artifact.info.task != "causal-lm":
            raise ArtifactError(f"{self.artifact.path} answers sources; texts alone have no perplexity", "use generate")
        processor = self.processor
        pieces: list[Any] = []
        for ids, _ in processor.tokens(list(texts)):
            whole = np.asarray([self._start_id, *ids, self._end_id], dtype=np.int32)
            pieces += cut(whole, np.ones(len(whole) - 1, dtype=bool), processor.max_length)
        if not pieces:
            raise DataError("there are no texts to score", "give one or more")
        data = Blocks(
            processor, [p for p, _ in pieces], [c for _, c in pieces], np.arange(len(pieces)), np.arange(len(pieces)),
            [(i,) for i in range(len(pieces))], processor.max_length,
        )  # fmt: skip
        total = sum(
            float(self.session.score(data.batch(np.asarray(rows)))[0].sum())
            for rows in _by_length(data.pieces, batch_size)
        )
        return float(np.exp(total / data.tokens.sum()))

    @property
    def _end_id(self) -> int:
        found = self.processor.eos_id
        if found is None:
            raise ArtifactError(f"the tokenizer of {self.artifact.path} has no end token", "set eos_token")
        return found

    @property
    def _start_id(self) -> int:
        return self._end_id if self.processor.bos_id is None else self.processor.bos_id

    def _prompts(self, texts: Sequence[str], new_tokens: int) -> list[Any]:
        processor = self.processor
        if self.artifact.info.task == "seq2seq":
            return processor.encode([self.artifact.info.prefix + text for text in texts])
        room = max(processor.max_length - new_tokens, processor.max_length // 2, 1)
        found = [np.asarray(ids, dtype=np.int64) for ids, _ in processor.tokens(list(texts))]
        return [np.asarray([self._start_id, *ids[max(0, len(ids) - room + 1) :]]) for ids in found]

    def _room(self, items: list[Any]) -> int:
        """Return how many tokens may follow."""
        longest = self.processor.max_length
        if self.artifact.info.task == "seq2seq":  # what follows the source is counted apart
            return sys.maxsize
        return max(1, longest - max(len(item) for item in items))

    def _padded(self, items: list[Any]) -> dict[str, Any]:
        batch = self.processor.collate(items)
        if self.artifact.info.task == "seq2seq":
            return batch
        gap = [batch["input_ids"].shape[1] - len(item) for item in items]
        return {n: np.stack([np.roll(row, g) for row, g in zip(v, gap, strict=True)]) for n, v in batch.items()}


def _by_length(items: Sequence[Any], batch_size: int) -> list[list[int]]:
    """Return rows of similar length by batches."""
    order = sorted(range(len(items)), key=lambda row: len(items[row]))
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
