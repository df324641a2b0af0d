"""Models that are built from a configuration and trained from scratch: `scratch:<preset>`. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lessen.errors import UnknownNameError

PREFIX = "scratch:"


@dataclass(frozen=True)
class Preset:
    """A named configuration."""

    name: str
    family: str  # a file of models/families
    model_type: str
    task: Literal["text-classification", "image-classification"]
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
