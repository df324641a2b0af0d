"""Generation in ONNX Runtime: graphs that take what was computed for earlier tokens, and give it back one longer.

Graphs (written by `export/tracing.py`; b rows, q tokens read now, p read before, s of the source; past may be empty):

    model.onnx      input_ids, position_ids [b, q], attention_mask [b, p + q], positions [n], past_key_i, past_value_i
                    -> logits [b, n, vocab] at the positions of q named, present_key_i, present_value_i
    encoder.onnx    input_ids, attention_mask [b, s] -> cross_key_i, cross_value_i of every decoder layer
    decoder.onnx    input_ids [b, q], attention_mask [b, s], past_*, cross_* -> logits [b, q, vocab], present_*

What attention reads of the source is computed once, by the encoder's file. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lessen.errors import ArtifactError
from lessen.info import Floats
from lessen.runtimes import decode, need
from lessen.runtimes.decode import Batch, Ids
from lessen.runtimes.onnx import PIP

START, TOKENS = "lessen.decoder_start_id", "lessen.tokens_per_call"  # keys of the metadata in the file
Values = dict[str, Any]  # name -> onnxruntime's OrtValue


@dataclass
class State:
    """Rows under way."""

    past: Values
    cross: Values  # seq2seq: keys and values of the sources
    mask: Ids  # of prompts and what followed (causal-lm), of sources (seq2seq)
    sources: Ids  # seq2seq: row of the first batch that each row reads; beams of one text keep theirs when reordered


class OnnxDecoder:
    """Open ONNX files that generate; see `decode.Decoder`.

    Args:
        sessions: of model.onnx; or of encoder.onnx and decoder.onnx.
        vocab: tokens that the tokenizer has; None: as many as the model.
    """

    def __init__(self, sessions: list[Any], vocab: int | None = None) -> None:
        self._ort = need("onnxruntime", PIP)
        self.encoder, self.decoder = (sessions[0] if len(sessions) == 2 else None), sessions[-1]
        self.inputs = {value.name: value for value in self.decoder.get_inputs()}
        self.outputs = [value.name for value in self.decoder.get_outputs()]
        rows = self.decoder.get_outputs()[0].shape[-1]
        self.vocab = min(vocab or rows, rows)
        said = self.decoder.get_modelmeta().custom_metadata_map
        self.start_id = int(said[START]) if self.encoder is not None else None
        self.tokens_per_call = int(said[TOKENS]) if TOKENS in said else None

    def start(self, batch: Batch) -> tuple[Floats, State]:
        """Read sources or prompts; return the logits of the next token [b, vocab], and a state."""
        state = self._fresh(batch)
        ids = batch["input_ids"] if self.start_id is None else np.full((len(state.mask), 1), self.start_id)
        logits = np.empty((0, 0, 0), dtype=np.float32)
        for span in self._spans(ids, len(ids[0])):
            logits, state = self._read(ids[:, span], state, span.stop, last=True)
        return logits[:, -1], state

    def step(self, state: State, ids: Ids) -> tuple[Floats, State]:
        """Read one more token of each row; return the next logits and state."""
        if self.encoder is None:
            grown = np.concatenate([state.mask, np.ones((len(ids), 1), dtype=np.int64)], axis=1)
            state = State(state.past, state.cross, grown, state.sources)
        logits, state = self._read(np.asarray(ids)[:, None], state, state.mask.shape[1], last=True)
        return logits[:, -1], state

    def reorder(self, state: State, rows: Ids) -> State:
        """Return a state whose rows are those of another."""
        sources = state.sources[rows]
        kept = np.array_equal(sources, state.sources)
        cross = state.cross if kept else self._taken(state.cross, rows)
        return State(self._taken(state.past, rows), cross, state.mask[rows], sources)

    def logits(self, batch: Batch) -> Floats:
        """Return the logits of every position of a batch of `Pairs` or `Blocks`, [b, t, vocab]; 0 where padding is."""
        shape = (batch["decoder_input_ids"] if self.encoder is not None else batch["input_ids"]).shape
        out = np.zeros((*shape, self.vocab), dtype=np.float32)
        for places, logits in self._chunks(batch):
            for (row, span), one in zip(places, logits, strict=True):
                out[row, span] = one[: span.stop - span.start]
        return out

    def score(self, batch: Batch) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return negative log-probabilities and hits of the targets, [b, t]; logits exist a chunk at a time."""
        targets = batch["targets"]
        nll, hit = np.zeros(targets.shape), np.zeros(targets.shape, dtype=bool)
        for places, logits in self._chunks(batch):
            for (row, span), one in zip(places, logits, strict=True):
                wide = span.stop - span.start
                found = decode.scored(one[None, :wide], targets[None, row, span])
                nll[row, span], hit[row, span] = found[0][0], found[1][0]
        return nll, hit

    def _chunks(self, batch: Batch) -> Iterator[tuple[list[tuple[int, slice]], Floats]]:
        """Yield where positions stand in the batch, one place a row, and their logits."""
        if self.encoder is not None:
            ids, given = batch["decoder_input_ids"], batch
            places = [(row, slice(0, ids.shape[1])) for row in range(len(ids))]
        else:
            given, places = decode.apart(batch)
            ids = given["input_ids"]
        state = self._fresh(given)
        for span in self._spans(ids, max(1, decode.CHUNK // len(ids))):
            logits, state = self._read(ids[:, span], state, span.stop, last=False)
            yield (
                [
                    (row, slice(at.start + span.start, max(at.start + span.start, min(at.start + span.stop, at.stop))))
                    for row, at in places
                ],
                logits,
            )

    def _spans(self, ids: Ids, most: int) -> Iterator[slice]:
        if self.tokens_per_call is not None:
            most = min(most, max(1, self.tokens_per_call // len(ids)))
        for at in range(0, ids.shape[1], most):
            yield slice(at, min(at + most, ids.shape[1]))

    def _fresh(self, batch: Batch) -> State:
        mask, cross = np.asarray(batch["attention_mask"], dtype=np.int64), {}
        if self.encoder is not None:
            given = {name: self._value(batch[name]) for name in ("input_ids", "attention_mask")}
            names = [value.name for value in self.encoder.get_outputs()]
            cross = dict(zip(names, self.encoder.run_with_ort_values(None, given), strict=True))
        past = {
            name: self._value(np.zeros((len(mask), value.shape[1], 0, value.shape[3]), dtype=np.float32))
            for name, value in self.inputs.items()
            if name.startswith("past_")
        }
        return State(past, cross, mask, np.arange(len(mask)))

    def _read(self, ids: Ids, state: State, end: int, *, last: bool) -> tuple[Floats, State]:
        """Read tokens; return the logits of all of them, or of the last, and the state after them.

        Args:
            end: columns of the mask up to and with these tokens; causal-lm.
        """
        mask, more = state.mask, {}
        if self.encoder is None:
            mask = mask[:, :end]
            places = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, -ids.shape[1] :]
            wanted = np.arange(ids.shape[1])[-1:] if last else np.arange(ids.shape[1])
            more = {"position_ids": places, "positions": wanted}
        given = {"input_ids": ids, "attention_mask": mask, **more}
        values = {name: self._value(given[name]) for name in self.inputs if name in given}
        answer = self.decoder.run_with_ort_values(None, {**values, **state.past, **state.cross})
        present = dict(zip(self.outputs, answer, strict=True))
        logits: Floats = present.pop("logits").numpy()[..., : self.vocab]
        if not all(name.startswith("present_") for name in present):
            raise ArtifactError(f"the file answers {', '.join(present)}", "make the artifact again")
        past = {name.replace("present_", "past_", 1): value for name, value in present.items()}
        return logits, State(past, state.cross, state.mask, state.sources)

    def _value(self, array: NDArray[Any]) -> Any:
        array = array.astype(np.int64) if array.dtype.kind in "iu" else array
        return self._ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))

    def _taken(self, values: Values, rows: Ids) -> Values:
        return {name: self._value(value.numpy()[rows]) for name, value in values.items()}
