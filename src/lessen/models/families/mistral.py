"""Mistral."""

from __future__ import annotations

from lessen.models.decoders import Decoder

FAMILY = Decoder(name="mistral", model_types=("mistral",))
