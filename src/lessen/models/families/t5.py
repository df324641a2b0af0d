"""T5 (FLAN-T5 and ByT5 are T5) and mT5.

The first block of a stack holds the table of relative position biases, one column a head, and every block of the stack
adds the same bias to its scores. So a head of self-attention is a unit of the whole stack: it is cut in all blocks
together, with its column of the table, and the stack stays one that the stock class can run. Heads of cross-attention
have no bias and are cut in each block as it likes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.cut import Cut, Group, linear, multiple_of, reads
from lessen.models.decoders import special
from lessen.models.encoders import FFN_MULTIPLE, example_tokens

if TYPE_CHECKING:
    from lessen.processors import TextProcessor

SELF, CROSS = "layer.0.SelfAttention", "layer.1.EncDecAttention"
TABLE = f"{SELF}.relative_attention_bias"
FIELDS = {"layers": "num_layers", "hidden_size": "d_model", "intermediate_size": "d_ff", "heads": "num_heads"}


@dataclass(frozen=True)
class T5:
    """The family of T5 models; a layer is a block of the encoder or of the decoder, in this order."""

    name: str = "t5"
    model_types: tuple[str, ...] = ("t5", "mt5")
    task: Literal["seq2seq"] = "seq2seq"
    fields: Mapping[str, str] = field(default_factory=lambda: FIELDS)
    dropouts: tuple[str, ...] = ("dropout_rate",)
    pooler_argument: bool = False

    def groups(self, module: nn.Module) -> list[Group]:
        """Return the self-attention heads of each stack, cross-attention heads and feed-forward units of each block."""
        encoder, decoder = _blocks(module, "encoder"), _blocks(module, "decoder")
        found = [_self(module, "encoder", encoder, 0), _self(module, "decoder", decoder, len(encoder))]
        for i, path in enumerate(encoder):
            found.append(_ffn(module, f"encoder.layer.{i}", path, i))
        for i, path in enumerate(decoder):
            layer = len(encoder) + i
            units, made, out = _heads(module, f"{path}.{CROSS}")
            found.append(Group(f"decoder.layer.{i}.cross", "heads", units, made, (out,), layer, "attention"))
            found.append(_ffn(module, f"decoder.layer.{i}", path, layer))
        return found

    def units(self, config: Any) -> dict[str, int]:
        """Return heads and feed-forward units as the configuration has them."""
        heads, ffn = int(config.num_heads), int(config.d_ff)
        found = {"encoder.heads": heads, "decoder.heads": heads}
        found |= {f"encoder.layer.{i}.ffn": ffn for i in range(config.num_layers)}
        for i in range(config.num_decoder_layers):
            found |= {f"decoder.layer.{i}.cross": heads, f"decoder.layer.{i}.ffn": ffn}
        return found

    def sync_(self, module: nn.Module) -> None:
        """Set head counts, and the configuration's head count and feed-forward width where all blocks agree.

        The stock decoder gives the zero bias of its first cross-attention to all others. Where these have other head
        counts, each makes its own.
        """
        parts = [part for path in self.layers(module) for part in _within(module, path)]
        for part in parts:
            part.inner_dim = int(part.q.weight.shape[0])
            part.n_heads = part.inner_dim // part.key_value_proj_dim
        _own_biases_([module.get_submodule(f"{path}.{CROSS}") for path in _blocks(module, "decoder")])
        heads = {int(part.n_heads) for part in parts}
        wide = {g.units for g in self.groups(module) if g.kind == "ffn"}
        for config in _configs(module):
            if len(heads) == 1:
                config.num_heads = min(heads)
            if len(wide) == 1:
                config.d_ff = min(wide)

    def layers(self, module: nn.Module) -> list[str]:
        """Return the paths of the encoder's blocks, then those of the decoder's."""
        return [*_blocks(module, "encoder"), *_blocks(module, "decoder")]

    def fixed(self, module: nn.Module) -> frozenset[int]:
        """Return no layer: any may go while one stays in each stack."""
        return frozenset()

    def drop_(self, module: nn.Module, keep: Sequence[int]) -> None:
        """Keep only these blocks, in order; the table of position biases moves to the first that stays of its stack.

        Raises:
            ModelError: a stack would lose all of its blocks.
        """
        count = len(_blocks(module, "encoder"))
        kept = {"encoder": [i for i in keep if i < count], "decoder": [i - count for i in keep if i >= count]}
        for name, stays in kept.items():
            if not stays:
                raise ModelError(f"no block of the {name} would stay", "keep at least one of each stack")
        for name, stays in kept.items():
            stack: Any = module.get_submodule(name)
            table = stack.block[0].get_submodule(TABLE)
            del stack.block[0].get_submodule(SELF).relative_attention_bias
            stack.block = nn.ModuleList(stack.block[i] for i in stays)
            stack.block[0].get_submodule(SELF).relative_attention_bias = table
            stack.config.num_layers = len(stays)
            for i, path in enumerate(_blocks(module, name)):
                module.get_submodule(f"{path}.{SELF}").has_relative_attention_bias = i == 0  # type: ignore[assignment]
                for attention in _within(module, path):
                    attention.layer_idx = i
        for config in _configs(module):
            config.num_decoder_layers = len(kept["decoder"])
        module.config.num_layers = len(kept["encoder"])  # type: ignore[union-attr]

    def mend_(self, module: nn.Module) -> None:
        """Nothing to mend."""

    def embeddings(self, module: nn.Module) -> int:
        """Return the number of parameters in the token table that both stacks read."""
        table: Any = module.get_submodule("shared")
        return int(table.weight.numel())

    def readers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the Linear that gives the logits."""
        return ("lm_head",)

    def shape(self, module: nn.Module) -> dict[str, Any]:
        """Return layers and widths; heads and units block by block, the encoder's first."""
        config: Any = module.config
        now = {g.name: g.units for g in self.groups(module)}
        encoder, decoder = (len(_blocks(module, name)) for name in ("encoder", "decoder"))
        return {
            "layers": encoder + decoder,
            "encoder_layers": encoder,
            "decoder_layers": decoder,
            "hidden_size": int(config.d_model),
            "heads": [now["encoder.heads"]] * encoder + [now["decoder.heads"]] * decoder,
            "cross_heads": [now[f"decoder.layer.{i}.cross"] for i in range(decoder)],
            "head_dim": int(config.d_kv),
            "intermediate_size": [
                now[f"{stack}.layer.{i}.ffn"]
                for stack, count in (("encoder", encoder), ("decoder", decoder))
                for i in range(count)
            ],
            "vocab_size": int(config.vocab_size),
        }

    def scale(self, config: Any, wanted: Mapping[str, int]) -> dict[str, Any]:
        """Return the fields of a shape: half of both stacks where nothing is wanted, else what is, in proportion.

        `layers` are those of each stack. A narrower model keeps the size of a head.
        """
        old = {k: int(getattr(config, f)) for k, f in self.fields.items()}
        new = {**old, **wanted} if wanted else {**old, "layers": max(1, old["layers"] // 2)}
        deep = int(config.num_decoder_layers)
        if not wanted:
            deep = max(1, deep // 2)
        elif "layers" in wanted:
            deep = new["layers"]
        share = new["hidden_size"] / old["hidden_size"]
        for name in ("intermediate_size", "heads"):
            if name not in wanted:
                new[name] = max(1, round(old[name] * share))
        return {**{self.fields[k]: v for k, v in new.items()}, "num_decoder_layers": deep}

    def scratch(self, values: dict[str, Any], processor: TextProcessor) -> dict[str, Any]:
        """Return values with the processor's vocabulary and special tokens; the decoder starts with padding."""
        return {
            **values,
            "vocab_size": processor.vocab_size,
            "pad_token_id": processor.pad_id,
            "eos_token_id": special(processor, "eos"),
            "decoder_start_token_id": processor.pad_id,
        }

    def longest(self, config: Any) -> int | None:
        """Return no bound: positions are relative."""
        return None

    def example(self, module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
        """Return token ids of source and target and a mask of ones, each [batch, length]."""
        inputs = example_tokens(module, batch, length)
        read = inputs["input_ids"].roll(1, dims=1)
        config: Any = module.config
        read[:, 0] = config.pad_token_id or 0
        return {**inputs, "decoder_input_ids": read}


def _own_biases_(parts: Sequence[Any]) -> None:
    """Let cross-attentions make their own zero bias where their head counts differ, and only there."""
    differ = len({part.n_heads for part in parts}) > 1
    for part in parts:
        hooks = part._forward_pre_hooks
        for key in [key for key, hook in hooks.items() if hook is _own_bias]:
            del hooks[key], part._forward_pre_hooks_with_kwargs[key]
        if differ:
            part.register_forward_pre_hook(_own_bias, with_kwargs=True)


def _own_bias(part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Leave out the bias that another block made for its own head count."""
    return args, {**kwargs, "position_bias": None}


def _blocks(module: nn.Module, stack: str) -> list[str]:
    return [f"{stack}.block.{i}" for i in range(len(module.get_submodule(f"{stack}.block")))]  # type: ignore[arg-type]


def _within(module: nn.Module, path: str) -> Iterator[Any]:
    """Yield the attention modules of a block."""
    yield module.get_submodule(f"{path}.{SELF}")
    if path.startswith("decoder"):
        yield module.get_submodule(f"{path}.{CROSS}")


def _configs(module: nn.Module) -> list[Any]:
    """Return the model's configuration and the copies that its stacks hold."""
    stacks: list[Any] = [module.get_submodule(name) for name in ("encoder", "decoder")]
    return [module.config, *(stack.config for stack in stacks)]


def _heads(module: nn.Module, path: str) -> tuple[int, tuple[Cut, ...], Cut]:
    """Return the heads of an attention module, what makes them, and what reads them."""
    part: Any = module.get_submodule(path)
    size = int(part.key_value_proj_dim)
    made = tuple(cut for name in "qkv" for cut in linear(f"{path}.{name}", size, bias=False))
    return _rows(module, f"{path}.q") // size, made, reads(f"{path}.o", size)


def _self(module: nn.Module, stack: str, paths: list[str], layer: int) -> Group:
    parts = [_heads(module, f"{path}.{SELF}") for path in paths]
    made = [Cut(f"{paths[0]}.{TABLE}", "weight", 1), *(cut for _, cuts, _ in parts for cut in cuts)]
    out = tuple(read for _, _, read in parts)
    return Group(f"{stack}.heads", "heads", parts[0][0], tuple(made), out, layer, "attention")


def _ffn(module: nn.Module, name: str, path: str, layer: int) -> Group:
    at = f"{path}.layer.{_last(path)}.DenseReluDense"
    ups = _ups(module, path)
    units = _rows(module, f"{at}.{ups[0]}")
    made = tuple(cut for up in ups for cut in linear(f"{at}.{up}", bias=False))
    return Group(
        f"{name}.ffn", "ffn", units, made, (reads(f"{at}.wo"),), layer, "ffn", multiple_of(units, FFN_MULTIPLE)
    )


def _last(path: str) -> int:
    """Return the place of the feed-forward part in a block."""
    return 2 if path.startswith("decoder") else 1


def _ups(module: nn.Module, path: str) -> tuple[str, ...]:
    dense = module.get_submodule(f"{path}.layer.{_last(path)}.DenseReluDense")
    return ("wi_0", "wi_1") if hasattr(dense, "wi_0") else ("wi",)


def _rows(module: nn.Module, path: str) -> int:
    weight: Any = module.get_submodule(path).weight
    return int(weight.shape[0])


FAMILY = T5()
