"""Text encoders of one shape (embeddings, layers of attention and feed-forward): their widths and how they shrink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.cut import Group, linear, multiple_of, reads

if TYPE_CHECKING:
    from lessen.processors import TextProcessor

FFN_MULTIPLE = 16  # widths that the AVX-512 and tensor-core kernels like

BERT_FIELDS = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "heads": "num_attention_heads",
}
BERT_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


@dataclass(frozen=True)
class Encoder:
    """A text encoder family; the defaults are BERT's names. Paths of parts are relative to a layer."""

    name: str
    model_types: tuple[str, ...]
    head: tuple[str, ...]  # the stock classifier's Linears
    fields: Mapping[str, str] = field(default_factory=lambda: BERT_FIELDS)
    dropouts: tuple[str, ...] = BERT_DROPOUTS
    list_path: str = "encoder.layer"  # below the bare model
    attention: str = "attention.self"  # holds the head counts
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    count: str = "num_attention_heads"  # attribute of the attention module
    position_offset: int = 0  # positions start this far above the padding id (RoBERTa: 1)
    offset_by_pad: bool = False
    pooler_argument: bool = False
    task: Literal["text-classification", "image-classification"] = "text-classification"

    def groups(self, module: nn.Module) -> list[Group]:
        """Return heads and feed-forward units of every layer."""
        found: list[Group] = []
        for i, path in enumerate(self.layers(module)):
            size = int(module.get_submodule(f"{path}.{self.attention}").attention_head_size)  # type: ignore[arg-type]
            heads = _rows(module, f"{path}.{self.query}") // size
            units = _rows(module, f"{path}.{self.up}")
            made = [c for part in (self.query, self.key, self.value) for c in linear(f"{path}.{part}", size)]
            out, up, down = reads(f"{path}.{self.out}", size), linear(f"{path}.{self.up}"), reads(f"{path}.{self.down}")
            found += [
                Group(f"layer.{i}.heads", "heads", heads, tuple(made), (out,), i, "attention"),
                Group(f"layer.{i}.ffn", "ffn", units, up, (down,), i, "ffn", multiple_of(units, FFN_MULTIPLE)),
            ]
        return found

    def units(self, config: Any) -> dict[str, int]:
        """Return heads and feed-forward units as the configuration has them."""
        heads, ffn = getattr(config, self.fields["heads"]), getattr(config, self.fields["intermediate_size"])
        found: dict[str, int] = {}
        for i in range(getattr(config, self.fields["layers"])):
            found |= {f"layer.{i}.heads": int(heads), f"layer.{i}.ffn": int(ffn)}
        return found

    def sync_(self, module: nn.Module) -> None:
        """Set head counts of every layer, and the configuration's feed-forward width where all layers agree."""
        widths = set()
        for path in self.layers(module):
            attention: Any = module.get_submodule(f"{path}.{self.attention}")
            rows = _rows(module, f"{path}.{self.query}")
            setattr(attention, self.count, rows // attention.attention_head_size)
            if hasattr(attention, "all_head_size"):
                attention.all_head_size = rows
            widths.add(_rows(module, f"{path}.{self.up}"))
        if len(widths) == 1:
            setattr(module.config, self.fields["intermediate_size"], widths.pop())

    def layers(self, module: nn.Module) -> list[str]:
        """Return the paths of the encoder layers."""
        path = self._list(module)
        return [f"{path}.{i}" for i in range(len(module.get_submodule(path)))]  # type: ignore[arg-type]

    def fixed(self, module: nn.Module) -> frozenset[int]:
        """Return no layer: any may go while one stays."""
        return frozenset()

    def drop_(self, module: nn.Module, keep: Sequence[int]) -> None:
        """Keep only these layers, in order."""
        path = self._list(module)
        there: Any = module.get_submodule(path)
        module.set_submodule(path, nn.ModuleList(there[i] for i in keep))
        holder = module.get_submodule(path.rpartition(".")[0])
        if hasattr(holder, "n_layers"):  # DistilBERT
            holder.n_layers = len(keep)  # type: ignore[assignment]
        setattr(module.config, self.fields["layers"], len(keep))
        for i, layer in enumerate(self.layers(module)):
            attention: Any = module.get_submodule(f"{layer}.{self.attention}")
            if hasattr(attention, "layer_idx"):
                attention.layer_idx = i

    def mend_(self, module: nn.Module) -> None:
        """Nothing to mend."""

    def embeddings(self, module: nn.Module) -> int:
        """Return the number of parameters in embedding tables."""
        tables = {id(m.weight): m.weight.numel() for m in module.modules() if isinstance(m, nn.Embedding)}
        return sum(tables.values())

    def readers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the stock classifier's Linears."""
        return self.head

    def shape(self, module: nn.Module) -> dict[str, Any]:
        """Return layers, hidden size, and heads and feed-forward units of each layer."""
        config: Any = module.config
        now = {g.name: g.units for g in self.groups(module)}
        count = len(self.layers(module))
        return {
            "layers": count,
            "hidden_size": int(getattr(config, self.fields["hidden_size"])),
            "heads": [now[f"layer.{i}.heads"] for i in range(count)],
            "intermediate_size": [now[f"layer.{i}.ffn"] for i in range(count)],
            "vocab_size": int(config.vocab_size),
        }

    def scale(self, config: Any, wanted: Mapping[str, int]) -> dict[str, Any]:
        """Return the fields of a shape: half the layers where nothing is wanted, else what is, the rest in proportion.

        A narrower model keeps the size of a head and the ratio of feed-forward to hidden width.
        """
        old = {k: int(getattr(config, f)) for k, f in self.fields.items()}
        new = in_proportion(old, wanted)
        hidden = new["hidden_size"]
        values: dict[str, Any] = {self.fields[k]: v for k, v in new.items()}
        if getattr(config, "embedding_size", None) == old["hidden_size"]:
            values["embedding_size"] = hidden
        return values

    def scratch(self, values: dict[str, Any], processor: TextProcessor) -> dict[str, Any]:
        """Return values with the processor's vocabulary and special tokens, and positions for its longest text.

        Raises:
            ModelError: `max_position_embeddings` was given and is too small.
        """
        shift = self.position_offset + processor.pad_id if self.offset_by_pad else self.position_offset
        need = processor.max_length + shift
        if values.get("max_position_embeddings", need) < need:
            raise ModelError(
                f"max_position_embeddings is {values['max_position_embeddings']}; texts of {processor.max_length}"
                f" tokens need {need}", "raise it, or lower data.max_length",
            )  # fmt: skip
        fitting: dict[str, Any] = {"vocab_size": processor.vocab_size, "pad_token_id": processor.pad_id}
        for name, role in (("bos_token_id", "cls_token"), ("eos_token_id", "sep_token")):
            token = processor.config.get(role)
            fitting[name] = processor.tokenizer.token_to_id(token) if isinstance(token, str) else None
        return {"max_position_embeddings": need, **values, **fitting}

    def longest(self, config: Any) -> int | None:
        """Return the most tokens that the position table serves."""
        shift = self.position_offset + int(config.pad_token_id or 0) if self.offset_by_pad else self.position_offset
        return int(config.max_position_embeddings) - shift

    def example(self, module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
        """Return token ids and a mask of ones, shape [batch, length]."""
        return example_tokens(module, batch, length)

    def _list(self, module: nn.Module) -> str:
        return f"{module.base_model_prefix}.{self.list_path}"


def _rows(module: nn.Module, path: str) -> int:
    weight: Any = module.get_submodule(path).weight
    return int(weight.shape[0])


def in_proportion(old: Mapping[str, int], wanted: Mapping[str, int]) -> dict[str, int]:
    """Return layers and widths: half the layers where nothing is wanted, else what is, the rest in proportion.

    A narrower model keeps the size of a head and the ratio of feed-forward to hidden width.
    """
    new = {**old, **wanted} if wanted else {**old, "layers": max(1, old["layers"] // 2)}
    hidden = new["hidden_size"]
    if hidden != old["hidden_size"]:
        if "intermediate_size" not in wanted:
            new["intermediate_size"] = max(1, round(old["intermediate_size"] * hidden / old["hidden_size"]))
        if "heads" not in wanted:
            size = old["hidden_size"] // old["heads"]
            new["heads"] = max(h for h in range(1, max(1, hidden // size) + 1) if hidden % h == 0)
    return new


def example_tokens(module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
    """Return token ids and a mask of ones, shape [batch, length]."""
    config: Any = module.config
    device = next(module.parameters()).device
    low = min(5, int(config.vocab_size) - 1)  # above the special tokens of our own tokenizers
    ids = torch.arange(batch * length, device=device).reshape(batch, length) % (int(config.vocab_size) - low) + low
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
