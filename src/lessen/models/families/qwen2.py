"""Qwen2: as Llama, with biases of query, key and value."""

from __future__ import annotations

from lessen.models.decoders import Decoder

FAMILY = Decoder(name="qwen2", model_types=("qwen2",))
