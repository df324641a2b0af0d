"""ELECTRA (BanglaBERT is one): as BERT, with embeddings that may be narrower than the layers."""

from __future__ import annotations

from lessen.models.encoders import Encoder

FAMILY = Encoder(name="electra", model_types=("electra",), head=("classifier.dense", "classifier.out_proj"))
