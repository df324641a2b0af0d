"""Qwen3: as Llama, with norms along each query and key head, which all heads share and no cut touches."""

from __future__ import annotations

from lessen.models.decoders import Decoder

FAMILY = Decoder(name="qwen3", model_types=("qwen3",))
