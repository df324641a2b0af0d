"""Mixtral: as Mistral, with a mixture of experts in every layer."""

from __future__ import annotations

from lessen.models.decoders import Decoder, Experts

FAMILY = Decoder(
    name="mixtral", model_types=("mixtral",), experts=Experts(count="num_local_experts", width="intermediate_size")
)
