"""Qwen3 with mixtures of experts; some layers may have a plain feed-forward part."""

from __future__ import annotations

from lessen.models.decoders import EXPERT_FIELDS, Decoder, Experts

FAMILY = Decoder(
    name="qwen3_moe",
    model_types=("qwen3_moe",),
    fields=EXPERT_FIELDS,
    experts=Experts(count="num_experts", dense="listed"),
)
