"""BERT."""

from __future__ import annotations

from lessen.models.encoders import Encoder

FAMILY = Encoder(name="bert", model_types=("bert",), head=("bert.pooler.dense", "classifier"), pooler_argument=True)
