"""From the last states of a language model to its logits: the one place that knows what stands between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.family import families
from lessen.models.modes import evaluating

if TYPE_CHECKING:
    from lessen.models import Model
    from lessen.processors import Processor

PROBE = 4  # tokens that an unknown architecture is tried on
TOLERANCE = 1e-3  # of the largest logit, for half precision


@dataclass(frozen=True)
class Head:
    """The last layer: logits = softcap * tanh(z / softcap), z = scale * (states @ weight.T + bias).

    Attributes:
        weight: [rows, width], the module's own parameter; rows beyond `vocab` are padding.
        bias: [rows] or none.
        scale: factor of all logits.
        softcap: bound of the logits; none: no bound.
        vocab: tokens that the tokenizer has.
    """

    weight: Tensor
    bias: Tensor | None
    scale: float
    softcap: float | None
    vocab: int

    def logits(self, states: Tensor) -> Tensor:
        """Return logits [..., rows] of states [..., width]; those of padding rows are -inf."""
        z = nn.functional.linear(states, self.weight, self.bias)
        if self.scale != 1.0:
            z = z * self.scale
        if self.softcap is not None:
            z = self.softcap * torch.tanh(z / self.softcap)
        if self.vocab < len(self.weight):
            unused = torch.arange(len(self.weight), device=z.device) >= self.vocab
            z = z.masked_fill(unused, -torch.inf)
        return z


def head(model: Model | nn.Module) -> Head:
    """Return the head of a language model; of a bare module all rows count as tokens.

    Raises:
        ModelError: the logits come about in a way that is not known here.
    """
    module: Any = model if isinstance(model, nn.Module) else model.module
    last = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
    if not isinstance(last, nn.Linear):
        raise _unknown(module, f"it has {type(last).__name__} where a Linear gives the logits")
    rows = len(last.weight)
    vocab = rows if isinstance(model, nn.Module) else min(rows, _words(model.processor))
    found = Head(last.weight, last.bias, _scale(module), _softcap(module.config), vocab)
    if module.config.model_type not in _tested():
        _try(module, found)
    return found


def states(module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Return the last states [b, t, width], after the final norm and before the head; seq2seq: the decoder's.

    Args:
        inputs: what the module is called with (input_ids, attention_mask, decoder_input_ids, position_ids).
    """
    stock: Any = module
    if not stock.config.is_encoder_decoder:
        found: Tensor = stock.base_model(**inputs, use_cache=False).last_hidden_state
        return found
    given = dict(inputs)
    reads = {name: given.pop(name) for name in list(given) if name.startswith("decoder_")}
    encoded = given.pop("encoder_outputs", None)
    if encoded is None:
        encoded = stock.get_encoder()(**given)
    answer = stock.get_decoder()(
        **{name.removeprefix("decoder_"): value for name, value in reads.items()},
        encoder_hidden_states=encoded[0],
        encoder_attention_mask=given.get("attention_mask"),
        use_cache=False,
    )
    last: Tensor = answer.last_hidden_state
    return last


@torch.no_grad()
def scores(
    states: Tensor, head: Head, targets: Tensor, chunk: int = 512, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Return the negative log-likelihood of each token [n], nats, and whether it was the likeliest, bool [n].

    Args:
        states: what the head reads, [n, width].
        targets: token ids [n]; none may be ignored.
        chunk: tokens whose logits exist at a time.
        dtype: of the logits and the result.
    """
    losses, hits = [states.new_zeros(0, dtype=dtype)], [targets.new_zeros(0, dtype=torch.bool)]
    for at in range(0, len(targets), chunk):
        wanted = targets[at : at + chunk]
        logits = head.logits(states[at : at + chunk]).to(dtype)
        losses.append(nn.functional.cross_entropy(logits, wanted, reduction="none"))
        hits.append(logits.argmax(dim=-1) == wanted)
    return torch.cat(losses), torch.cat(hits)


def tokens_(module: nn.Module, processor: Processor) -> None:
    """Make the generation settings name the processor's padding, end and start tokens, in place.

    Several end tokens that the model came with stay beside the tokenizer's.
    """
    from lessen.models.decoders import special

    settings: Any = getattr(module, "generation_config", None)
    if settings is None:
        return
    reader: Any = processor
    end = special(reader, "eos")
    settings.pad_token_id = reader.pad_id
    if end is not None:
        have = settings.eos_token_id
        several = isinstance(have, list) and end in have
        settings.eos_token_id = have if several else end
    start = special(reader, "bos")
    if start is not None:
        settings.bos_token_id = start
    config: Any = module.config
    if config.is_encoder_decoder and settings.decoder_start_token_id is None:
        stated = getattr(config, "decoder_start_token_id", None)
        settings.decoder_start_token_id = reader.pad_id if stated is None else stated


def _words(processor: Any) -> int:
    return int(processor.vocab_size)


def _scale(module: Any) -> float:
    """Return the factor between the last layer and the logits."""
    config = module.config
    if getattr(config, "scale_decoder_outputs", False):  # T5: of the states
        return float(module.model_dim**-0.5)
    for name in ("logit_scale", "lm_head_multiplier"):  # Cohere; Falcon-H1
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    if getattr(config, "logits_scaling", None) is not None:  # Granite
        return 1.0 / float(config.logits_scaling)
    return 1.0


def _softcap(config: Any) -> float | None:
    cap = getattr(config, "final_logit_softcapping", None)
    return None if cap is None else float(cap)


@cache
def _tested() -> frozenset[str]:
    """Return the architectures whose logits the tests compare."""
    return frozenset(t for one in families() for t in one.model_types)


def _try(module: Any, found: Head) -> None:
    """Raise ModelError unless a forward pass of an architecture of no family gives the head's logits."""
    device = found.weight.device
    ids = torch.arange(PROBE, device=device)[None] % len(found.weight)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if module.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    with torch.no_grad(), evaluating(module):
        want, got = module(**inputs).logits.float(), _whole(found).logits(states(module, inputs)).float()
    if want.shape != got.shape or float((want - got).abs().max()) > TOLERANCE * float(want.abs().max()):
        raise _unknown(module, "its logits are not those of its last layer")


def _whole(found: Head) -> Head:
    return Head(found.weight, found.bias, found.scale, found.softcap, len(found.weight))


def _unknown(module: nn.Module, reason: str) -> ModelError:
    config: Any = getattr(module, "config", None)
    name = getattr(config, "model_type", type(module).__name__)
    names = ", ".join(sorted(_tested()))
    return ModelError(f"the logits of {name} cannot be computed from its states: {reason}", f"known are {names}")
