"""Plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lessen.artifact import Artifact
from lessen.data.sequences import IGNORE
from lessen.errors import ArtifactError
from lessen.info import Floats
from lessen.models import open_model
from lessen.runtimes import decode
from lessen.runtimes.decode import Batch, Ids


class EagerSession:
    """A module in evaluation mode."""

    def __init__(self, module: torch.nn.Module, device: str) -> None:
        self.module, self.device = module, device
        self.dtype = next(p.dtype for p in module.parameters() if p.is_floating_point())

    @torch.inference_mode()
    def logits(self, batch: Batch) -> Floats:
        """Return logits, shape [batch, outputs], fp32."""
        inputs = {name: torch.from_numpy(values).to(self.device) for name, values in batch.items()}
        inputs = {n: t.to(self.dtype) if t.is_floating_point() else t for n, t in inputs.items()}
        out: Floats = self.module(**inputs).logits.float().cpu().numpy()
        return out


@dataclass
class State:
    """Rows under way: transformers' cache, and what each position attends to."""

    cache: Any
    mask: Tensor  # of prompts and what followed (causal-lm), of sources (seq2seq) [b, s]
    sources: Tensor | None  # encoder states [b, s, width]


class EagerDecoder:
    """A generating module in evaluation mode; see `decode.Decoder`.

    Args:
        module: a transformers class with a language model head.
        vocab: tokens that the tokenizer has; None: as many as the model.
    """

    def __init__(self, module: Any, device: str = "cpu", vocab: int | None = None) -> None:
        self.module, self.device = module, device
        self.encodes = bool(module.config.is_encoder_decoder)
        rows = int(module.get_output_embeddings().weight.shape[0])
        self.vocab = min(vocab or rows, rows)
        self.start_id = start_id(module) if self.encodes else None

    @torch.inference_mode()
    def start(self, batch: Batch) -> tuple[Floats, State]:
        """Read sources or prompts; return the logits of the next token [b, vocab], and a state."""
        ids, mask = (torch.from_numpy(batch[name]).to(self.device) for name in ("input_ids", "attention_mask"))
        if self.start_id is None:
            return self._next(ids, State(None, mask, None))
        sources = self.module.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        return self._next(ids.new_full((len(ids), 1), self.start_id), State(None, mask, sources))

    @torch.inference_mode()
    def step(self, state: State, ids: Ids) -> tuple[Floats, State]:
        """Read one more token of each row; return the next logits and state."""
        if not self.encodes:
            state.mask = torch.cat([state.mask, state.mask.new_ones(len(state.mask), 1)], dim=1)
        return self._next(torch.from_numpy(ids).to(self.device)[:, None], state)

    @torch.inference_mode()
    def reorder(self, state: State, rows: Ids) -> State:
        """Return a state whose rows are those of another."""
        index = torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(self.device)
        state.cache.batch_select_indices(index)
        sources = None if state.sources is None else state.sources[index]
        return State(state.cache, state.mask[index], sources)

    @torch.inference_mode()
    def logits(self, batch: Batch) -> Floats:
        """Return the logits of every position, [b, t, vocab], fp32."""
        logits = self.module(**self._inputs(batch), use_cache=False).logits
        out: Floats = logits[..., : self.vocab].float().cpu().numpy()
        return out

    @torch.inference_mode()
    def score(self, batch: Batch) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return negative log-probabilities and hits of the targets, [b, t]; logits exist a chunk at a time."""
        from lessen.models import language

        states = language.states(self.module, self._inputs(batch))
        head, targets = replace(language.head(self.module), vocab=self.vocab), batch["targets"]
        nll, hit = np.zeros(targets.shape), np.zeros(targets.shape, dtype=bool)
        there = targets != IGNORE
        said, chosen = torch.from_numpy(targets[there]).to(self.device), torch.from_numpy(there).to(self.device)
        found = language.scores(states[chosen], head, said, decode.CHUNK, torch.float64)
        nll[there], hit[there] = (values.cpu().numpy() for values in found)
        return nll, hit

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        return {name: torch.from_numpy(v).to(self.device) for name, v in batch.items() if name != "targets"}

    def _next(self, ids: Tensor, state: State) -> tuple[Floats, State]:
        inputs: dict[str, Any] = {"attention_mask": state.mask, "past_key_values": state.cache, "use_cache": True}
        if state.sources is not None:
            out = self.module(encoder_outputs=(state.sources,), decoder_input_ids=ids, **inputs)
        else:
            positions = (state.mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            out = self.module(input_ids=ids, position_ids=positions, logits_to_keep=1, **inputs)
        logits: Floats = out.logits[:, -1, : self.vocab].float().cpu().numpy()
        return logits, State(out.past_key_values, state.mask, state.sources)


def start_id(module: Any) -> int:
    """Return the token that a decoder reads first.

    Raises:
        ArtifactError: neither the generation settings nor the configuration name one.
    """
    for said in (getattr(module, "generation_config", None), module.config):
        found = getattr(said, "decoder_start_token_id", None)
        if found is not None:
            return int(found)
    raise ArtifactError("the model names no decoder_start_token_id", "set it in generation_config.json")


def open_session(artifact: Artifact, device: str = "cpu", threads: int | None = None) -> EagerSession | EagerDecoder:
    """Open a torch artifact.

    Args:
        artifact: a folder with model.safetensors.
        device: cpu, cuda, cuda:N.
        threads: CPU threads of this process's torch; none: as they are.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    model = open_model(artifact, device)
    if artifact.info.generates:
        text: Any = model.processor
        return EagerDecoder(model.module, device, text.vocab_size)
    return EagerSession(model.module, device)
