"""OLMoE: a mixture of experts in every layer.

Heads are not offered: its query and key norms run over all heads of a layer together, so that each head is divided by
a number to which the others contribute. A model without one head computes something else than the same model with that
head silenced, and no cut of the weights can make the two agree.
"""

from __future__ import annotations

from lessen.models.decoders import Decoder, Experts

FAMILY = Decoder(
    name="olmoe",
    model_types=("olmoe",),
    attention="whole",
    experts=Experts(count="num_experts", width="intermediate_size"),
)
