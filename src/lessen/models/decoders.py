"""Decoders of one shape (Llama's): grouped-query attention, gated feed-forward parts or mixtures of experts.

What is cut as a unit:

- `layer.i.heads`: one key-value head with all the query heads that read it, so that the ratio between the two, and
  with it which query reads which key, stays. Heads are cut whole: rotary tables run along a head and stay as they are.
- `layer.i.ffn`: one neuron of a gated part: a row of gate and of up, a column of down.
- `layer.i.experts.ffn`: the same neuron of every expert of a layer; its router, which reads no neuron, stays.
- `layer.i.shared.ffn`: one neuron of the experts that every token passes.

Names are those of transformers 5, where the experts of a layer are two tensors: gate_up_proj
[experts, 2 x units, width], the rows of all gates above those of all ups, and down_proj [experts, width, units].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models import mixture
from lessen.models.cut import Cut, Group, linear, multiple_of, reads
from lessen.models.encoders import FFN_MULTIPLE, example_tokens

if TYPE_CHECKING:
    from lessen.processors import TextProcessor

LLAMA_FIELDS = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "heads": "num_attention_heads",
}
EXPERT_FIELDS = {**LLAMA_FIELDS, "intermediate_size": "moe_intermediate_size"}
ROLES = {"bos_token_id": "bos", "eos_token_id": "eos"}


@dataclass(frozen=True)
class Experts:
    """How a family's configuration states its mixtures of experts."""

    count: str  # field: experts of a layer
    width: str = "moe_intermediate_size"  # field: units of an expert
    dense: Literal["none", "first", "listed"] = "none"  # layers without experts: first_k_dense_replace, mlp_only_layers
    shared: str = ""  # attribute of the block that holds the shared experts
    shared_width: str = ""  # field: their units
    shared_count: str = ""  # field: how many of an expert's width they are


@dataclass(frozen=True)
class Decoder:
    """A decoder family; the defaults are Llama's names. Paths of parts are relative to a layer."""

    name: str
    model_types: tuple[str, ...]
    fields: Mapping[str, str] = field(default_factory=lambda: LLAMA_FIELDS)
    dropouts: tuple[str, ...] = ("attention_dropout",)
    attention: Literal["grouped", "latent", "whole"] = "grouped"  # latent: DeepSeek's; whole: heads cannot be cut
    experts: Experts | None = None
    divides: bool = False  # the configuration refuses head counts that do not divide the hidden size
    pooler_argument: bool = False
    task: Literal["causal-lm"] = "causal-lm"

    def groups(self, module: nn.Module) -> list[Group]:
        """Return heads and feed-forward units of every layer."""
        found: list[Group] = []
        for i, path in enumerate(self.layers(module)):
            if self.attention != "whole":
                found.append(self._heads(module, path, i))
            block: Any = module.get_submodule(f"{path}.mlp")
            if not hasattr(block, "experts"):
                found.append(_gated(module, f"{path}.mlp", f"layer.{i}.ffn", i))
                continue
            units, at = int(block.experts.down_proj.shape[2]), f"{path}.mlp.experts"
            made, read = Cut(at, "gate_up_proj", 1, blocks=2), Cut(at, "down_proj", 2)
            multiple = multiple_of(units, FFN_MULTIPLE)
            found.append(Group(f"layer.{i}.experts.ffn", "ffn", units, (made,), (read,), i, "ffn", multiple))
            if self.experts is not None and self.experts.shared:
                found.append(_gated(module, f"{path}.mlp.{self.experts.shared}", f"layer.{i}.shared.ffn", i))
        return found

    def units(self, config: Any) -> dict[str, int]:
        """Return key-value heads and feed-forward units as the configuration has them."""
        heads = config.num_key_value_heads if self.attention == "grouped" else config.num_attention_heads
        found: dict[str, int] = {}
        for i, dense in enumerate(self._dense(config)):
            if self.attention != "whole":
                found[f"layer.{i}.heads"] = int(heads)
            if dense or self.experts is None:
                found[f"layer.{i}.ffn"] = int(config.intermediate_size)
                continue
            width = int(getattr(config, self.experts.width))
            found[f"layer.{i}.experts.ffn"] = width
            if self.experts.shared_width:
                found[f"layer.{i}.shared.ffn"] = int(getattr(config, self.experts.shared_width))
            elif self.experts.shared_count:
                found[f"layer.{i}.shared.ffn"] = width * int(getattr(config, self.experts.shared_count))
        return found

    def sync_(self, module: nn.Module) -> None:
        """Set counts and widths of every layer, and the configuration's where all layers agree."""
        config: Any = module.config
        seen: dict[str, set[Any]] = {}
        for path in self.layers(module):
            for name, value in (*self._sync_attention_(module, path), *self._sync_block_(module, path)):
                seen.setdefault(name, set()).add(value)
        same: dict[str, Any] = {name: values.pop() for name, values in seen.items() if len(values) == 1}
        if "head_dim" in same:  # hidden size / heads gives it no longer
            config.head_dim = same["head_dim"]
        if "heads" in same:
            query, key = same["heads"]
            if not self.divides or int(config.hidden_size) % query == 0:
                config.num_attention_heads, config.num_key_value_heads = query, key
        if "dense" in same:
            config.intermediate_size = same["dense"]
        if self.experts is not None:
            _state_experts_(module, self.experts, seen, same)

    def layers(self, module: nn.Module) -> list[str]:
        """Return the paths of the decoder layers."""
        path = self._list(module)
        return [f"{path}.{i}" for i in range(len(module.get_submodule(path)))]  # type: ignore[arg-type]

    def fixed(self, module: nn.Module) -> frozenset[int]:
        """Return no layer: any may go while one stays."""
        return frozenset()

    def drop_(self, module: nn.Module, keep: Sequence[int]) -> None:
        """Keep only these layers, in order; each keeps its kind (experts or not, sliding window or not)."""
        path, config = self._list(module), module.config
        there: Any = module.get_submodule(path)
        module.set_submodule(path, nn.ModuleList(there[i] for i in keep))
        for name, value in self._picked(config, keep).items():
            setattr(config, name, value)
        for i, layer in enumerate(self.layers(module)):
            attention: Any = module.get_submodule(f"{layer}.self_attn")
            attention.layer_idx = i

    def mend_(self, module: nn.Module) -> None:
        """Have experts computed in any precision and of any width; see models/mixture.py."""
        if self.experts is not None:
            mixture.use_(module)

    def embeddings(self, module: nn.Module) -> int:
        """Return the number of parameters in embedding tables; a tied head is counted here."""
        tables = {id(m.weight): m.weight.numel() for m in module.modules() if isinstance(m, nn.Embedding)}
        return sum(tables.values())

    def readers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the Linear that gives the logits."""
        return ("lm_head",)

    def shape(self, module: nn.Module) -> dict[str, Any]:
        """Return layers, widths, query and key-value heads of each layer, and experts where there are some."""
        config: Any = module.config
        now = {g.name: g.units for g in self.groups(module)}
        paths = self.layers(module)
        blocks: list[Any] = [module.get_submodule(f"{p}.mlp") for p in paths]
        heads = [self._counts(module, p) for p in paths]
        found = {
            "layers": len(paths),
            "hidden_size": int(config.hidden_size),
            "heads": [query for query, _ in heads],
            "key_value_heads": [key for _, key in heads],
            "head_dim": self._size(module, paths[0]),
            "intermediate_size": [
                now[f"layer.{i}.ffn"] if f"layer.{i}.ffn" in now else now[f"layer.{i}.experts.ffn"]
                for i in range(len(paths))
            ],
            "vocab_size": int(config.vocab_size),
        }
        if self.experts is None:
            return found
        found["experts"] = [len(b.experts.down_proj) if hasattr(b, "experts") else 0 for b in blocks]
        found["experts_per_token"] = [int(b.gate.top_k) if hasattr(b, "experts") else 0 for b in blocks]
        if self.experts.shared:
            found["shared_size"] = [now.get(f"layer.{i}.shared.ffn", 0) for i in range(len(paths))]
        return found

    def scale(self, config: Any, wanted: Mapping[str, int]) -> dict[str, Any]:
        """Return the fields of a shape: half the layers where nothing is wanted, else what is, the rest in proportion.

        A narrower model has fewer heads of the same size, as many queries to a key as before, and feed-forward parts
        in proportion. The number of experts stays. `heads` are query heads; of a mixture of experts,
        `intermediate_size` is that of an expert where the configuration tells the two apart.
        """
        from lessen.models.copying import layer_map

        old = {k: int(getattr(config, f)) for k, f in self.fields.items()}
        new = {**old, **wanted} if wanted else {**old, "layers": max(1, old["layers"] // 2)}
        values: dict[str, Any] = {self.fields[k]: new[k] for k in ("layers", "hidden_size")}
        if self.experts is not None:
            values[self.experts.count] = int(getattr(config, self.experts.count))
        share = new["hidden_size"] / old["hidden_size"]
        if "intermediate_size" in wanted:
            values[self.fields["intermediate_size"]] = new["intermediate_size"]
        for name in self._widths(config) if share != 1 else ():
            values.setdefault(name, max(1, round(int(getattr(config, name)) * share)))
        if new["layers"] != old["layers"]:
            taken = layer_map(new["layers"], old["layers"])  # of a deeper model, the added layers are like the last
            values |= self._picked(config, taken or [min(i, old["layers"] - 1) for i in range(new["layers"])])
        if share != 1 or "heads" in wanted:
            values |= self._fewer_heads(config, new["hidden_size"], wanted.get("heads"))
        return values

    def scratch(self, values: dict[str, Any], processor: TextProcessor) -> dict[str, Any]:
        """Return values with the processor's vocabulary and special tokens, and positions for its longest text.

        A padding token that is also read as text (the end token of many tokenizers) is left out: transformers would
        never train its embedding.

        Raises:
            ModelError: `max_position_embeddings` was given and is too small.
        """
        need = processor.max_length
        if values.get("max_position_embeddings", need) < need:
            raise ModelError(
                f"max_position_embeddings is {values['max_position_embeddings']}; texts of {need} tokens need {need}",
                "raise it, or lower data.max_length",
            )
        fitting: dict[str, Any] = {name: special(processor, role) for name, role in ROLES.items()}
        fitting["pad_token_id"] = None if processor.pad_id in fitting.values() else processor.pad_id
        return {"max_position_embeddings": need, **values, "vocab_size": processor.vocab_size, **fitting}

    def longest(self, config: Any) -> int | None:
        """Return the tokens that the model was made for; rotary positions go on beyond, untrained."""
        return int(config.max_position_embeddings)

    def example(self, module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
        """Return token ids and a mask of ones, shape [batch, length]."""
        return example_tokens(module, batch, length)

    def _list(self, module: nn.Module) -> str:
        return f"{module.base_model_prefix}.layers"

    def _size(self, module: nn.Module, path: str) -> int:
        """Return the width of a query head."""
        attention: Any = module.get_submodule(f"{path}.self_attn")
        return int(attention.qk_head_dim if self.attention == "latent" else attention.head_dim)

    def _counts(self, module: nn.Module, path: str) -> tuple[int, int]:
        """Return query and key-value heads of a layer."""
        attention: Any = module.get_submodule(f"{path}.self_attn")
        if self.attention == "latent":
            heads = attention.o_proj.weight.shape[1] // attention.v_head_dim
            return heads, heads
        return attention.q_proj.weight.shape[0] // attention.head_dim, (
            attention.k_proj.weight.shape[0] // attention.head_dim
        )

    def _heads(self, module: nn.Module, path: str, layer: int) -> Group:
        at, size = f"{path}.self_attn", self._size(module, path)
        attention: Any = module.get_submodule(at)
        query, heads = self._counts(module, path)
        if self.attention == "latent":
            first = "q_proj" if attention.q_proj is not None else "q_b_proj"
            widths = {first: size, "kv_b_proj": attention.qk_nope_head_dim + attention.v_head_dim}
            read = int(attention.v_head_dim)
        else:
            read = query // heads * size
            widths = {"q_proj": read, "k_proj": size, "v_proj": size}
        made = [cut for name, width in widths.items() for cut in linear(f"{at}.{name}", width)]
        out = reads(f"{at}.o_proj", read)
        return Group(f"layer.{layer}.heads", "heads", heads, tuple(made), (out,), layer, "attention")

    def _sync_attention_(self, module: nn.Module, path: str) -> list[tuple[str, Any]]:
        attention: Any = module.get_submodule(f"{path}.self_attn")
        if self.attention == "whole":
            return []
        query, key = self._counts(module, path)
        attention.num_key_value_groups = query // key
        if self.attention == "latent":
            attention.num_heads = query
            return [("heads", (query, key))]
        return [("heads", (query, key)), ("head_dim", int(attention.head_dim))]

    def _sync_block_(self, module: nn.Module, path: str) -> list[tuple[str, Any]]:
        block: Any = module.get_submodule(f"{path}.mlp")
        if not hasattr(block, "experts"):
            return [("dense", _width_(block))]
        experts, gate = block.experts, block.gate
        experts.num_experts = gate.num_experts = count = int(experts.down_proj.shape[0])
        experts.intermediate_dim = width = int(experts.down_proj.shape[2])
        found = [("count", count), ("top_k", int(gate.top_k)), ("width", width)]
        if hasattr(block, "top_k"):
            block.top_k = gate.top_k
        if self.experts is not None and self.experts.shared:
            found.append(("shared", _width_(getattr(block, self.experts.shared))))
        return found

    def _dense(self, config: Any) -> list[bool]:
        """Return of each layer whether it has one feed-forward part and no experts."""
        layers, kind = range(int(config.num_hidden_layers)), self.experts.dense if self.experts else "all"
        if kind == "first":
            return [i < int(config.first_k_dense_replace) for i in layers]
        if kind == "listed":
            step = int(config.decoder_sparse_step)
            return [i in config.mlp_only_layers or (i + 1) % step != 0 for i in layers]
        return [kind == "all" for _ in layers]

    def _picked(self, config: Any, keep: Sequence[int]) -> dict[str, Any]:
        """Return the fields of a model of these layers of a configuration."""
        values: dict[str, Any] = {self.fields["layers"]: len(keep)}
        types = getattr(config, "layer_types", None)
        if types is not None:
            values["layer_types"] = [types[i] for i in keep]
        dense = [self._dense(config)[i] for i in keep]
        if self.experts is not None and self.experts.dense == "first":
            values["first_k_dense_replace"] = sum(dense)
        elif self.experts is not None and self.experts.dense == "listed":
            values |= {"decoder_sparse_step": 1, "mlp_only_layers": [i for i, alone in enumerate(dense) if alone]}
        return values

    def _widths(self, config: Any) -> list[str]:
        """Return the fields that are widths of feed-forward parts."""
        names = ["intermediate_size"]
        names += [self.experts.width, self.experts.shared_width] if self.experts is not None else []
        return list(dict.fromkeys(name for name in names if name))

    def _fewer_heads(self, config: Any, hidden: int, wanted: int | None) -> dict[str, Any]:
        """Return head counts: those wanted, else in proportion to the width, dividing it, with the same ratio."""
        from lessen.models.build import known_fields

        query, key = int(config.num_attention_heads), int(config.num_key_value_heads)
        ratio, aim = query // key, max(1, query * hidden // int(config.hidden_size))
        fitting = [h for h in range(1, aim + 1) if hidden % h == 0]
        heads = wanted or max([h for h in fitting if h % ratio == 0] or fitting)
        key = heads // ratio if heads % ratio == 0 else heads  # where the ratio does not fit, each query has its key
        values = {"num_attention_heads": heads, "num_key_value_heads": key}
        size = getattr(config, "head_dim", None) or int(config.hidden_size) // query
        if self.attention == "grouped" and "head_dim" in known_fields(config.model_type):
            values["head_dim"] = int(size)
        return values


def special(processor: TextProcessor, role: str) -> int | None:
    """Return the id of a tokenizer's special token: bos or eos; none: it has no such token."""
    own = getattr(processor, f"{role}_id", None)
    if own is not None:
        return int(own)
    token = processor.config.get(f"{role}_token")
    found = processor.tokenizer.token_to_id(token) if isinstance(token, str) else None
    return None if found is None else int(found)


def _gated(module: nn.Module, path: str, name: str, layer: int) -> Group:
    part: Any = module.get_submodule(path)
    units = int(part.down_proj.weight.shape[1])
    made = (*linear(f"{path}.gate_proj"), *linear(f"{path}.up_proj"))
    down = reads(f"{path}.down_proj")
    return Group(name, "ffn", units, made, (down,), layer, "ffn", multiple_of(units, FFN_MULTIPLE))


def _width_(part: Any) -> int:
    """Set the width that a gated part states to what its weights are, and return it."""
    part.intermediate_size = width = int(part.down_proj.weight.shape[1])
    return width


def _state_experts_(module: nn.Module, said: Experts, seen: Mapping[str, set[Any]], same: Mapping[str, Any]) -> None:
    """Write into the configuration what all mixtures of experts have in common."""
    config: Any = module.config
    if "count" in same:
        setattr(config, said.count, same["count"])
        if hasattr(module, "num_experts"):  # of the balancing loss
            module.num_experts = same["count"]
    if "top_k" in same:
        config.num_experts_per_tok = same["top_k"]
        if hasattr(module, "num_experts_per_tok"):
            module.num_experts_per_tok = same["top_k"]
    if said.shared_count:  # one field gives both widths, times a count
        if "width" in same and "shared" in same and same["shared"] % same["width"] == 0:
            setattr(config, said.width, same["width"])
            setattr(config, said.shared_count, same["shared"] // same["width"])
        return
    if "width" in same:
        setattr(config, said.width, same["width"])
    if "shared" in same:
        setattr(config, said.shared_width, same["shared"])
