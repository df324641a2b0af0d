"""Llama."""

from __future__ import annotations

from lessen.models.decoders import Decoder

FAMILY = Decoder(name="llama", model_types=("llama",), divides=True)
