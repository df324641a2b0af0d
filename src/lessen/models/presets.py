"""Models that are built from a configuration and trained from scratch: `scratch:<preset>`. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lessen.errors import UnknownNameError
from lessen.info import Task

PREFIX = "scratch:"


@dataclass(frozen=True)
class Preset:
    """A named configuration."""

    name: str
    family: str  # a file of models/families
    model_type: str
    task: Task
    description: str
    config: Mapping[str, Any] = field(default_factory=dict)  # fields of the transformers configuration
    image_size: int | None = None  # pixels a side, where data.image_size is absent


def _bert(name: str, layers: int, hidden: int, description: str) -> Preset:
    shape = _shape(layers, hidden, hidden // 64)
    return Preset(name, "bert", "bert", "text-classification", description, shape)


def _shape(layers: int, hidden: int, heads: int, **more: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        **more,
    }


def _distilbert(name: str, layers: int, hidden: int, description: str) -> Preset:
    shape = {"n_layers": layers, "dim": hidden, "hidden_dim": 4 * hidden, "n_heads": hidden // 64}
    return Preset(name, "distilbert", "distilbert", "text-classification", description, shape)


def _electra(name: str, layers: int, hidden: int, embedding: int, heads: int, description: str) -> Preset:
    shape = _shape(layers, hidden, heads, embedding_size=embedding)
    return Preset(name, "electra", "electra", "text-classification", description, shape)


def _roberta(name: str, layers: int, hidden: int, description: str) -> Preset:
    shape = _shape(layers, hidden, hidden // 64, type_vocab_size=1, layer_norm_eps=1e-5)
    return Preset(name, "roberta", "roberta", "text-classification", description, shape)


def _resnet(name: str, sizes: list[int], depths: list[int], kind: str, size: int, description: str) -> Preset:
    stem = sizes[0] if kind == "basic" else 64
    values = {"embedding_size": stem, "hidden_sizes": sizes, "depths": depths, "layer_type": kind}
    return Preset(name, "resnet", "resnet", "image-classification", description, values, size)


def _mobilenet(name: str, multiplier: float, size: int, description: str) -> Preset:
    values = {"depth_multiplier": multiplier}
    return Preset(name, "mobilenet_v2", "mobilenet_v2", "image-classification", description, values, size)


def _t5(name: str, layers: int, hidden: int, heads: int, size: int, description: str) -> Preset:
    shape = {"num_layers": layers, "d_model": hidden, "d_ff": 4 * hidden, "num_heads": heads, "d_kv": size}
    return Preset(name, "t5", "t5", "seq2seq", description, shape)


def _gpt2(name: str, layers: int, hidden: int, heads: int, description: str) -> Preset:
    shape = {"n_layer": layers, "n_embd": hidden, "n_head": heads}
    return Preset(name, "gpt2", "gpt2", "causal-lm", description, shape)


def _decoder(name: str, family: str, layers: int, hidden: int, heads: int, description: str, **more: Any) -> Preset:
    """Return a decoder with two query heads to a key head, and the embeddings' table as its head."""
    shape = _shape(layers, hidden, heads, num_key_value_heads=heads // 2, tie_word_embeddings=True)
    units = 2 * hidden if "num_local_experts" in more else 3 * hidden
    return Preset(name, family, family, "causal-lm", description, {**shape, "intermediate_size": units, **more})


def _mixture(name: str, layers: int, hidden: int, heads: int, experts: int, description: str, **more: Any) -> Preset:
    """Return a Qwen3 mixture of experts, each half as wide as the model, two of them a token."""
    shape = {"num_experts": experts, "num_experts_per_tok": 2, "moe_intermediate_size": hidden // 2}
    return _decoder(name, "qwen3_moe", layers, hidden, heads, description, norm_topk_prob=True, **shape, **more)


_ALL = (
    _bert("bert-tiny", 2, 128, "BERT, 2 layers of 128"),
    _bert("bert-mini", 4, 256, "BERT, 4 layers of 256"),
    _bert("bert-small", 4, 512, "BERT, 4 layers of 512"),
    _bert("bert-base", 12, 768, "BERT, 12 layers of 768"),
    _distilbert("distilbert-mini", 2, 256, "DistilBERT, 2 layers of 256"),
    _distilbert("distilbert-base", 6, 768, "DistilBERT, 6 layers of 768"),
    _electra("electra-small", 12, 256, 128, 4, "ELECTRA, 12 layers of 256, embeddings of 128"),
    _electra("electra-base", 12, 768, 768, 12, "ELECTRA, 12 layers of 768 (the shape of BanglaBERT)"),
    _roberta("roberta-mini", 4, 256, "RoBERTa, 4 layers of 256"),
    _roberta("roberta-base", 12, 768, "RoBERTa, 12 layers of 768"),
    _resnet("resnet-tiny", [16, 32, 64], [1, 1, 1], "basic", 32, "ResNet, 3 basic blocks of 16 to 64 channels"),
    _resnet("resnet-18", [64, 128, 256, 512], [2, 2, 2, 2], "basic", 224, "ResNet-18, 8 basic blocks"),
    _resnet("resnet-34", [64, 128, 256, 512], [3, 4, 6, 3], "basic", 224, "ResNet-34, 16 basic blocks"),
    _resnet("resnet-50", [256, 512, 1024, 2048], [3, 4, 6, 3], "bottleneck", 224, "ResNet-50, 16 bottleneck blocks"),
    _mobilenet("mobilenet-v2", 1.0, 224, "MobileNetV2, 16 inverted residuals, all widths"),
    _mobilenet("mobilenet-v2-half", 0.5, 224, "MobileNetV2, half of every width"),
    _decoder("llama-tiny", "llama", 2, 64, 4, "Llama, 2 layers of 64"),
    _decoder("llama-mini", "llama", 4, 256, 8, "Llama, 4 layers of 256"),
    _decoder("qwen3-tiny", "qwen3", 2, 64, 4, "Qwen3, 2 layers of 64", head_dim=16),
    _decoder("mixtral-tiny", "mixtral", 2, 64, 4, "Mixtral, 2 layers of 64, 2 of 4 experts", num_local_experts=4),
    _decoder("mixtral-mini", "mixtral", 4, 192, 6, "Mixtral, 4 layers of 192, 2 of 8 experts", num_local_experts=8),
    _mixture("qwen3-moe-tiny", 2, 64, 4, 4, "Qwen3 MoE, 2 layers of 64, 2 of 4 experts"),
    _mixture("qwen3-moe-mini", 4, 192, 6, 16, "Qwen3 MoE, 4 layers of 192, 2 of 16 experts"),
    _decoder(
        "olmoe-tiny", "olmoe", 2, 64, 4, "OLMoE, 2 layers of 64, 2 of 4 experts", num_experts=4, num_experts_per_tok=2
    ),
    _t5("t5-tiny", 2, 64, 4, 16, "T5, 2 + 2 layers of 64"),
    _t5("t5-mini", 4, 256, 4, 64, "T5, 4 + 4 layers of 256"),
    _t5("t5-small", 6, 512, 8, 64, "T5-small, 6 + 6 layers of 512"),
    _t5("t5-base", 12, 768, 12, 64, "T5-base, 12 + 12 layers of 768"),
    _gpt2("gpt2-tiny", 2, 64, 4, "GPT-2, 2 layers of 64"),
    _gpt2("gpt2-mini", 4, 256, 4, "GPT-2, 4 layers of 256"),
    _gpt2("distilgpt2", 6, 768, 12, "DistilGPT2, 6 layers of 768"),
    _gpt2("gpt2", 12, 768, 12, "GPT-2, 12 layers of 768 (the shape of DialoGPT-small)"),
    _gpt2("gpt2-medium", 24, 1024, 16, "GPT-2 medium, 24 layers of 1024 (the shape of DialoGPT-medium)"),
)
PRESETS: Mapping[str, Preset] = {p.name: p for p in _ALL}


def names() -> tuple[str, ...]:
    """List the presets."""
    return tuple(PRESETS)


def find(name: str) -> Preset:
    """Return a preset by name, with or without `scratch:`.

    Raises:
        UnknownNameError: there is none; the message lists those there are.
    """
    short = name.removeprefix(PREFIX)
    if short not in PRESETS:
        near = difflib.get_close_matches(short, PRESETS, 1)
        raise UnknownNameError(
            f"there is no preset {short!r}; there are {', '.join(PRESETS)}",
            f"did you mean {PREFIX}{near[0]}?" if near else "see `lessen models`",
        )
    return PRESETS[short]
