"""RoBERTa and XLM-RoBERTa: as BERT, with positions that start above the padding id."""

from __future__ import annotations

from lessen.models.encoders import Encoder

FAMILY = Encoder(
    name="roberta",
    model_types=("roberta", "xlm-roberta"),
    head=("classifier.dense", "classifier.out_proj"),
    position_offset=1,
    offset_by_pad=True,
    pooler_argument=True,
)
