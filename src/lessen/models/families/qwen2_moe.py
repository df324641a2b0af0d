"""Qwen2 with mixtures of experts and a shared expert, which each token weighs by a gate of its own."""

from __future__ import annotations

from lessen.models.decoders import EXPERT_FIELDS, Decoder, Experts

FAMILY = Decoder(
    name="qwen2_moe",
    model_types=("qwen2_moe",),
    fields=EXPERT_FIELDS,
    experts=Experts(
        count="num_experts", dense="listed", shared="shared_expert", shared_width="shared_expert_intermediate_size"
    ),
)
