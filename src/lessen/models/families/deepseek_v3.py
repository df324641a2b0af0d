"""DeepSeek-V3: attention through a latent that all heads share, a few dense layers, then experts beside shared ones."""

from __future__ import annotations

from lessen.models.decoders import EXPERT_FIELDS, Decoder, Experts

FAMILY = Decoder(
    name="deepseek_v3",
    model_types=("deepseek_v3",),
    fields=EXPERT_FIELDS,
    attention="latent",
    experts=Experts(count="n_routed_experts", dense="first", shared="shared_experts", shared_count="n_shared_experts"),
)
