"""GPT-2 (DistilGPT2 and DialoGPT are GPT-2).

Its linear layers are `Conv1D`: weights are [in, out]. One of them makes queries, keys and values side by side, so that
a head is three runs of its outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.cut import Cut, Group, multiple_of
from lessen.models.decoders import special
from lessen.models.encoders import FFN_MULTIPLE, example_tokens, in_proportion

if TYPE_CHECKING:
    from lessen.processors import TextProcessor

LIST = "transformer.h"
FIELDS = {"layers": "n_layer", "hidden_size": "n_embd", "intermediate_size": "n_inner", "heads": "n_head"}


@dataclass(frozen=True)
class GPT2:
    """The family of GPT-2 models."""

    name: str = "gpt2"
    model_types: tuple[str, ...] = ("gpt2",)
    task: Literal["causal-lm"] = "causal-lm"
    fields: Mapping[str, str] = field(default_factory=lambda: FIELDS)
    dropouts: tuple[str, ...] = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
    pooler_argument: bool = False

    def groups(self, module: nn.Module) -> list[Group]:
        """Return heads and feed-forward units of every layer."""
        found: list[Group] = []
        for i, path in enumerate(self.layers(module)):
            attention: Any = module.get_submodule(f"{path}.attn")
            size = int(attention.head_dim)
            heads, units = _inputs(module, f"{path}.attn.c_proj") // size, _inputs(module, f"{path}.mlp.c_proj")
            made, read = _makes(f"{path}.attn.c_attn", size, 3), _reads(f"{path}.attn.c_proj", size)
            up, down = _makes(f"{path}.mlp.c_fc"), _reads(f"{path}.mlp.c_proj")
            found += [
                Group(f"layer.{i}.heads", "heads", heads, made, (read,), i, "attention"),
                Group(f"layer.{i}.ffn", "ffn", units, up, (down,), i, "ffn", multiple_of(units, FFN_MULTIPLE)),
            ]
        return found

    def units(self, config: Any) -> dict[str, int]:
        """Return heads and feed-forward units as the configuration has them."""
        found: dict[str, int] = {}
        for i in range(config.n_layer):
            found |= {f"layer.{i}.heads": int(config.n_head), f"layer.{i}.ffn": _inner(config)}
        return found

    def sync_(self, module: nn.Module) -> None:
        """Set head counts of every layer, and the configuration's feed-forward width where all layers agree.

        The configuration cannot tell head counts: it takes the size of a head to be width / heads.
        """
        config: Any = module.config
        widths = set()
        for path in self.layers(module):
            attention: Any = module.get_submodule(f"{path}.attn")
            attention.split_size = _inputs(module, f"{path}.attn.c_proj")
            attention.num_heads = attention.split_size // attention.head_dim
            widths.add(_inputs(module, f"{path}.mlp.c_proj"))
        if len(widths) == 1 and widths != {_inner(config)}:
            config.n_inner = widths.pop()

    def layers(self, module: nn.Module) -> list[str]:
        """Return the paths of the layers."""
        return [f"{LIST}.{i}" for i in range(len(module.get_submodule(LIST)))]  # type: ignore[arg-type]

    def fixed(self, module: nn.Module) -> frozenset[int]:
        """Return no layer: any may go while one stays."""
        return frozenset()

    def drop_(self, module: nn.Module, keep: Sequence[int]) -> None:
        """Keep only these layers, in order.

        A model that divides the scores of layer i by i + 1 goes on to do so with the new numbers; the queries make up
        for it.
        """
        config: Any = module.config
        there: Any = module.get_submodule(LIST)
        module.set_submodule(LIST, nn.ModuleList(there[i] for i in keep))
        config.n_layer = len(keep)
        for i, (path, old) in enumerate(zip(self.layers(module), keep, strict=True)):
            attention: Any = module.get_submodule(f"{path}.attn")
            attention.layer_idx = i
            if config.scale_attn_by_inverse_layer_idx and i != old:
                attention.scaling *= (old + 1) / (i + 1)
                with torch.no_grad():
                    for value in (attention.c_attn.weight, attention.c_attn.bias):
                        value[..., : attention.split_size] *= (i + 1) / (old + 1)

    def mend_(self, module: nn.Module) -> None:
        """Nothing to mend."""

    def embeddings(self, module: nn.Module) -> int:
        """Return the number of parameters in the tables of tokens and positions."""
        tables: list[Any] = [module.get_submodule(f"transformer.{name}") for name in ("wte", "wpe")]
        return sum(int(table.weight.numel()) for table in tables)

    def readers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the Linear that gives the logits."""
        return ("lm_head",)

    def shape(self, module: nn.Module) -> dict[str, Any]:
        """Return layers, hidden size, and heads and feed-forward units of each layer."""
        config: Any = module.config
        now = {g.name: g.units for g in self.groups(module)}
        count = len(self.layers(module))
        return {
            "layers": count,
            "hidden_size": int(config.n_embd),
            "heads": [now[f"layer.{i}.heads"] for i in range(count)],
            "intermediate_size": [now[f"layer.{i}.ffn"] for i in range(count)],
            "vocab_size": int(config.vocab_size),
        }

    def scale(self, config: Any, wanted: Mapping[str, int]) -> dict[str, Any]:
        """Return the fields of a shape: half the layers where nothing is wanted, else what is, the rest in proportion.

        A narrower model keeps the size of a head and the ratio of feed-forward to hidden width.
        """
        old = {"layers": config.n_layer, "hidden_size": config.n_embd, "heads": config.n_head}
        old |= {"intermediate_size": _inner(config)}
        return {self.fields[k]: v for k, v in in_proportion(old, wanted).items()}

    def scratch(self, values: dict[str, Any], processor: TextProcessor) -> dict[str, Any]:
        """Return values with the processor's vocabulary and special tokens, and positions for its longest text.

        Raises:
            ModelError: `n_positions` was given and is too small.
        """
        need = processor.max_length
        if values.get("n_positions", need) < need:
            raise ModelError(
                f"n_positions is {values['n_positions']}; texts of {need} tokens need {need}",
                "raise it, or lower data.max_length",
            )
        eos = special(processor, "eos")
        start = special(processor, "bos")
        return {
            "n_positions": need,
            **values,
            "vocab_size": processor.vocab_size,
            "bos_token_id": eos if start is None else start,
            "eos_token_id": eos,
            "pad_token_id": processor.pad_id,
        }

    def longest(self, config: Any) -> int | None:
        """Return the most tokens that the position table serves."""
        return int(config.n_positions)

    def example(self, module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
        """Return token ids and a mask of ones, shape [batch, length]."""
        return example_tokens(module, batch, length)


def _makes(path: str, width: int = 1, blocks: int = 1) -> tuple[Cut, ...]:
    """Return the producer slices of a Conv1D: columns of the weight, entries of the bias."""
    return Cut(path, "weight", 1, width, blocks), Cut(path, "bias", 0, width, blocks)


def _reads(path: str, width: int = 1) -> Cut:
    """Return the consumer slice of a Conv1D: rows of the weight."""
    return Cut(path, "weight", 0, width)


def _inputs(module: nn.Module, path: str) -> int:
    weight: Any = module.get_submodule(path).weight
    return int(weight.shape[0])


def _inner(config: Any) -> int:
    return int(config.n_inner if config.n_inner is not None else 4 * config.n_embd)


FAMILY = GPT2()
